//! Starts that cannot succeed: they say why, and leave nothing behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use aya::maps::{Array, Map, MapData};
use clawd_tests::{Address, BPFFS, Daemon, Namespace, Paths, Scratch, binaries, cgroup2_mount};

use crate::support::{PYTHON_ENTRY, World, closed, code, direct, group, tcp, text};

/// Everything that a start could leave: what carries its name, and the machine's mounts.
fn traces(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for folder in [
        Path::new(BPFFS),
        &cgroup2_mount().expect("cgroup v2"),
        Path::new("/run/netns"),
    ] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().contains(name));
        found.extend(named.map(|entry| entry.path().display().to_string()));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    // Other tests' daemons mount and unmount the bpf file system all the time.
    found.extend(
        mounts
            .lines()
            .filter(|line| !line.contains(BPFFS))
            .map(str::to_owned),
    );
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        if command.contains(name) {
            found.push(command.replace('\0', " "));
        }
    }
    found
}

/// Runs `command`, a start of clawd that has to fail: the message, and nothing is left.
#[track_caller]
fn fails(place: &Namespace, scratch: &Scratch, command: Command, want: &str) {
    let before = traces(scratch.name());
    let output = place.output(command).expect("started");
    let said = text(&output.stderr);
    assert_eq!(code(&output), 125, "{output:?}");
    assert!(said.contains(want), "{want:?} is not in {said:?}");
    assert_eq!(traces(scratch.name()), before, "{said}");
    assert!(!scratch.path("control.sock").exists());
}

/// Starts clawd in a mount namespace in which `spoil` was done before, as a shell does it.
fn spoilt(spoil: &str, paths: &Paths) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{spoil} && exec \"$@\"");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    command
        .arg(binaries::find("clawd").expect("clawd"))
        .args(paths.flags());
    command
}

fn place() -> (Namespace, Scratch, Paths) {
    let scratch = Scratch::new().expect("scratch");
    let paths = Paths::new(&scratch).expect("paths");
    (Namespace::new().expect("namespace"), scratch, paths)
}

