//! What of the host's Debian goes into a machine.

/// Programs, copied with the shared libraries that they need. Whatever else a shell script calls
/// is busybox's.
pub(super) const PROGRAMS: &[&str] = &[
    "/usr/bin/bash",
    "/usr/bin/bindfs",
    "/usr/bin/cat",
    "/usr/bin/chmod",
    "/usr/bin/cp",
    "/usr/bin/curl",
    "/usr/bin/dash",
    "/usr/bin/dd",
    "/usr/bin/env",
    "/usr/bin/false",
    "/usr/bin/git",
    "/usr/bin/grep",
    "/usr/bin/id",
    "/usr/bin/ip",
    "/usr/bin/ls",
    "/usr/bin/make",
    "/usr/bin/mkdir",
    "/usr/bin/mount",
    "/usr/bin/mv",
    "/usr/bin/openssl",
    "/usr/bin/perl",
    "/usr/bin/printf",
    "/usr/bin/rm",
    "/usr/bin/sed",
    "/usr/bin/seq",
    "/usr/bin/setarch",
    "/usr/bin/setpriv",
    "/usr/bin/setsid",
    "/usr/bin/sha256sum",
    "/usr/bin/sleep",
    "/usr/bin/sort",
    "/usr/bin/ssh",
    "/usr/bin/ssh-keygen",
    "/usr/bin/stat",
    "/usr/bin/stty",
    "/usr/bin/touch",
    "/usr/bin/true",
    "/usr/bin/tty",
    "/usr/bin/unshare",
    "/usr/lib/git-core/git-http-backend",
    "/usr/lib/git-core/git-remote-http",
    "/usr/sbin/mkfs.btrfs",
    "/usr/sbin/mkfs.ext4",
    "/usr/sbin/mkfs.xfs",
    "/usr/sbin/nginx",
    "/usr/sbin/sshd",
];

/// Programs of newer releases: sshd is several there.
pub(super) const PROGRAMS_IF_ANY: &[&str] = &[
    "/usr/lib/openssh/sshd-auth",
    "/usr/lib/openssh/sshd-session",
];

/// Tests that machines without hardware support do not have the time for, by the beginning of their names:
/// compilers, package managers and servers take minutes there, as do thousands of pushes and hundreds of
/// kills. Each run says so.
pub(crate) const TESTS_LEFT_OUT: &[&str] = &["compatibility::", "push::soak::", "restart::kills::"];

/// Single files that programs look for where they are on the host.
pub(super) const FILES: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/mke2fs.conf",
    "/etc/nginx/mime.types",
    "/etc/protocols",
    "/etc/services",
];

/// Whole directories.
pub(super) const DIRECTORIES: &[&str] = &[
    "/usr/lib/locale/C.utf8",
    "/usr/lib/x86_64-linux-gnu/perl-base",
    "/usr/share/git-core/templates",
];

/// Parts of Python's library that no program of the tests imports, by directory name.
pub(super) const PYTHON_LEFT_OUT: &[&str] = &[
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
];

/// Directories that a booted Debian has, empty here.
pub(super) const EMPTY_DIRECTORIES: &[&str] = &[
    "dev",
    "home",
    "mnt",
    "opt/clawd",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/local/bin",
    "var/lib/nginx",
    "var/log/nginx",
    "var/tmp",
];

/// Files with content of our own: path, text.
pub(super) const WRITTEN: &[(&str, &str)] = &[
    ("etc/group", "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n"),
    ("etc/hostname", "vm\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "etc/nginx/nginx.conf",
        "worker_processes 1;\nevents {}\nhttp { include mime.types; }\n",
    ),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n",
    ),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/resolv.conf", ""),
];

/// The links of a file system with a merged `/usr`, and names that programs go by.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("usr/bin/git-receive-pack", "git"),
    ("usr/bin/git-upload-pack", "git"),
    ("usr/bin/sh", "dash"),
    ("usr/lib/git-core/git", "../../bin/git"),
    ("usr/lib/git-core/git-remote-https", "git-remote-http"),
    ("usr/sbin/ip", "../bin/ip"),
    ("etc/mtab", "../proc/self/mounts"),
];
