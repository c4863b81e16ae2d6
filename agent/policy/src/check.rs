//! From a policy as written to a checked one: judges every value.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    check::{
        network::groups,
        value::{one_of, path},
    },
    error::PolicyErrorKind,
    escape::{is_unfit, quoted},
    fields::{At, Field},
    file::{FilesystemFile, PolicyFile, ProcessFile},
    limits::{MAX_ACCOUNT_NAME_BYTES, MAX_ENV, MAX_ENV_ENTRY_BYTES, MAX_PATHS},
    model::{Compatibility, Filesystem, NetworkMode, Policy, Process, SeccompProfile},
    node::{Key, Scalar, ScalarKind},
    problem::{Position, Problems},
};

mod endpoint;
mod network;
mod value;

/// Judges a file. What it returns is a policy only if no error was reported.
pub(crate) fn check(file: PolicyFile, problems: &mut Problems) -> Policy {
    let network = file
        .network_mode
        .given()
        .map(|mode| network_mode(mode, problems));
    let network = network.unwrap_or_default();
    if let (NetworkMode::None, Field::Given(given)) = (network, &file.groups)
        && !given.value.is_empty()
    {
        problems.warn(
            given.at,
            "no entry of `network_policies` has an effect in network mode `none`".to_owned(),
            "write `network: { mode: direct }`, or remove the entries",
        );
    }
    let compatibility = file.compatibility.given().map(|value| {
        const WORDS: &[(&str, Compatibility)] = &[
            ("hard_requirement", Compatibility::HardRequirement),
            ("best_effort", Compatibility::BestEffort),
        ];
        one_of(&value, "a compatibility", WORDS, &[], problems)
    });
    Policy {
        filesystem: file
            .filesystem
            .given()
            .map(|section| filesystem(section.value, problems))
            .unwrap_or_default(),
        process: file
            .process
            .given()
            .map(|section| process(section.value, problems))
            .unwrap_or_default(),
        network,
        landlock: compatibility.unwrap_or_default(),
        env: env(file.env, problems),
        rules: file
            .groups
            .given()
            .map(|entries| groups(entries, problems))
            .unwrap_or_default(),
    }
}

fn network_mode(mode: At<Scalar>, problems: &mut Problems) -> NetworkMode {
    const WORDS: &[(&str, NetworkMode)] =
        &[("none", NetworkMode::None), ("direct", NetworkMode::Direct)];
    one_of(&mode, "a network mode", WORDS, &["isolated"], problems)
}

// === filesystem_policy ===

fn filesystem(file: FilesystemFile, problems: &mut Problems) -> Filesystem {
    let include_workdir = match file.include_workdir.given() {
        None => false,
        Some(At { at, value }) => match value.kind {
            ScalarKind::Bool(value) => value,
            _ => {
                let message = format!("`include_workdir` cannot be {}", quoted(&value.text));
                problems.value(at, message, "write true or false, without quotes");
                false
            }
        },
    };
    let mut lists = Lists {
        seen: BTreeMap::new(),
        problems,
    };
    Filesystem {
        include_workdir,
        read_only: lists.take("read_only", file.read_only),
        read_execute: lists.take("read_execute", file.read_execute),
        read_write: lists.take("read_write", file.read_write),
    }
}

/// Paths across the lists of `filesystem_policy`, each of which may be in one list only: which of
/// two rights would count is not to be guessed.
struct Lists<'a> {
    seen: BTreeMap<PathBuf, (&'static str, Position)>,
    problems: &'a mut Problems,
}

impl Lists<'_> {
    fn take(&mut self, list: &'static str, paths: Field<Vec<At<Scalar>>>) -> Vec<PathBuf> {
        let Some(At { at, value }) = paths.given() else {
            return Vec::new();
        };
        if value.len() > MAX_PATHS {
            self.problems.error(
                at,
                PolicyErrorKind::Limit,
                format!(
                    "`{list}` has {} entries, the limit is {MAX_PATHS}",
                    value.len()
                ),
                "list the directories that hold them",
            );
            return Vec::new();
        }
        value
            .into_iter()
            .filter_map(|entry| self.entry(list, &entry))
            .collect()
    }

    fn entry(&mut self, list: &'static str, entry: &At<Scalar>) -> Option<PathBuf> {
        let checked = path(entry, self.problems)?;
        if list == "read_write" && checked.as_os_str() == "/" {
            self.problems.value(
                entry.at,
                "`/` cannot be in `read_write`".to_owned(),
                "list the directories that have to be writable",
            );
            return None;
        }
        if entry.value.text.contains(['*', '?']) {
            self.problems.warn(
                entry.at,
                format!("{} is taken literally", quoted(&entry.value.text)),
                "there are no patterns in `filesystem_policy`: list the directory itself",
            );
        }
        if let Some((other, place)) = self.seen.get(&checked) {
            self.problems.value(
                entry.at,
                format!(
                    "{} is already in `{other}`, line {}",
                    quoted(&entry.value.text),
                    place.line
                ),
                "keep one of the two",
            );
            return None;
        }
        self.seen.insert(checked.clone(), (list, entry.at));
        Some(checked)
    }
}

// === process ===

fn process(file: ProcessFile, problems: &mut Problems) -> Process {
    const WORDS: &[(&str, SeccompProfile)] = &[
        ("strict", SeccompProfile::Strict),
        ("default", SeccompProfile::Default),
    ];
    const LATER: &[&str] = &["jit", "gpu"];
    let mut account = |field: Field<Scalar>, key| {
        field
            .given()
            .and_then(|value| account(&value, key, problems))
    };
    let run_as_user = account(file.run_as_user, "run_as_user");
    let run_as_group = account(file.run_as_group, "run_as_group");
    let seccomp = file
        .seccomp
        .given()
        .map(|word| one_of(&word, "a seccomp profile", WORDS, LATER, problems));
    Process {
        run_as_user,
        run_as_group,
        seccomp: seccomp.unwrap_or_default(),
    }
}

/// A user or group, by name or by number.
fn account(value: &At<Scalar>, key: &str, problems: &mut Problems) -> Option<String> {
    let text = &value.value.text;
    let numeric = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (message, help) = if text == "root" || (numeric && text.bytes().all(|byte| byte == b'0')) {
        (
            format!("`{key}` cannot be {}", quoted(text)),
            "a sandbox never runs as root: name an unprivileged account",
        )
    } else if numeric && (text.starts_with('0') || !is_id(text)) {
        (
            format!("{} is not a user or group id", quoted(text)),
            "write a decimal number from 1 to 4294967294 without leading zeros",
        )
    } else if !numeric && !is_account_name(text) {
        (
            format!("{} is not a user or group name", quoted(text)),
            "a name has up to 32 letters, digits, `_`, `-` and `.`, and starts with a letter or `_`",
        )
    } else {
        return Some(text.clone());
    };
    problems.value(value.at, message, help);
    None
}

/// The highest number means "no id" to the kernel.
fn is_id(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|id| id != u32::MAX)
}

fn is_account_name(text: &str) -> bool {
    text.len() <= MAX_ACCOUNT_NAME_BYTES
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

// === env ===

fn env(entries: Vec<(Key, At<Scalar>)>, problems: &mut Problems) -> BTreeMap<String, String> {
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
        let mut rest = key.text.chars();
        let starts = rest
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !starts || !rest.all(|c| c.is_ascii_alphanumeric() || c == '_') {
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

/// Whether a text for people is short and shows as it is.
fn is_title(text: &str) -> bool {
    text.chars().count() <= 200 && !text.contains(is_unfit)
}
