//! A policy file as written: every key known, every value of the right shape, nothing judged yet.

use crate::{
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field, Fields, Keys, entries_of, read_with, scalar},
    node::{Key, Node, Scalar, ScalarKind, Value},
    problem::Problems,
};

/// A policy file.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    pub(crate) filesystem: Field<FilesystemFile>,
    pub(crate) compatibility: Field<Scalar>,
    pub(crate) process: Field<ProcessFile>,
    pub(crate) network_mode: Field<Scalar>,
    pub(crate) env: Vec<(Key, At<Scalar>)>,
    pub(crate) env_allow: Field<Vec<At<Scalar>>>,
    pub(crate) ingress: Field<Vec<At<EndpointFile>>>,
    pub(crate) groups: Field<Vec<(Key, GroupFile)>>,
}

/// `filesystem_policy`.
#[derive(Debug)]
pub(crate) struct FilesystemFile {
    pub(crate) include_workdir: Field<Scalar>,
    pub(crate) read_only: Field<Vec<At<Scalar>>>,
    pub(crate) read_execute: Field<Vec<At<Scalar>>>,
    pub(crate) read_write: Field<Vec<At<Scalar>>>,
    pub(crate) read_write_execute: Field<Vec<At<Scalar>>>,
    pub(crate) deny: Field<Vec<At<Scalar>>>,
    pub(crate) rootfs: Field<Scalar>,
}

/// `process`.
#[derive(Debug)]
pub(crate) struct ProcessFile {
    pub(crate) run_as_user: Field<Scalar>,
    pub(crate) run_as_group: Field<Scalar>,
    pub(crate) supplementary_groups: Field<Vec<At<Scalar>>>,
    pub(crate) seccomp: Field<Scalar>,
    pub(crate) seccomp_allow: Field<Vec<At<Scalar>>>,
    pub(crate) seccomp_deny: Field<Vec<At<Scalar>>>,
    pub(crate) pids_max: Field<Scalar>,
    pub(crate) memory_max: Field<Scalar>,
    pub(crate) cpu_max: Field<Scalar>,
    pub(crate) nofile_max: Field<Scalar>,
    pub(crate) fsize_max: Field<Scalar>,
}

/// An entry of `network_policies`.
#[derive(Debug)]
pub(crate) struct GroupFile {
    pub(crate) name: Field<Scalar>,
    pub(crate) action: Field<Scalar>,
    pub(crate) endpoints: Field<Vec<At<EndpointFile>>>,
    pub(crate) binaries: Field<Vec<At<BinaryFile>>>,
}

/// An entry of `endpoints`.
#[derive(Debug)]
pub(crate) struct EndpointFile {
    pub(crate) host: Field<Scalar>,
    pub(crate) cidr: Field<Scalar>,
    pub(crate) port: Field<Scalar>,
    pub(crate) ports: Field<Vec<At<Scalar>>>,
    pub(crate) protocol: Field<Scalar>,
}

/// An entry of `binaries`.
#[derive(Debug)]
pub(crate) struct BinaryFile {
    pub(crate) path: Field<Scalar>,
    pub(crate) sha256: Field<Scalar>,
    pub(crate) descendants: Field<Scalar>,
}

