//! Values that more than one key takes.

use std::path::PathBuf;

use crate::{
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field},
    limits::MAX_PATH_BYTES,
    node::{Scalar, ScalarKind},
    problem::Problems,
    suggest::nearest,
};

/// A switch, off unless it says `true`.
pub(super) fn boolean(field: Field<Scalar>, key: &str, problems: &mut Problems) -> bool {
    let Some(At { at, value }) = field.given() else {
        return false;
    };
    if let ScalarKind::Bool(value) = value.kind {
        return value;
    }
    let message = format!("`{key}` cannot be {}", quoted(&value.text));
    problems.value(at, message, "write true or false, without quotes");
    false
}

/// One of a set of words; its default if it is none, which has been reported.
pub(super) fn one_of<T: Copy + Default>(
    given: &At<Scalar>,
    what: &str,
    words: &[(&'static str, T)],
    not_enforced: &[&'static str],
    problems: &mut Problems,
) -> T {
    let text = given.value.text.as_str();
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return *value;
    }
    let listed = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
    let choices = format!("this version has: {}", listed.join(", "));
    if not_enforced.contains(&text) {
        problems.error(
            given.at,
            PolicyErrorKind::NotEnforced,
            format!("`{text}` as {what} is understood but not enforced by this version"),
            choices,
        );
    } else {
        let all = listed.iter().chain(not_enforced).copied();
        let help = nearest(text, all).map_or(choices, |near| format!("did you mean `{near}`?"));
        problems.value(given.at, format!("{} is not {what}", quoted(text)), help);
    }
    T::default()
}

/// An absolute path in its only spelling.
pub(super) fn path(given: &At<Scalar>, problems: &mut Problems) -> Option<PathBuf> {
    let text = given.value.text.as_str();
    let (message, help) = if text.len() > MAX_PATH_BYTES {
        (
            format!(
                "the path has {} bytes, the limit is {MAX_PATH_BYTES}",
                text.len()
            ),
            "the kernel takes no longer ones".to_owned(),
        )
    } else if text.contains(char::is_control) {
        (
            format!("path {} holds a control character", quoted(text)),
            "look for an escape or a line break inside the quotes".to_owned(),
        )
    } else if !text.starts_with('/') {
        (
            format!("path {} is not absolute", quoted(text)),
            "write it from `/` on; `~` and variables are not replaced".to_owned(),
        )
    } else if text.split('/').any(|part| part == "..") {
        (
            format!("path {} holds `..`", quoted(text)),
            "write the path that it leads to".to_owned(),
        )
    } else if normal(text) != text {
        (
            format!("path {} is not in its shortest form", quoted(text)),
            format!("write {}", quoted(&normal(text))),
        )
    } else {
        return Some(PathBuf::from(text));
    };
    problems.value(given.at, message, help);
    None
}

/// The absolute path without empty and `.` components.
fn normal(text: &str) -> String {
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    let path = parts.fold(String::new(), |path, part| path + "/" + part);
    if path.is_empty() {
        "/".to_owned()
    } else {
        path
    }
}
