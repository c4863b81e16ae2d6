//! From a policy as written to a checked one: judges every value.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    check::{
        environment::{env, env_allow},
        network::{groups, ingress},
        resources::resources,
        syscalls::exceptions,
        value::{boolean, one_of, path},
    },
    error::PolicyErrorKind,
    escape::{is_unfit, quoted},
    fields::{At, Field},
    file::{FilesystemFile, PolicyFile, ProcessFile},
    limits::{MAX_ACCOUNT_NAME_BYTES, MAX_PATHS, MAX_SUPPLEMENTARY_GROUPS},
    model::{Compatibility, Filesystem, NetworkMode, Policy, Process, SeccompProfile},
    node::Scalar,
    places::GroupPlaces,
    problem::{Position, Problems},
};

pub use self::binary::parse_sha256;

mod binary;
mod endpoint;
mod environment;
mod network;
mod resources;
mod syscalls;
mod value;

/// Judges a file. What it returns is a policy, with the places of its rules in their order, only if no
/// error was reported.
pub(crate) fn check(file: PolicyFile, problems: &mut Problems) -> (Policy, Vec<GroupPlaces>) {
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
    let filesystem = file
        .filesystem
        .given()
        .map(|section| filesystem(section.value, problems))
        .unwrap_or_default();
    let process = file
        .process
        .given()
        .map(|section| process(section.value, problems))
        .unwrap_or_default();
    let env = env(file.env, problems);
    let env_allow = env_allow(file.env_allow, problems);
    let ingress = ingress(file.ingress, network, problems);
    let (rules, places) = file
        .groups
        .given()
        .map(|entries| groups(entries, &filesystem, problems))
        .unwrap_or_default()
        .into_iter()
        .unzip();
    let policy = Policy {
        filesystem,
        process,
        network,
        landlock: compatibility.unwrap_or_default(),
        env,
        env_allow,
        ingress,
        rules,
    };
    (policy, places)
}

fn network_mode(mode: At<Scalar>, problems: &mut Problems) -> NetworkMode {
    const WORDS: &[(&str, NetworkMode)] =
        &[("none", NetworkMode::None), ("direct", NetworkMode::Direct)];
    one_of(&mode, "a network mode", WORDS, &["isolated"], problems)
}

// === filesystem_policy ===

fn filesystem(file: FilesystemFile, problems: &mut Problems) -> Filesystem {
    let include_workdir = boolean(file.include_workdir, "include_workdir", problems);
    let rootfs = file.rootfs.given().and_then(|given| {
        let root = path(&given, problems)?;
        if root.as_os_str() != "/" {
            return Some(root);
        }
        problems.value(
            given.at,
            "`rootfs` cannot be `/`".to_owned(),
            "remove it: the lists mean the host's files then",
        );
        None
    });
    let mut lists = Lists {
        seen: BTreeMap::new(),
        problems,
    };
    Filesystem {
        include_workdir,
        read_only: lists.take("read_only", file.read_only),
        read_execute: lists.take("read_execute", file.read_execute),
        read_write: lists.take("read_write", file.read_write),
        read_write_execute: lists.take("read_write_execute", file.read_write_execute),
        deny: lists.take("deny", file.deny),
        rootfs,
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
        let help = match list {
            "read_write" | "read_write_execute" => "list the directories that have to be writable",
            _ => "remove it: what is not listed is not there",
        };
        let may_be_root = matches!(list, "read_only" | "read_execute");
        if !may_be_root && checked.as_os_str() == "/" {
            self.problems
                .value(entry.at, format!("`/` cannot be in `{list}`"), help);
            return None;
        }
        if list == "deny" && is_of_processes(&checked) {
            self.problems.value(
                entry.at,
                format!("{} cannot be denied", quoted(&entry.value.text)),
                "a sandbox sees its own processes alone, and programs do not run without `/proc`",
            );
            return None;
        }
        if list == "deny" && entry.value.text.contains(['*', '?']) {
            // Taken literally it would deny nothing that anybody means.
            self.problems.value(
                entry.at,
                format!("{} looks like a pattern", quoted(&entry.value.text)),
                "there are none in `deny`: name each file, or the directory that holds them",
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

/// Whether a path is `/proc` itself or leads to a process: clawd looks there while a sandbox starts,
/// and processes come and go.
fn is_of_processes(path: &Path) -> bool {
    let Ok(below) = path.strip_prefix("/proc") else {
        return false;
    };
    let first = below.components().next();
    first.is_none_or(|first| {
        let name = first.as_os_str().as_encoded_bytes();
        matches!(name, b"self" | b"thread-self") || name.iter().all(u8::is_ascii_digit)
    })
}

// === process ===

fn process(file: ProcessFile, problems: &mut Problems) -> Process {
    const WORDS: &[(&str, SeccompProfile)] = &[
        ("strict", SeccompProfile::Strict),
        ("default", SeccompProfile::Default),
        ("jit", SeccompProfile::Jit),
    ];
    // What a GPU needs is device nodes in the view, which no policy can list yet: a profile alone
    // would promise nothing.
    const LATER: &[&str] = &["gpu"];
    let limits = resources(&file, problems);
    let mut account = |field: Field<Scalar>, key| {
        field
            .given()
            .and_then(|value| account(&value, key, problems))
    };
    let run_as_user = account(file.run_as_user, "run_as_user");
    let run_as_group = account(file.run_as_group, "run_as_group");
    let supplementary_groups = supplementary_groups(file.supplementary_groups, problems);
    let seccomp = file
        .seccomp
        .given()
        .map(|word| one_of(&word, "a seccomp profile", WORDS, LATER, problems))
        .unwrap_or_default();
    let (seccomp_allow, seccomp_deny) =
        exceptions(file.seccomp_allow, file.seccomp_deny, seccomp, problems);
    Process {
        run_as_user,
        run_as_group,
        supplementary_groups,
        seccomp,
        seccomp_allow,
        seccomp_deny,
        limits,
    }
}

fn supplementary_groups(field: Field<Vec<At<Scalar>>>, problems: &mut Problems) -> Vec<String> {
    let Some(At { at, value }) = field.given() else {
        return Vec::new();
    };
    if value.len() > MAX_SUPPLEMENTARY_GROUPS {
        let message = format!(
            "`supplementary_groups` has {} entries, the limit is {MAX_SUPPLEMENTARY_GROUPS}",
            value.len()
        );
        problems.error(
            at,
            PolicyErrorKind::Limit,
            message,
            "list the groups whose files it needs",
        );
        return Vec::new();
    }
    let group = |group: &At<Scalar>| account(group, "supplementary_groups", problems);
    value.iter().filter_map(group).collect()
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

/// Whether a text for people is short and shows as it is.
fn is_title(text: &str) -> bool {
    text.chars().count() <= 200 && !text.contains(is_unfit)
}