const POLICY: Keys = Keys {
    of: "a policy",
    known: &[
        "version",
        "filesystem_policy",
        "landlock",
        "process",
        "network",
        "env",
        "env_allow",
        "ingress",
        "network_policies",
    ],
    not_enforced: &["rootfs"],
};
const FILESYSTEM: Keys = Keys {
    of: "`filesystem_policy`",
    known: &[
        "include_workdir",
        "read_only",
        "read_execute",
        "read_write",
        "read_write_execute",
        "deny",
        "rootfs",
    ],
    not_enforced: &[],
};
const LANDLOCK: Keys = Keys {
    of: "`landlock`",
    known: &["compatibility"],
    not_enforced: &[],
};
const PROCESS: Keys = Keys {
    of: "`process`",
    known: &[
        "run_as_user",
        "run_as_group",
        "supplementary_groups",
        "seccomp",
        "seccomp_allow",
        "seccomp_deny",
        "pids_max",
        "memory_max",
        "cpu_max",
        "nofile_max",
        "fsize_max",
    ],
    not_enforced: &[],
};
const NETWORK: Keys = Keys {
    of: "`network`",
    known: &["mode"],
    not_enforced: &[],
};
const GROUP: Keys = Keys {
    of: "a network policy",
    known: &["name", "action", "endpoints", "binaries"],
    not_enforced: &[],
};
const ENDPOINT: Keys = Keys {
    of: "an endpoint",
    known: &["host", "cidr", "port", "ports", "protocol"],
    not_enforced: &[
        "access",
        "rules",
        "deny_rules",
        "tls",
        "enforcement",
        "allowed_ips",
        "allow_encoded_slash",
    ],
};
const INGRESS: Keys = Keys {
    of: "an entry of `ingress`",
    known: &["host", "cidr", "port", "ports", "protocol"],
    not_enforced: &[],
};
const BINARY: Keys = Keys {
    of: "a binary",
    known: &["path", "sha256", "descendants"],
    not_enforced: &["script"],
};

// === impl PolicyFile ===

impl PolicyFile {
    /// Reads the root node; reports what has the wrong shape and keeps the rest.
    ///
    /// `None` if nothing more can be said about the file: it is no mapping, or of a version whose
    /// keys mean something else.
    pub(crate) fn read(root: Node, problems: &mut Problems) -> Option<Self> {
        let at = root.at;
        if let Value::Scalar(scalar) = &root.value
            && scalar.kind == ScalarKind::Null
        {
            let message = "the file holds no policy".to_owned();
            problems.error(
                at,
                PolicyErrorKind::Missing,
                message,
                "start with `version: 2`",
            );
            return None;
        }
        let mut fields = Fields::open(root, &POLICY, problems)?;
        match fields.scalar("version", problems) {
            Field::Given(version) if !check_version(&version, problems) => return None,
            Field::Absent => problems.error(
                at,
                PolicyErrorKind::Missing,
                "`version` is missing".to_owned(),
                "add the line `version: 2`",
            ),
            Field::Given(_) | Field::Bad => {}
        }
        let file = Self {
            filesystem: fields.section("filesystem_policy", &FILESYSTEM, problems, filesystem),
            compatibility: inner(&mut fields, "landlock", &LANDLOCK, problems),
            process: fields.section("process", &PROCESS, problems, process),
            network_mode: inner(&mut fields, "network", &NETWORK, problems),
            env: env(&mut fields, problems),
            env_allow: fields.scalars("env_allow", problems),
            ingress: items(&mut fields, "ingress", &INGRESS, problems, endpoint),
            groups: groups(&mut fields, problems),
        };
        fields.finish(problems);
        Some(file)
    }
}

fn check_version(version: &At<Scalar>, problems: &mut Problems) -> bool {
    let is_number = version.value.kind == ScalarKind::Number;
    let (message, help) = match version.value.text.as_str() {
        "2" if is_number => return true,
        "1" if is_number => (
            "version 1 of the policy language is not read yet".to_owned(),
            "write the policy in version 2; its keys have the same shape and safer defaults",
        ),
        "1" | "2" => (
            "`version` is a text, not a number".to_owned(),
            "write `version: 2`, without quotes",
        ),
        other => (
            format!(
                "version {} is not a version of the policy language",
                quoted(other)
            ),
            "write `version: 2`",
        ),
    };
    problems.error(version.at, PolicyErrorKind::Version, message, help);
    false
}

fn filesystem(fields: &mut Fields, problems: &mut Problems) -> FilesystemFile {
    FilesystemFile {
        include_workdir: fields.scalar("include_workdir", problems),
        read_only: fields.scalars("read_only", problems),
        read_execute: fields.scalars("read_execute", problems),
        read_write: fields.scalars("read_write", problems),
        read_write_execute: fields.scalars("read_write_execute", problems),
        deny: fields.scalars("deny", problems),
        rootfs: fields.scalar("rootfs", problems),
    }
}

