//! What the host has, read from files alone: clawd need not run, and the caller need not be root.

use std::{env::consts::ARCH, fs, path::Path};

use super::Check;

/// The oldest kernel that clawd runs on.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// A BTF blob's first bytes (`BTF_MAGIC`, include/uapi/linux/btf.h), little-endian.
const BTF_MAGIC: [u8; 2] = [0x9f, 0xeb];
/// What the seccomp filters answer with.
const SECCOMP_ACTIONS: [&str; 4] = ["kill_process", "errno", "user_notif", "allow"];
/// The namespaces of a sandbox, as the kernel names their limits.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
/// Others that confine programs, or let them out, and where they show.
const NEIGHBOURS: [(&str, &str); 5] = [
    ("Docker", "run/docker.sock"),
    ("containerd", "run/containerd/containerd.sock"),
    ("Podman", "run/podman/podman.sock"),
    ("systemd-resolved", "run/systemd/resolve/io.systemd.Resolve"),
    ("SELinux", "sys/fs/selinux/enforce"),
];

/// A mount, as `/proc/self/mounts` has it.
struct Mount {
    dir: String,
    fs_type: String,
    options: String,
}

/// Every check of a host whose root directory is `root`.
pub(super) fn checks(root: &Path) -> Vec<Check> {
    let mounts = mounts(root);
    let mut checks = vec![kernel(root), architecture(), btf(root), cgroup(&mounts)];
    checks.extend(controllers(root, &mounts));
    checks.extend([
        bpffs(&mounts),
        landlock(root),
        lockdown(root),
        seccomp(root),
        namespaces(root),
        leases(root),
        neighbours(root),
    ]);
    checks
}

fn text(root: &Path, path: &str) -> Option<String> {
    let text = fs::read_to_string(root.join(path)).ok()?;
    Some(text.trim().to_owned())
}

fn kernel(root: &Path) -> Check {
    const NAME: &str = "kernel";
    let Some(release) = text(root, "proc/sys/kernel/osrelease") else {
        let remedy = "mount it: `mount -t proc proc /proc`";
        return Check::failed(NAME, "/proc is not mounted", remedy);
    };
    match version(&release) {
        Some(version) if version >= KERNEL_MIN => Check::ok(NAME, format!("Linux {release}")),
        _ => Check::failed(NAME, format!("Linux {release}"), "boot Linux 6.1 or newer"),
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

fn architecture() -> Check {
    const NAME: &str = "architecture";
    if matches!(ARCH, "x86_64" | "aarch64") {
        return Check::ok(NAME, ARCH);
    }
    Check::failed(NAME, ARCH, "clawd runs on x86_64 and aarch64")
}

fn btf(root: &Path) -> Check {
    const NAME: &str = "btf";
    let path = "sys/kernel/btf/vmlinux";
    let has_magic = |bytes: Vec<u8>| bytes.starts_with(&BTF_MAGIC);
    if fs::read(root.join(path)).is_ok_and(has_magic) {
        return Check::ok(NAME, format!("/{path}"));
    }
    let found = format!("/{path} cannot be read: clawd finds no layouts of kernel structures");
    let remedy = "mount /sys, or boot a kernel with CONFIG_DEBUG_INFO_BTF=y";
    Check::failed(NAME, found, remedy)
}

/// Octal escapes of the four characters that would end a field (`mangle` in fs/proc_namespace.c) stay:
/// such a path is shown, not opened.
fn mounts(root: &Path) -> Vec<Mount> {
    let text = text(root, "proc/self/mounts").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1).map(str::to_owned);
        Some(Mount {
            dir: fields.next()?,
            fs_type: fields.next()?,
            options: fields.next()?,
        })
    });
    mounts.collect()
}

fn find<'a>(mounts: &'a [Mount], fs_type: &str) -> Option<&'a Mount> {
    mounts.iter().find(|mount| mount.fs_type == fs_type)
}

