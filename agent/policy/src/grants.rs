//! What a policy lets a sandbox see of files, with what no policy has to list.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{Filesystem, NetworkMode, Policy};

/// What may be done with a file or a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAccess {
    /// Read.
    Read,
    /// Read and execute.
    ReadExecute,
    /// Read and write.
    ReadWrite,
    /// Read, write and execute.
    ReadWriteExecute,
    /// Nothing.
    Denied,
}

/// A file or tree of the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileGrant {
    /// Where it is in the view; `None` for the workspace, which each run names.
    pub path: Option<PathBuf>,
    /// What may be done.
    pub access: FileAccess,
    /// The key of the policy that says so; `None` for what no policy has to list.
    pub key: Option<&'static str>,
    /// What it is, or why it is there.
    pub reason: String,
}

/// What a sandbox has without listing it, each with its reason. Removed by `deny` alone; what is listed
/// under the same path takes its place.
pub const IMPLICIT: &[(&str, FileAccess, &str)] = &[
    ("/tmp", FileAccess::ReadWrite, "temporary files, its own"),
    (
        "/home/sandbox",
        FileAccess::ReadWrite,
        "the home directory, its own",
    ),
    (
        "/proc",
        FileAccess::Read,
        "its own processes; places that tell of the host are masked",
    ),
    ("/dev/null", FileAccess::ReadWrite, "device"),
    ("/dev/zero", FileAccess::ReadWrite, "device"),
    ("/dev/full", FileAccess::ReadWrite, "device"),
    ("/dev/random", FileAccess::ReadWrite, "device"),
    ("/dev/urandom", FileAccess::ReadWrite, "device"),
    (
        "/dev/tty",
        FileAccess::ReadWrite,
        "the terminal that it was started on, if any",
    ),
    ("/dev/ptmx", FileAccess::ReadWrite, "terminals, its own"),
    ("/dev/pts", FileAccess::ReadWrite, "terminals, its own"),
    ("/dev/shm", FileAccess::ReadWrite, "shared memory, its own"),
    ("/dev/fd", FileAccess::Read, "link to /proc/self/fd"),
    ("/dev/stdin", FileAccess::Read, "link to /proc/self/fd/0"),
    ("/dev/stdout", FileAccess::Read, "link to /proc/self/fd/1"),
    ("/dev/stderr", FileAccess::Read, "link to /proc/self/fd/2"),
    (
        "/etc/passwd",
        FileAccess::Read,
        "written for it: root, its user, nobody",
    ),
    (
        "/etc/group",
        FileAccess::Read,
        "written for it: their groups",
    ),
    ("/etc/hosts", FileAccess::Read, "written for it"),
    ("/etc/resolv.conf", FileAccess::Read, "written for it"),
    (
        "/etc/ld.so.cache",
        FileAccess::Read,
        "where the dynamic loader finds libraries",
    ),
    (
        "/etc/nsswitch.conf",
        FileAccess::Read,
        "where names are looked up",
    ),
    ("/etc/ssl", FileAccess::Read, "certificates of authorities"),
    (
        "/etc/ca-certificates",
        FileAccess::Read,
        "certificates of authorities",
    ),
    (
        "/etc/protocols",
        FileAccess::Read,
        "names of protocols' numbers",
    ),
    ("/etc/services", FileAccess::Read, "names of ports"),
    ("/etc/localtime", FileAccess::Read, "the time zone"),
    (
        "/etc/alternatives",
        FileAccess::Read,
        "which of several programs a name means",
    ),
    (
        "/bin",
        FileAccess::Read,
        "link, where it leads into a listed tree",
    ),
    (
        "/sbin",
        FileAccess::Read,
        "link, where it leads into a listed tree",
    ),
    (
        "/lib",
        FileAccess::Read,
        "link, where it leads into a listed tree",
    ),
    (
        "/lib32",
        FileAccess::Read,
        "link, where it leads into a listed tree",
    ),
    (
        "/lib64",
        FileAccess::Read,
        "link, where it leads into a listed tree",
    ),
    (
        "/libx32",
        FileAccess::Read,
        "link, where it leads into a listed tree",
    ),
];

