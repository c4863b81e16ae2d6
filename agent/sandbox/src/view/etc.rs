//! The files of `/etc` that are written for each sandbox.
//!
//! The host's would tell of its users and of its network, and would say that the user's home is
//! another one than the sandbox has: `ssh` believes `/etc/passwd`, not `HOME`.

use std::{
    fs::File,
    io::{self, Read as _},
};

use super::build::InView;
use crate::{
    error::{Failed, Layer},
    spec::{Group, HOME, SpawnSpec},
};

/// Longest host's file that is copied: the copy is kernel memory.
const COPY_BYTES_MAX: u64 = 1 << 20;
/// Number of the user and of the group that own nothing.
const NOBODY: u32 = 65_534;
/// Name of a user or group whose own cannot be had.
const UNNAMED: &str = "sandbox";

/// A file of `/etc` that is written for the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Root, the sandbox's user, nobody.
    Passwd,
    /// Their groups.
    Group,
    /// Names of addresses.
    Hosts,
    /// Name servers.
    Resolver,
}

/// All of them with their names.
pub(super) const WRITTEN: [(&str, Written); 4] = [
    ("/etc/passwd", Written::Passwd),
    ("/etc/group", Written::Group),
    ("/etc/hosts", Written::Hosts),
    ("/etc/resolv.conf", Written::Resolver),
];

/// What the sandbox's user and host are called, and what the host's files say.
#[derive(Debug)]
pub(crate) struct Contents {
    passwd: String,
    group: String,
    hosts: Vec<u8>,
    resolver: Vec<u8>,
}

// === impl Contents ===

impl Contents {
    /// Composes all files; reads those of the host that are copied.
    ///
    /// On the host's network its names are needed. They are copied and not shown: a file that the
    /// host replaces would be seen as it was anyway, and one that it changes in place half-changed.
    pub(crate) fn new(spec: &SpawnSpec) -> Result<Self, Failed> {
        let (hosts, resolver) = if spec.own_network {
            let none = b"# network mode none: there is no name server\n".to_vec();
            (LOOPBACK.as_bytes().to_vec(), none)
        } else {
            let hosts = copy("/etc/hosts")?.unwrap_or_else(|| LOOPBACK.as_bytes().to_vec());
            (hosts, copy("/etc/resolv.conf")?.unwrap_or_default())
        };
        Ok(Self {
            passwd: passwd(spec.uid, spec.gid, &spec.user_name),
            group: group(spec.gid, &spec.group_name, &spec.groups),
            hosts: with_own_name(hosts, &spec.hostname),
            resolver,
        })
    }

    /// The bytes of one file.
    pub(super) fn of(&self, file: Written) -> &[u8] {
        match file {
            Written::Passwd => self.passwd.as_bytes(),
            Written::Group => self.group.as_bytes(),
            Written::Hosts => &self.hosts,
            Written::Resolver => &self.resolver,
        }
    }
}

const LOOPBACK: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// A host's file; `None` where there is none.
fn copy(path: &str) -> Result<Option<Vec<u8>>, Failed> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).in_view(format_args!("read {path}")),
    };
    let mut bytes = Vec::new();
    file.take(COPY_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .in_view(format_args!("read {path}"))?;
    if bytes.len() as u64 > COPY_BYTES_MAX {
        let message = format!(
            "{path} is longer than {COPY_BYTES_MAX} bytes and is not copied: list it under `read_only`, \
             to show the host's own, or under `deny`"
        );
        return Err(Failed::new(Layer::MountView, message));
    }
    Ok(Some(bytes))
}

/// The sandbox's own host name must be found, by whatever the host's are found.
fn with_own_name(mut hosts: Vec<u8>, hostname: &str) -> Vec<u8> {
    if hosts.last().is_some_and(|last| *last != b'\n') {
        hosts.push(b'\n');
    }
    hosts.extend(format!("127.0.1.1 {hostname}\n").bytes());
    hosts
}

fn passwd(uid: u32, gid: u32, name: &str) -> String {
    let name = account_name(name, uid);
    let mut text = format!(
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n{name}:x:{uid}:{gid}::{HOME}:/bin/sh\n"
    );
    if uid != NOBODY {
        text.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    }
    text
}

fn group(gid: u32, name: &str, others: &[Group]) -> String {
    let name = known(name, gid, "nogroup");
    let mut text = format!("root:x:0:\n{name}:x:{gid}:\n");
    if gid != NOBODY {
        text.push_str("nogroup:x:65534:\n");
    }
    for other in others {
        let known = known(&other.name, other.gid, "nogroup");
        if known != UNNAMED && known != name && ![gid, NOBODY].contains(&other.gid) {
            text.push_str(&format!("{known}:x:{}:\n", other.gid));
        }
    }
    text
}

/// The name that the sandbox's `/etc/passwd` has for its user, given the host's.
#[must_use]
pub fn account_name(name: &str, uid: u32) -> &str {
    known(name, uid, "nobody")
}

/// A name that can be written in a line and is nobody else's.
fn known<'a>(name: &'a str, id: u32, nobody: &str) -> &'a str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_name = !name.is_empty() && name.bytes().all(is_plain) && !name.starts_with('-');
    let is_taken = name == "root" || (name == nobody && id != NOBODY);
    if is_name && !is_taken { name } else { UNNAMED }
}

#[cfg(test)]
mod tests {
    use super::{group, passwd, with_own_name};
    use crate::spec::Group;

    #[test]
    fn accounts_are_root_the_user_and_nobody_each_once() {
        assert_eq!(
            passwd(1000, 100, "alice"),
            "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
             alice:x:1000:100::/home/sandbox:/bin/sh\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        );
        assert_eq!(
            group(100, "users", &[]),
            "root:x:0:\nusers:x:100:\nnogroup:x:65534:\n"
        );
        assert_eq!(
            passwd(65_534, 65_534, "nobody").lines().nth(1),
            Some("nobody:x:65534:65534::/home/sandbox:/bin/sh")
        );
        assert_eq!(passwd(65_534, 65_534, "nobody").lines().count(), 2);
        assert_eq!(
            group(65_534, "nogroup", &[]),
            "root:x:0:\nnogroup:x:65534:\n"
        );
    }

    #[test]
    fn account_name_that_is_another_ones_or_breaks_the_line_is_not_written() {
        for name in ["", "root", "nobody", "a:x:0:0", "a\nroot2:x:0", "-x"] {
            let text = passwd(1000, 1000, name);
            assert!(text.contains("\nsandbox:x:1000:1000:"), "{name}: {text}");
            assert_eq!(text.lines().count(), 3);
        }
        assert!(group(1000, "nogroup", &[]).contains("\nsandbox:x:1000:\n"));
    }

    #[test]
    fn group_file_has_the_further_groups_whose_names_are_their_own() {
        let named = |gid, name: &str| Group {
            gid,
            name: name.to_owned(),
        };
        let others = [
            named(44, "video"),
            named(100, "users"),
            named(45, "a:b"),
            named(46, "users"),
            named(47, "nogroup"),
            named(65_534, "nogroup"),
        ];
        assert_eq!(
            group(100, "users", &others),
            "root:x:0:\nusers:x:100:\nnogroup:x:65534:\nvideo:x:44:\n"
        );
    }

    #[test]
    fn own_name_follows_the_hosts_on_a_line_of_its_own() {
        let text = with_own_name(b"192.0.2.1 server".to_vec(), "box");
        assert_eq!(text, b"192.0.2.1 server\n127.0.1.1 box\n");
    }
}
