//! The environment that a policy sets, and what it lets requests set.
//!
//! Values may be secrets: no message shows one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field},
    limits::{MAX_ENV, MAX_ENV_ENTRY_BYTES},
    node::{Key, Scalar},
    problem::Problems,
};

/// `env`: variables by name.
pub(super) fn env(
    entries: Vec<(Key, At<Scalar>)>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    if let Some((key, _)) = entries.get(MAX_ENV) {
        problems.error(
            key.at,
            PolicyErrorKind::Limit,
            format!(
                "`env` has {} entries, the limit is {MAX_ENV}",
                entries.len()
            ),
            "remove some",
        );
        return BTreeMap::new();
    }
    let mut env = BTreeMap::new();
    for (key, At { at, value }) in entries {
        if !is_variable_name(&key.text) {
            problems.value(
                key.at,
                format!("{} is not a variable's name", quoted(&key.text)),
                "a name has letters, digits and `_`, and starts with no digit",
            );
        } else if value.text.contains('\0') {
            problems.value(
                at,
                format!("the value of `{}` holds a NUL character", key.text),
                "remove it: the value would end there",
            );
        } else if key.text.len() + 1 + value.text.len() > MAX_ENV_ENTRY_BYTES {
            problems.error(
                at,
                PolicyErrorKind::Limit,
                format!(
                    "{} is longer than {MAX_ENV_ENTRY_BYTES} bytes",
                    quoted(&key.text)
                ),
                "no program can be started with it: pass the value in a file",
            );
        } else {
            env.insert(key.text, value.text);
        }
    }
    env
}

/// `env_allow`: names of variables.
pub(super) fn env_allow(
    field: Field<Vec<At<Scalar>>>,
    problems: &mut Problems,
) -> BTreeSet<String> {
    let Some(At { at, value }) = field.given() else {
        return BTreeSet::new();
    };
    if value.len() > MAX_ENV {
        let message = format!(
            "`env_allow` has {} entries, the limit is {MAX_ENV}",
            value.len()
        );
        problems.error(at, PolicyErrorKind::Limit, message, "remove some");
        return BTreeSet::new();
    }
    let mut names = BTreeSet::new();
    for At { at, value } in value {
        if is_variable_name(&value.text) {
            names.insert(value.text);
        } else {
            problems.value(
                at,
                "an entry of `env_allow` is not a variable's name".to_owned(),
                "write the name alone: letters, digits and `_`, no digit first, no value, no pattern",
            );
        }
    }
    names
}

fn is_variable_name(text: &str) -> bool {
    let mut rest = text.chars();
    let starts = rest
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    starts && rest.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