/// The grants that a policy lists, and, if `implicit`, those that none has to.
#[must_use]
pub fn file_grants(policy: &Policy, implicit: bool) -> Vec<FileGrant> {
    let Filesystem {
        include_workdir,
        read_only,
        read_execute,
        read_write,
        read_write_execute,
        rootfs,
        deny,
    } = &policy.filesystem;
    let lists = [
        ("read_only", read_only, FileAccess::Read),
        ("read_execute", read_execute, FileAccess::ReadExecute),
        ("read_write", read_write, FileAccess::ReadWrite),
        (
            "read_write_execute",
            read_write_execute,
            FileAccess::ReadWriteExecute,
        ),
        ("deny", deny, FileAccess::Denied),
    ];
    let mut grants = Vec::new();
    if *include_workdir {
        grants.push(FileGrant {
            path: None,
            access: FileAccess::ReadWrite,
            key: Some("include_workdir"),
            reason: "the workspace".to_owned(),
        });
    }
    for (key, paths, access) in lists {
        grants.extend(paths.iter().map(|path| FileGrant {
            path: Some(path.clone()),
            access,
            key: Some(key),
            reason: match (access, rootfs) {
                (FileAccess::Denied, _) => "wins over everything else".to_owned(),
                (_, Some(root)) => format!("listed, from {}{}", root.display(), path.display()),
                (_, None) => "listed".to_owned(),
            },
        }));
    }
    let is_own = |path: &Path| {
        ["/dev", "/proc"].iter().any(|own| path.starts_with(own)) || path == Path::new("/tmp")
    };
    // What is listed and private to each sandbox all the same is among the implicit ones.
    grants.retain(|grant| {
        let path = grant.path.as_deref();
        grant.access == FileAccess::Denied || !path.is_some_and(is_own)
    });
    for grant in &mut grants {
        let denied = deny.iter().find(|outer| {
            let path = grant.path.as_ref();
            path.is_some_and(|path| path.starts_with(outer) && path != *outer)
        });
        if let Some(outer) = denied {
            grant.access = FileAccess::Denied;
            grant.reason = format!("is in {}, which `deny` names", outer.display());
        }
    }
    if implicit {
        let further = implied(policy, &grants);
        grants.extend(further);
    }
    grants.sort_by(|a, b| a.path.cmp(&b.path));
    grants
}

/// The implicit grants that neither `deny` takes away nor something listed stands for.
fn implied(policy: &Policy, listed: &[FileGrant]) -> Vec<FileGrant> {
    let is_shown = |path: &Path| {
        let mut around = listed.iter().filter_map(|grant| grant.path.as_deref());
        let is_etc = path.starts_with("/etc");
        // A listed folder shows its own files of /etc; the rest lies in places of its own.
        around.any(|listed| path == listed || (is_etc && path.starts_with(listed)))
    };
    let denied = &policy.filesystem.deny;
    let direct = policy.network == NetworkMode::Direct;
    let left = IMPLICIT.iter().filter(|(path, ..)| {
        let path = Path::new(path);
        !is_shown(path) && !denied.iter().any(|outer| path.starts_with(outer))
    });
    left.map(|(path, access, reason)| FileGrant {
        path: Some(PathBuf::from(path)),
        access: *access,
        key: None,
        reason: match *path {
            "/etc/hosts" | "/etc/resolv.conf" if direct => {
                "copy of the host's from its start".to_owned()
            }
            "/etc/hosts" => format!("{reason}: `localhost` and its own name"),
            "/etc/resolv.conf" => format!("{reason}: no name server"),
            _ => (*reason).to_owned(),
        },
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{IMPLICIT, file_grants};
    use crate::parse;

    fn shown(keys: &str, implicit: bool) -> Vec<String> {
        let text = format!("version: 2\nfilesystem_policy: {{ {keys} }}\n");
        let policy = parse("p", &text).expect("a policy").policy;
        let grants = file_grants(&policy, implicit);
        let line = |grant: &super::FileGrant| {
            let path = grant.path.as_deref().unwrap_or(Path::new("-"));
            format!(
                "{} {:?} {}",
                path.display(),
                grant.access,
                grant.key.unwrap_or("implicit")
            )
        };
        grants.iter().map(line).collect()
    }

    #[test]
    fn listed_grants_have_the_access_that_is_left_of_them() {
        let keys = "include_workdir: true, read_only: [/srv, /etc/passwd], read_execute: [/usr], \
                    read_write: [/tmp, /srv/x/y], deny: [/srv/x]";
        assert_eq!(
            shown(keys, false),
            [
                "- ReadWrite include_workdir",
                "/etc/passwd Read read_only",
                "/srv Read read_only",
                "/srv/x Denied deny",
                "/srv/x/y Denied read_write",
                "/usr ReadExecute read_execute",
            ]
        );
    }

    #[test]
    fn implicit_grants_are_taken_away_by_deny_and_by_what_is_listed_alone() {
        let all = shown("", true);
        assert_eq!(all.len(), IMPLICIT.len());
        let keys = "read_only: [/etc/passwd], read_write: [/tmp, /dev/null], deny: [/dev/shm, /etc/ssl, /home]";
        let left = shown(keys, true);
        for gone in ["/dev/shm ", "/etc/ssl ", "/home/sandbox "] {
            let is_granted = |line: &&String| line.starts_with(gone) && !line.contains("Denied");
            assert_eq!(left.iter().find(is_granted), None);
        }
        for stays in [
            "/tmp ReadWrite implicit",
            "/dev/null ReadWrite implicit",
            "/etc/passwd Read read_only",
        ] {
            assert_eq!(
                left.iter().filter(|line| *line == stays).count(),
                1,
                "{stays}: {left:?}"
            );
        }
        let listed = shown("read_only: [/etc]", true);
        assert!(
            !listed.iter().any(|line| line.starts_with("/etc/")),
            "{listed:?}"
        );
    }
}