fn process(fields: &mut Fields, problems: &mut Problems) -> ProcessFile {
    ProcessFile {
        run_as_user: fields.scalar("run_as_user", problems),
        run_as_group: fields.scalar("run_as_group", problems),
        supplementary_groups: fields.scalars("supplementary_groups", problems),
        seccomp: fields.scalar("seccomp", problems),
        seccomp_allow: fields.scalars("seccomp_allow", problems),
        seccomp_deny: fields.scalars("seccomp_deny", problems),
        pids_max: fields.scalar("pids_max", problems),
        memory_max: fields.scalar("memory_max", problems),
        cpu_max: fields.scalar("cpu_max", problems),
        nofile_max: fields.scalar("nofile_max", problems),
        fsize_max: fields.scalar("fsize_max", problems),
    }
}

/// Reads a section that has a single key: `landlock.compatibility`, `network.mode`.
fn inner(
    fields: &mut Fields,
    name: &str,
    keys: &'static Keys,
    problems: &mut Problems,
) -> Field<Scalar> {
    let section = fields.section(name, keys, problems, |section, problems| {
        keys.known
            .first()
            .map_or(Field::Absent, |key| section.scalar(key, problems))
    });
    match section {
        Field::Absent => Field::Absent,
        Field::Bad => Field::Bad,
        Field::Given(section) => section.value,
    }
}

fn env(fields: &mut Fields, problems: &mut Problems) -> Vec<(Key, At<Scalar>)> {
    let entries = match fields.take("env") {
        None => return Vec::new(),
        // It may be a secret in the wrong place, and is not shown.
        Some(Node {
            at,
            value: Value::Scalar(scalar),
        }) if scalar.kind != ScalarKind::Null => {
            let help = "write a mapping of names to values: `env: { NAME: value }`";
            problems.value(
                at,
                "`env` must be a mapping, not a single value".to_owned(),
                help,
            );
            return Vec::new();
        }
        Some(node) => node,
    };
    let Some(entries) = entries_of(entries, "env", problems).given() else {
        return Vec::new();
    };
    entries
        .value
        .into_iter()
        .filter_map(|(key, node)| {
            let what = format!("variable {}", quoted(&key.text));
            let value = scalar(node, &what, problems)?;
            Some((key, value))
        })
        .collect()
}

fn groups(fields: &mut Fields, problems: &mut Problems) -> Field<Vec<(Key, GroupFile)>> {
    match fields.entries("network_policies", problems) {
        Field::Absent => Field::Absent,
        Field::Bad => Field::Bad,
        Field::Given(At { at, value }) => {
            let value = value
                .into_iter()
                .filter_map(|(key, node)| {
                    let group = read_with(node, &GROUP, problems, group)?;
                    Some((key, group.value))
                })
                .collect();
            Field::Given(At { at, value })
        }
    }
}

fn group(fields: &mut Fields, problems: &mut Problems) -> GroupFile {
    GroupFile {
        name: fields.scalar("name", problems),
        action: fields.scalar("action", problems),
        endpoints: items(fields, "endpoints", &ENDPOINT, problems, endpoint),
        binaries: items(fields, "binaries", &BINARY, problems, binary),
    }
}

fn items<T>(
    fields: &mut Fields,
    name: &str,
    keys: &'static Keys,
    problems: &mut Problems,
    read: fn(&mut Fields, &mut Problems) -> T,
) -> Field<Vec<At<T>>> {
    match fields.list(name, problems) {
        Field::Absent => Field::Absent,
        Field::Bad => Field::Bad,
        Field::Given(At { at, value }) => {
            let value = value
                .into_iter()
                .filter_map(|node| read_with(node, keys, problems, read))
                .collect();
            Field::Given(At { at, value })
        }
    }
}

fn endpoint(fields: &mut Fields, problems: &mut Problems) -> EndpointFile {
    EndpointFile {
        host: fields.scalar("host", problems),
        cidr: fields.scalar("cidr", problems),
        port: fields.scalar("port", problems),
        ports: fields.scalars("ports", problems),
        protocol: fields.scalar("protocol", problems),
    }
}

fn binary(fields: &mut Fields, problems: &mut Problems) -> BinaryFile {
    BinaryFile {
        path: fields.scalar("path", problems),
        sha256: fields.scalar("sha256", problems),
        descendants: fields.scalar("descendants", problems),
    }
}
