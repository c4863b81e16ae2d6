//! A policy file as written: every key known, every value of the right shape, nothing judged yet.

use crate::{
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field, Fields, Keys, read_with, scalar},
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
    pub(crate) groups: Field<Vec<(Key, GroupFile)>>,
}

/// `filesystem_policy`.
#[derive(Debug)]
pub(crate) struct FilesystemFile {
    pub(crate) include_workdir: Field<Scalar>,
    pub(crate) read_only: Field<Vec<At<Scalar>>>,
    pub(crate) read_execute: Field<Vec<At<Scalar>>>,
    pub(crate) read_write: Field<Vec<At<Scalar>>>,
}

/// `process`.
#[derive(Debug)]
pub(crate) struct ProcessFile {
    pub(crate) run_as_user: Field<Scalar>,
    pub(crate) run_as_group: Field<Scalar>,
    pub(crate) seccomp: Field<Scalar>,
}

/// An entry of `network_policies`.
#[derive(Debug)]
pub(crate) struct GroupFile {
    pub(crate) name: Field<Scalar>,
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
        "network_policies",
    ],
    not_enforced: &["ingress", "rootfs"],
};
const FILESYSTEM: Keys = Keys {
    of: "`filesystem_policy`",
    known: &["include_workdir", "read_only", "read_execute", "read_write"],
    not_enforced: &["read_write_execute", "deny", "rootfs"],
};
const LANDLOCK: Keys = Keys {
    of: "`landlock`",
    known: &["compatibility"],
    not_enforced: &[],
};
const PROCESS: Keys = Keys {
    of: "`process`",
    known: &["run_as_user", "run_as_group", "seccomp"],
    not_enforced: &["pids_max", "memory_max", "cpu_max"],
};
const NETWORK: Keys = Keys {
    of: "`network`",
    known: &["mode"],
    not_enforced: &["ingress"],
};
const GROUP: Keys = Keys {
    of: "a network policy",
    known: &["name", "endpoints", "binaries"],
    not_enforced: &["ingress"],
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
const BINARY: Keys = Keys {
    of: "a binary",
    known: &["path", "sha256"],
    not_enforced: &["script", "descendants"],
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
    }
}

fn process(fields: &mut Fields, problems: &mut Problems) -> ProcessFile {
    ProcessFile {
        run_as_user: fields.scalar("run_as_user", problems),
        run_as_group: fields.scalar("run_as_group", problems),
        seccomp: fields.scalar("seccomp", problems),
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
    let Some(entries) = fields.entries("env", problems).given() else {
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
    }
}