fn cgroup(mounts: &[Mount]) -> Check {
    const NAME: &str = "cgroup";
    match find(mounts, "cgroup2") {
        Some(mount) => Check::ok(NAME, format!("cgroup v2 at {}", mount.dir)),
        None => Check::failed(
            NAME,
            "cgroup v2 is not mounted",
            "boot with `systemd.unified_cgroup_hierarchy=1`, or run `mount -t cgroup2 cgroup2 /sys/fs/cgroup`",
        ),
    }
}

/// One check for each controller, so that the limit that is missing has its name.
fn controllers(root: &Path, mounts: &[Mount]) -> Vec<Check> {
    let unified = find(mounts, "cgroup2").and_then(|mount| {
        let dir = mount.dir.trim_start_matches('/');
        text(root, &format!("{dir}/cgroup.controllers"))
    });
    let unified = unified.unwrap_or_default();
    let check = |(name, key): (&'static str, &str)| {
        let is_unified = unified.split(' ').any(|word| word == name);
        let has = |mount: &&Mount| {
            mount.fs_type == "cgroup" && mount.options.split(',').any(|word| word == name)
        };
        match (is_unified, mounts.iter().find(has)) {
            (true, _) => Check::ok(name, "controller of cgroup v2"),
            (false, Some(mount)) => {
                Check::ok(name, format!("controller of version 1 at {}", mount.dir))
            }
            (false, None) => Check::warning(
                name,
                format!("no controller: a policy with `process: {{ {key}: }}` does not start"),
                &format!("boot without `cgroup_disable={name}`"),
            ),
        }
    };
    let all = [
        ("pids", "pids_max"),
        ("memory", "memory_max"),
        ("cpu", "cpu_max"),
    ];
    all.into_iter().map(check).collect()
}

fn bpffs(mounts: &[Mount]) -> Check {
    const NAME: &str = "bpffs";
    match find(mounts, "bpf") {
        Some(mount) => Check::ok(NAME, format!("mounted at {}", mount.dir)),
        None => Check::ok(NAME, "not mounted; clawd mounts it"),
    }
}

fn landlock(root: &Path) -> Check {
    const NAME: &str = "landlock";
    let Some(modules) = text(root, "sys/kernel/security/lsm") else {
        let remedy = "mount it: `mount -t securityfs securityfs /sys/kernel/security`";
        return Check::unknown(NAME, "/sys/kernel/security is not mounted", remedy);
    };
    if modules.split(',').any(|module| module == NAME) {
        return Check::ok(NAME, format!("among the security modules ({modules})"));
    }
    let remedy = format!("boot with `lsm=landlock,{modules}`");
    let found = format!("not among the security modules ({modules})");
    Check::failed(NAME, found, &remedy)
}

fn lockdown(root: &Path) -> Check {
    const NAME: &str = "lockdown";
    match text(root, "sys/kernel/security/lockdown") {
        // Helpers that read kernel memory fail then (`LOCKDOWN_BPF_READ_KERNEL`, security/security.c).
        Some(found) if found.contains("[confidentiality]") => Check::failed(
            NAME,
            "confidentiality: no eBPF program may read kernel memory",
            "boot with `lockdown=integrity`",
        ),
        Some(found) => Check::ok(NAME, found),
        None => Check::ok(NAME, "not in force"),
    }
}

