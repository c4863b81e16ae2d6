//! What a policy says besides of files and destinations.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use crate::{Compatibility, NetworkMode, Policy, SeccompProfile};

/// A key that does not say the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SettingChange {
    /// The key, as `process.pids_max`; of a list, of one of its items.
    pub key: String,
    /// What it said; `None` where it said nothing. Never the value of a variable.
    pub old: Option<String>,
    /// What it says; likewise.
    pub new: Option<String>,
}

/// In place of a variable's value, which may be a secret.
const SET: &str = "(set)";
const SET_OTHERWISE: &str = "(set to another value)";

/// The differences, by key.
pub(super) fn changes(old: &Policy, new: &Policy) -> Vec<SettingChange> {
    let mut changes = Vec::new();
    let (old_values, new_values) = (values(old), values(new));
    for (key, old) in &old_values {
        let new = new_values.get(key).cloned().flatten();
        if *old != new {
            changes.push(SettingChange {
                key: (*key).to_owned(),
                old: old.clone(),
                new,
            });
        }
    }
    let (old_items, new_items) = (items(old), items(new));
    for (key, item) in old_items.symmetric_difference(&new_items) {
        let is_old = old_items.contains(&(*key, item));
        changes.push(SettingChange {
            key: (*key).to_owned(),
            old: is_old.then(|| (*item).to_owned()),
            new: (!is_old).then(|| (*item).to_owned()),
        });
    }
    changes.extend(variables(old, new));
    changes.sort();
    changes
}

fn variables(old: &Policy, new: &Policy) -> Vec<SettingChange> {
    let names: BTreeSet<&String> = old.env.keys().chain(new.env.keys()).collect();
    let changes = names.into_iter().filter_map(|name| {
        let (old, new) = (old.env.get(name), new.env.get(name));
        let set = |value: Option<&String>, text: &str| value.map(|_| text.to_owned());
        (old != new).then(|| SettingChange {
            key: format!("env.{name}"),
            old: set(old, SET),
            new: set(new, if old.is_some() { SET_OTHERWISE } else { SET }),
        })
    });
    changes.collect()
}

/// Keys with one value.
fn values(policy: &Policy) -> BTreeMap<&'static str, Option<String>> {
    let process = &policy.process;
    let limits = &process.limits;
    let rootfs = policy.filesystem.rootfs.as_ref();
    BTreeMap::from([
        (
            "filesystem_policy.rootfs",
            rootfs.map(|path| path.display().to_string()),
        ),
        ("process.run_as_user", process.run_as_user.clone()),
        ("process.run_as_group", process.run_as_group.clone()),
        (
            "process.seccomp",
            some(match process.seccomp {
                SeccompProfile::Strict => "strict",
                SeccompProfile::Default => "default",
                SeccompProfile::Jit => "jit",
            }),
        ),
        ("process.pids_max", limits.pids_max.and_then(some)),
        (
            "process.memory_max (bytes)",
            limits.memory_max_bytes.and_then(some),
        ),
        (
            "process.cpu_max (hundredths)",
            limits.cpu_max_percent.and_then(some),
        ),
        ("process.nofile_max", limits.nofile_max.and_then(some)),
        (
            "process.fsize_max (bytes)",
            limits.fsize_max_bytes.and_then(some),
        ),
        (
            "network.mode",
            some(match policy.network {
                NetworkMode::None => "none",
                NetworkMode::Direct => "direct",
            }),
        ),
        (
            "landlock.compatibility",
            some(match policy.landlock {
                Compatibility::HardRequirement => "hard_requirement",
                Compatibility::BestEffort => "best_effort",
            }),
        ),
    ])
}

/// Keys with lists of which the order says nothing.
fn items(policy: &Policy) -> BTreeSet<(&'static str, &str)> {
    let process = &policy.process;
    let lists = [
        (
            "process.supplementary_groups",
            &process.supplementary_groups,
        ),
        ("process.seccomp_allow", &process.seccomp_allow),
        ("process.seccomp_deny", &process.seccomp_deny),
    ];
    let lists = lists.into_iter();
    let listed = lists.flat_map(|(key, items)| items.iter().map(move |item| (key, item.as_str())));
    let allowed = policy.env_allow.iter();
    listed
        .chain(allowed.map(|name| ("env_allow", name.as_str())))
        .collect()
}

fn some(value: impl fmt::Display) -> Option<String> {
    Some(value.to_string())
}