#[test]
fn start_without_root_is_refused() {
    let (place, scratch, paths) = place();
    // Where it was built, others may not look.
    let clawd = scratch.path("clawd");
    fs::copy(binaries::find("clawd").unwrap(), &clawd).unwrap();
    fs::set_permissions(&clawd, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(clawd)
        .args(paths.flags());
    fails(&place, &scratch, command, "must run as root");
}

#[test]
fn start_without_btf_is_refused() {
    let (place, scratch, paths) = place();
    let command = spoilt("mount -t tmpfs none /sys/kernel/btf", &paths);
    fails(&place, &scratch, command, "/sys/kernel/btf/vmlinux");
}

#[test]
fn start_without_cgroup2_is_refused() {
    let (place, scratch, paths) = place();
    let unmount = format!("umount -l {}", cgroup2_mount().unwrap().display());
    fails(
        &place,
        &scratch,
        spoilt(&unmount, &paths),
        "no cgroup v2 hierarchy is mounted",
    );
}

#[test]
fn start_with_pins_elsewhere_than_on_bpffs_is_refused() {
    let (place, scratch, paths) = place();
    let paths = Paths {
        bpffs: scratch.path("pins"),
        ..paths
    };
    fails(
        &place,
        &scratch,
        spoilt("true", &paths),
        "is not on a bpf file system",
    );
}

#[test]
fn start_with_cgroups_elsewhere_than_below_cgroup2_is_refused() {
    let (place, scratch, paths) = place();
    let paths = Paths {
        cgroup_parent: scratch.path("cgroup"),
        ..paths
    };
    fails(
        &place,
        &scratch,
        spoilt("true", &paths),
        "is not below the cgroup v2 mount",
    );
}

#[test]
fn start_without_bpffs_mounts_it() {
    let (place, scratch, paths) = place();
    let before = traces(scratch.name());
    // In a namespace of its own, so that no other daemon's mount is taken away.
    let unmount = format!("(umount {BPFFS} 2>/dev/null || true)");
    let script = format!(
        "{unmount}; \"$@\" & pid=$!; n=0; while [ ! -S {socket} ] && kill -0 $pid; do sleep 0.05; done; \
         grep -c ' {BPFFS} .* bpf ' /proc/self/mountinfo; kill -TERM $pid; wait $pid; echo $?; \
         grep -c ' {BPFFS} .* bpf ' /proc/self/mountinfo",
        socket = paths.socket.display(),
    );
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    command
        .arg(binaries::find("clawd").unwrap())
        .args(paths.flags());
    let output = place.output(command).unwrap();
    // Mounted while it runs, code 0, and gone again.
    assert_eq!(text(&output.stdout), "1\n0\n0\n", "{output:?}");
    assert_eq!(traces(scratch.name()), before);
}

#[test]
fn second_daemon_on_the_same_state_is_refused() {
    let daemon = Daemon::start(None).unwrap();
    let second = Scratch::new().unwrap();
    let paths = Paths {
        state_dir: daemon.paths().state_dir.clone(),
        ..Paths::new(&second).unwrap()
    };
    fails(
        daemon.place(),
        &second,
        spoilt("true", &paths),
        "another clawd uses",
    );
    assert!(daemon.run(closed(), &["true"]).status.success());
}

/// Starts a second daemon, which has to fail, and sees that the first one's sandbox is judged as before.
fn second_is_refused(change: impl FnOnce(&mut Paths, &Paths), want: &str) {
    let world = World::start();
    let policy = direct(&group(
        "g",
        "{ host: 192.0.2.10, port: 7000 }",
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("box", &policy);
    let second = Scratch::new().unwrap();
    let mut paths = Paths::new(&second).unwrap();
    change(&mut paths, world.daemon.paths());
    fails(world.daemon.place(), &second, spoilt("true", &paths), want);
    assert_eq!(world.daemon.ps().len(), 1);
    let status = world.daemon.clawctl(["status"]).output().unwrap();
    // 1 where the kernel's Landlock is too old for mode direct; 2 would be "not enforcing".
    assert!(code(&status) < 2, "{}", text(&status.stdout));
    world.allows(&mut prober, &tcp(Address::A, 7000));
    assert_eq!(prober.ask(&tcp(Address::B, 7000))["errno"], 1);
}

#[test]
fn second_daemon_on_the_same_pins_and_cgroups_is_refused() {
    second_is_refused(
        |second, first| {
            second.bpffs.clone_from(&first.bpffs);
            second.cgroup_parent.clone_from(&first.cgroup_parent);
        },
        "another clawd has its sandboxes in",
    );
}

#[test]
fn second_daemon_on_pins_that_judge_other_cgroups_is_refused() {
    second_is_refused(
        |second, first| second.bpffs.clone_from(&first.bpffs),
        "give that as --cgroup-parent",
    );
}

/// Changes the version that a killed daemon's pins carry; returns what it was.
fn restamp(daemon: &Daemon, version: [u8; 4]) -> [u8; 4] {
    let data = MapData::from_pin(daemon.paths().bpffs.join("map_META")).expect("META");
    let mut meta: Array<_, [u8; 48]> = Map::from_map_data(data)
        .and_then(Array::try_from)
        .expect("an array");
    let mut value = meta.get(&0, 0).expect("its entry");
    let mut before = [0; 4];
    before.copy_from_slice(&value[..4]);
    value[..4].copy_from_slice(&version);
    meta.set(0, value, 0).expect("changed");
    before
}

#[test]
fn pins_of_another_version_are_replaced_only_where_no_sandbox_lives() {
    let mut world = World::start();
    world.daemon.kill9().unwrap();
    restamp(&world.daemon, 4711_u32.to_ne_bytes());
    world.daemon.launch().unwrap();

    let policy = direct(&group(
        "g",
        "{ host: 192.0.2.10, port: 7000 }",
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("box", &policy);
    world.daemon.kill9().unwrap();
    let ours = restamp(&world.daemon, 4711_u32.to_ne_bytes());
    let refused = format!("{:#}", world.daemon.launch().unwrap_err());
    assert!(
        refused.contains("4711") && refused.contains("box"),
        "{refused}"
    );
    // What the other build enforces stays enforced.
    world.allows(&mut prober, &tcp(Address::A, 7000));
    assert_eq!(prober.ask(&tcp(Address::B, 7000))["errno"], 1);
    restamp(&world.daemon, ours);
    world.daemon.launch().unwrap();
    assert_eq!(world.daemon.ps().len(), 1);
}

/// Runs `true` under a policy that is wrong.
fn wrong_policy(daemon: &Daemon, policy: &str) -> Output {
    daemon
        .run_command(policy, Some("box"), &["true"])
        .output()
        .unwrap()
}

fn wrong_command(daemon: &Daemon, command: &str) -> Output {
    daemon
        .run_command(closed(), Some("box"), &[command])
        .output()
        .unwrap()
}

#[test]
fn unknown_key_of_a_policy_is_told_with_its_place() {
    let daemon = Daemon::start(None).unwrap();
    let before = traces(daemon.scratch().name());
    let output = wrong_policy(
        &daemon,
        "version: 2\nnetwork: { mode: none }\nnetwork_polices: {}\n",
    );
    let said = text(&output.stderr);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(said.contains("policy-0.yaml:3:1"), "{said}");
    assert!(
        said.contains("network_policies"),
        "the right key is suggested: {said}"
    );
    for (policy, want) in [
        ("", "version"),
        ("version: 3\n", "version"),
        ("version: 2\nversion: 2\n", ":2:1"),
        ("version: 2\nnetwork: { mode: open }\n", ":2:18"),
        (
            "version: 2\nfilesystem_policy: { read_execute: [usr] }\n",
            ":2:37",
        ),
    ] {
        let output = wrong_policy(&daemon, policy);
        assert_eq!(code(&output), 2, "{policy}: {output:?}");
        assert!(text(&output.stderr).contains(want), "{policy}: {output:?}");
    }
    assert!(daemon.ps().is_empty());
    assert_eq!(traces(daemon.scratch().name()), before);
}

#[test]
fn sandbox_that_cannot_be_built_leaves_nothing() {
    let daemon = Daemon::start(None).unwrap();
    let before = traces(daemon.scratch().name());
    let absent = closed().replace("[/usr]", "[/usr, /no/such/folder]");
    let output = wrong_policy(&daemon, &absent);
    assert_eq!(code(&output), 125, "{output:?}");
    assert!(
        text(&output.stderr).contains("/no/such/folder"),
        "{output:?}"
    );
    // Again and again: the reason must not be overtaken by the sandbox's end.
    for _ in 0..20 {
        let output = wrong_command(&daemon, "no-such-command");
        assert_eq!(code(&output), 127, "{output:?}");
        assert!(
            text(&output.stderr).contains("no-such-command"),
            "{output:?}"
        );
        let output = wrong_command(&daemon, "/etc/passwd");
        assert_eq!(code(&output), 126, "{output:?}");
        assert!(text(&output.stderr).contains("/etc/passwd"), "{output:?}");
    }
    let as_root = format!("{}process: {{ run_as_user: root }}\n", closed());
    assert_eq!(code(&wrong_policy(&daemon, &as_root)), 2);
    assert!(daemon.ps().is_empty());
    assert!(!daemon.paths().cgroup_parent.join("box").exists());
    assert_eq!(traces(daemon.scratch().name()), before);
    assert!(
        daemon
            .audit()
            .iter()
            .any(|record| record["activity"] == "sandbox_refused")
    );
}