fn seccomp(root: &Path) -> Check {
    const NAME: &str = "seccomp";
    let actions = text(root, "proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let has = |wanted: &&str| actions.split(' ').any(|action| action == *wanted);
    let missing: Vec<&str> = SECCOMP_ACTIONS.into_iter().filter(|it| !has(it)).collect();
    if missing.is_empty() {
        return Check::ok(NAME, format!("actions {actions}"));
    }
    let found = format!("the kernel has no action {}", missing.join(", "));
    Check::failed(NAME, found, "boot a kernel with CONFIG_SECCOMP_FILTER=y")
}

fn namespaces(root: &Path) -> Check {
    const NAME: &str = "namespaces";
    let may_have = |kind: &&str| {
        let limit = text(root, &format!("proc/sys/user/max_{kind}_namespaces"));
        limit.is_some_and(|limit| limit.parse::<u64>().is_ok_and(|limit| limit > 0))
    };
    let missing: Vec<&str> = NAMESPACES.into_iter().filter(|it| !may_have(it)).collect();
    if missing.is_empty() {
        return Check::ok(NAME, NAMESPACES.join(", "));
    }
    let found = format!("none may be made of {}", missing.join(", "));
    let settings = missing.iter();
    let settings: Vec<String> = settings
        .map(|kind| format!("user.max_{kind}_namespaces=1024"))
        .collect();
    let remedy = format!("run `sysctl -w {}`", settings.join(" "));
    Check::failed(NAME, found, &remedy)
}

fn leases(root: &Path) -> Check {
    const NAME: &str = "leases";
    if text(root, "proc/sys/fs/leases-enable").as_deref() == Some("1") {
        return Check::ok(NAME, "writers of executables are told of");
    }
    let found =
        "fs.leases-enable is not 1: programs whose files somebody may write have no identity";
    Check::warning(NAME, found, "run `sysctl -w fs.leases-enable=1`")
}

/// Never wrong by itself: it names who else may have had a hand in something odd.
fn neighbours(root: &Path) -> Check {
    let there = NEIGHBOURS.iter();
    let there: Vec<&str> = there
        .filter(|(_, path)| root.join(path).exists())
        .map(|(name, _)| *name)
        .collect();
    let found = if there.is_empty() {
        "none found".to_owned()
    } else {
        format!("{}; sandboxes see nothing of them", there.join(", "))
    };
    Check::ok("neighbours", found)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Check, checks, version};
    use crate::doctor::Outcome;

    /// Files of a host that has everything.
    const GOOD: [(&str, &str); 14] = [
        ("proc/sys/kernel/osrelease", "6.12.1-amd64\n"),
        ("sys/kernel/btf/vmlinux", ""),
        (
            "proc/self/mounts",
            "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n",
        ),
        (
            "sys/fs/cgroup/cgroup.controllers",
            "cpuset cpu io memory pids\n",
        ),
        ("sys/kernel/security/lsm", "capability,landlock,apparmor\n"),
        (
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        ),
        (
            "proc/sys/kernel/seccomp/actions_avail",
            "kill_process kill_thread trap errno user_notif trace log allow\n",
        ),
        ("proc/sys/user/max_cgroup_namespaces", "1\n"),
        ("proc/sys/user/max_ipc_namespaces", "9\n"),
        ("proc/sys/user/max_mnt_namespaces", "9\n"),
        ("proc/sys/user/max_net_namespaces", "9\n"),
        ("proc/sys/user/max_pid_namespaces", "9\n"),
        ("proc/sys/user/max_uts_namespaces", "9\n"),
        ("proc/sys/fs/leases-enable", "1\n"),
    ];

    fn write(root: &Path, path: &str, text: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// What is found where one file of the good host holds something else, or is not there.
    fn changed(path: &str, text: Option<&str>) -> Vec<Check> {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, text) in GOOD {
            write(dir.path(), path, text.as_bytes());
        }
        write(dir.path(), "sys/kernel/btf/vmlinux", &[0x9f, 0xeb, 1, 0]);
        match text {
            Some(text) => write(dir.path(), path, text.as_bytes()),
            None => fs::remove_file(dir.path().join(path)).expect("removed"),
        }
        checks(dir.path())
    }

    #[test]
    fn good_host_has_nothing_missing() {
        let found = changed("proc/sys/fs/leases-enable", Some("1\n"));
        assert!(
            found.iter().all(|check| check.outcome == Outcome::Ok),
            "{found:?}"
        );
    }

    const HYBRID: &str = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                          cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n";

    /// A file, what it holds in place of what is good, the check that finds it, and what it says to do.
    type Missing = (
        &'static str,
        Option<&'static str>,
        &'static str,
        Outcome,
        &'static str,
    );
    const MISSING: [Missing; 13] = [
        (
            "proc/sys/kernel/osrelease",
            Some("5.15.0\n"),
            "kernel",
            Outcome::Failed,
            "6.1 or newer",
        ),
        (
            "proc/sys/kernel/osrelease",
            Some("odd"),
            "kernel",
            Outcome::Failed,
            "6.1 or newer",
        ),
        (
            "sys/kernel/btf/vmlinux",
            None,
            "btf",
            Outcome::Failed,
            "CONFIG_DEBUG_INFO_BTF",
        ),
        (
            "sys/kernel/btf/vmlinux",
            Some("x"),
            "btf",
            Outcome::Failed,
            "CONFIG_DEBUG_INFO_BTF",
        ),
        (
            "proc/self/mounts",
            Some(""),
            "cgroup",
            Outcome::Failed,
            "mount -t cgroup2",
        ),
        (
            "proc/self/mounts",
            Some(HYBRID),
            "pids",
            Outcome::Warning,
            "cgroup_disable=pids",
        ),
        (
            "sys/fs/cgroup/cgroup.controllers",
            Some("cpu pids\n"),
            "memory",
            Outcome::Warning,
            "cgroup_disable=memory",
        ),
        (
            "sys/kernel/security/lsm",
            Some("capability,yama\n"),
            "landlock",
            Outcome::Failed,
            "lsm=landlock,capability,yama",
        ),
        (
            "sys/kernel/security/lsm",
            None,
            "landlock",
            Outcome::Unknown,
            "securityfs",
        ),
        (
            "sys/kernel/security/lockdown",
            Some("none integrity [confidentiality]\n"),
            "lockdown",
            Outcome::Failed,
            "lockdown=integrity",
        ),
        (
            "proc/sys/kernel/seccomp/actions_avail",
            Some("errno allow\n"),
            "seccomp",
            Outcome::Failed,
            "CONFIG_SECCOMP_FILTER",
        ),
        (
            "proc/sys/user/max_pid_namespaces",
            Some("0\n"),
            "namespaces",
            Outcome::Failed,
            "user.max_pid_namespaces=",
        ),
        (
            "proc/sys/fs/leases-enable",
            Some("0\n"),
            "leases",
            Outcome::Warning,
            "fs.leases-enable=1",
        ),
    ];

    #[test]
    fn each_thing_that_is_missing_is_named_with_its_remedy() {
        for (path, text, name, outcome, remedy) in MISSING {
            let found = changed(path, text);
            let check = found.iter().find(|check| check.name == name);
            let check = check.unwrap_or_else(|| panic!("{name}: {found:?}"));
            assert_eq!(check.outcome, outcome, "{check:?}");
            let told = check.remedy.as_deref().unwrap_or_default();
            assert!(told.contains(remedy), "{check:?}");
        }
    }

    #[test]
    fn controller_of_version_1_is_found() {
        let found = changed("proc/self/mounts", Some(HYBRID));
        let memory = found.iter().find(|check| check.name == "memory");
        let memory = memory.expect("a check");
        assert_eq!(memory.outcome, Outcome::Ok, "{memory:?}");
        assert!(memory.found.contains("/sys/fs/cgroup/memory"), "{memory:?}");
    }

    #[test]
    fn neighbours_are_named_and_nothing_is_wrong_with_them() {
        let found = changed("run/docker.sock", Some(""));
        let check = found.last().expect("the last check");
        assert_eq!(check.outcome, Outcome::Ok);
        assert!(check.found.contains("Docker"), "{check:?}");
    }

    #[test]
    fn versions_are_the_first_two_numbers() {
        for (release, want) in [
            ("6.1.0-57-cloud-amd64", Some((6, 1))),
            ("6.18-rc1", Some((6, 18))),
            ("7.0", Some((7, 0))),
            ("6", None),
            ("", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(version(release), want, "{release}");
        }
    }
}
