//! N9, N10, S3, S6, S7, S10: system calls that lead out. Each is refused, does nothing, and is told.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use clawd_common::syscall::{self, Arch};
use clawd_tests::PYTHON;
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use serde_json::{Value, json};

use super::{Allowed, Ran, Who};
use crate::support::{World, code, text};

const SCRIPT: &str = include_str!("../../../escapes/calls.py");
const EPERM: i64 = 1;
const ENOSYS: i64 = 38;
/// As a register holds -100.
const AT_FDCWD: u64 = 0u64.wrapping_sub(100);

/// One system call, by its name, and its arguments as the script takes them.
type Call<'a> = (&'a str, Value);

fn number(name: &str) -> u32 {
    let arch = Arch::native().expect("an architecture that sandboxes run on");
    syscall::number(arch, name).unwrap_or_else(|| panic!("{name} has no number"))
}

fn exists(name: &str) -> bool {
    let arch = Arch::native().expect("an architecture that sandboxes run on");
    syscall::number(arch, name).is_some()
}

fn ask(calls: &[Call<'_>]) -> Value {
    let listed: Vec<_> = calls
        .iter()
        .map(|(name, arguments)| json!([name, number(name), arguments]))
        .collect();
    json!({ "calls": listed })
}

/// Has Python make these calls in a sandbox: each gets EPERM and a record, in this order and with its
/// program; what they would have changed is as it was, and nothing left the host. At most ten of a
/// call, which is what gets records of their own.
fn are_refused(world: &World, name: &str, calls: &[Call<'_>]) -> Ran {
    let policy = Allowed::default().policy();
    let ran = Ran::script(world, name, &policy, SCRIPT, &ask(calls));
    assert_eq!(code(&ran.output), 0, "{:?}", ran.output);
    let told: Vec<_> = ran
        .steps
        .iter()
        .map(|step| (step["step"].as_str().unwrap_or_default(), &step["errno"]))
        .collect();
    let (state, steps) = told.split_last().expect("steps");
    let refusal = json!(EPERM);
    let want: Vec<_> = calls.iter().map(|(name, _)| (*name, &refusal)).collect();
    assert_eq!(steps, want);
    assert_eq!(state.0, "state");
    assert_eq!(ran.step("state")["changed"], json!([]), "{:?}", ran.steps);
    ran.reached_nobody();
    ran.undisputed_besides_calls();
    let names: Vec<_> = calls.iter().map(|(name, _)| *name).collect();
    ran.refused(&names);
    for record in ran.refused_calls() {
        python_alone().is_told_by(record);
    }
    ran
}

fn python_alone() -> Who<'static> {
    Who {
        lineage: &[],
        ..Who::by_python(PYTHON)
    }
}

/// What the records say of the attempts.
fn arguments(ran: &Ran) -> Vec<&str> {
    let told = ran.refused_calls().into_iter();
    told.map(|record| record["arguments"].as_str().unwrap_or("-"))
        .collect()
}

#[test]
fn n9_sockets_that_no_hook_judges() {
    let world = World::start();
    let (stream, dgram, raw, seqpacket) = (1, 2, 3, 5);
    let families = [
        (17, raw, 0x300, "packet", "raw"),
        (40, stream, 0, "vsock", "stream"),
        (38, seqpacket, 0, "alg", "seqpacket"),
        (44, raw, 0, "xdp", "raw"),
        (15, raw, 2, "key", "raw"),
        (30, dgram, 0, "tipc", "dgram"),
        (21, seqpacket, 0, "rds", "seqpacket"),
        (41, dgram, 0, "kcm", "dgram"),
        (31, raw, 1, "bluetooth", "raw"),
        // NETLINK_NETFILTER
        (16, raw, 12, "netlink", "raw"),
    ];
    let protocols = [
        (2, dgram, 1, "inet", "dgram"),     // ping
        (10, dgram, 58, "inet6", "dgram"),  // ping
        (2, raw, 6, "inet", "raw"),         // TCP headers of one's own
        (10, raw, 17, "inet6", "raw"),      // UDP headers
        (2, stream, 132, "inet", "stream"), // SCTP
        (2, seqpacket, 132, "inet", "seqpacket"),
        (2, 6, 33, "inet", "dccp"),         // DCCP
        (2, dgram, 115, "inet", "dgram"),   // L2TP
        (2, 10, 0x300, "inet", "packet"),   // SOCK_PACKET
        (10, dgram, 136, "inet6", "dgram"), // UDP-Lite
    ];
    for (name, sockets) in [("families", families), ("protocols", protocols)] {
        // SOCK_CLOEXEC among the flags, and rubbish where the kernel does not look.
        let call = |&(family, kind, protocol, _, _): &(u64, u64, u64, _, _)| {
            let high = 0xdead_beef_u64 << 32;
            (
                "socket",
                json!([high | family, kind | 0o2_000_000, protocol]),
            )
        };
        let calls: Vec<_> = sockets.iter().map(call).collect();
        let ran = are_refused(&world, name, &calls);
        let told: Vec<_> = ran
            .refused_calls()
            .iter()
            .map(|record| {
                (
                    record["socket_family"].clone(),
                    record["socket_type"].clone(),
                )
            })
            .collect();
        let want = sockets.map(|(_, _, _, family, kind)| (json!(family), json!(kind)));
        assert_eq!(told, want);
    }
    are_refused(&world, "pair", &[("socketpair", json!([2, stream, 0, 0]))]);
}

#[test]
fn n10_io_uring() {
    let world = World::start();
    let calls = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
    are_refused(
        &world,
        "box",
        &calls.map(|name| (name, json!([8, 0, 0, 0, 0, 0]))),
    );
}

const NAMESPACES: [(u32, &str, &str); 7] = [
    (1 << 17, "CLONE_NEWNS", "mnt"),
    (1 << 25, "CLONE_NEWCGROUP", "cgroup"),
    (1 << 26, "CLONE_NEWUTS", "uts"),
    (1 << 27, "CLONE_NEWIPC", "ipc"),
    (1 << 28, "CLONE_NEWUSER", "user"),
    (1 << 29, "CLONE_NEWPID", "pid"),
    (1 << 30, "CLONE_NEWNET", "net"),
];

#[test]
fn s3_namespaces_are_neither_made_nor_entered() {
    let world = World::start();
    let unshare = NAMESPACES.map(|(flag, _, _)| ("unshare", json!([flag])));
    let ran = are_refused(&world, "unshare", &unshare);
    let flags = NAMESPACES.map(|(_, name, _)| format!("flags={name}"));
    assert_eq!(arguments(&ran), flags);

    // 17 is SIGCHLD, so that a child would be one; the upper half of a register says nothing.
    let high = 1_u64 << 40;
    let clone =
        NAMESPACES.map(|(flag, _, _)| ("clone", json!([high | u64::from(flag) | 17, 0, 0, 0, 0])));
    let ran = are_refused(&world, "clone", &clone);
    let flags = NAMESPACES.map(|(_, name, _)| format!("flags={name}|0x11"));
    assert_eq!(arguments(&ran), flags);

    let open = |name: &str| json!([{ "open": format!("/proc/self/ns/{name}") }, 0]);
    let setns = NAMESPACES.map(|(_, _, name)| ("setns", open(name)));
    are_refused(&world, "setns", &setns);
}

#[test]
fn s3_clone3_is_not_there_and_threads_and_children_are() {
    let world = World::start();
    let policy = Allowed::default().policy();
    let asked = ask(&[("clone3", json!([0, 0]))]);
    let ran = Ran::script(&world, "clone3", &policy, SCRIPT, &asked);
    assert_eq!(ran.step("clone3")["errno"], ENOSYS, "{:?}", ran.steps);
    ran.undisputed();
    // By way of clone3 first, where the C library knows it; vfork and posix_spawn are subprocess's.
    let script = "
import json, os, subprocess, threading
seen = []
thread = threading.Thread(target=lambda: seen.append('thread'))
thread.start(); thread.join()
seen.append(subprocess.run(['/usr/bin/printf', 'vfork'], capture_output=True, text=True).stdout.strip())
pid = os.posix_spawn('/usr/bin/true', ['true'], {})
seen.append('spawn %d' % os.waitpid(pid, 0)[1])
pid = os.fork()
if pid == 0:
    os._exit(3)
seen.append('fork %d' % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps({'step': 'seen', 'seen': seen}))
";
    let ran = Ran::script(&world, "threads", &policy, script, &json!({}));
    let want = json!(["thread", "vfork", "spawn 0", "fork 3"]);
    assert_eq!(ran.step("seen")["seen"], want, "{:?}", ran.output);
    ran.undisputed();
}

#[test]
fn s3_mounts_stay_as_they_are() {
    let world = World::start();
    are_refused(
        &world,
        "box",
        &[
            ("mount", json!(["none", "/tmp", "tmpfs", 0, 0])),
            ("mount", json!(["/proc", "/tmp", 0, 4096, 0])),
            ("umount2", json!(["/tmp", 2])),
            ("open_tree", json!([AT_FDCWD, "/", 1])),
            ("open_tree_attr", json!([AT_FDCWD, "/", 1, 0, 0])),
            ("move_mount", json!([0, "", AT_FDCWD, "/tmp", 4])),
            ("fsopen", json!(["tmpfs", 0])),
            ("fsconfig", json!([0, 6, 0, 0, 0])),
            ("fsmount", json!([0, 0, 0])),
            ("fspick", json!([AT_FDCWD, "/", 0])),
            ("mount_setattr", json!([AT_FDCWD, "/", 0, 0, 0])),
            ("pivot_root", json!(["/tmp", "/tmp"])),
            ("chroot", json!(["/tmp"])),
        ],
    );
}

#[test]
fn s6_calls_of_the_whole_host() {
    let world = World::start();
    let always = syscall::REFUSED.iter().map(|refused| refused.name);
    let mut calls: Vec<_> = always
        .filter(|name| exists(name))
        .map(|name| (name, json!([0, 0, 0, 0, 0, 0])))
        .collect();
    // ADDR_NO_RANDOMIZE; PR_SET_MM_EXE_FILE.
    calls.push(("personality", json!([0x4_0000])));
    calls.push(("prctl", json!([35, 13, 0, 0, 0])));
    let ran = are_refused(&world, "box", &calls);
    let told = arguments(&ran);
    assert!(
        told.ends_with(&["persona=0x40000", "option=PR_SET_MM"]),
        "{told:?}"
    );
}

/// A directory that everybody may write to.
#[cfg(target_arch = "x86_64")]
fn writable(world: &World) -> std::path::PathBuf {
    let path = world.daemon.scratch().path("writable");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    path
}

/// Has a program make a directory by a foreign table; it is not made, and the program is killed.
#[cfg(target_arch = "x86_64")]
fn is_killed(world: &World, dir: &Path, step: &str, call_number: u32) -> Ran {
    let made = dir.join(step);
    let made = made.to_str().unwrap();
    let allowed = Allowed {
        read_write: &[dir],
        ..Allowed::default()
    };
    // The same by the table of its own works.
    let control = dir.join(format!("{step}-control"));
    let calls = json!([
        ["mkdir", number("mkdir"), [control, 0o777]],
        [step, call_number, [made, 0o777]],
    ]);
    let asked = json!({ "calls": calls });
    let ran = Ran::script(world, step, &allowed.policy(), SCRIPT, &asked);
    assert_eq!(ran.step("mkdir")["errno"], 0, "{:?}", ran.steps);
    assert!(control.exists());
    assert_eq!(ran.steps.len(), 1, "nothing after it: {:?}", ran.steps);
    assert!(!Path::new(made).exists());
    ran.reached_nobody();
    ran
}

#[cfg(target_arch = "x86_64")]
fn foreign(ran: &Ran) -> Vec<(Value, Value, Value)> {
    let told = ran.refused_calls().into_iter().map(|record| {
        python_alone().is_told_by(record);
        assert_eq!(record["action"], "denied", "{record}");
        let fields = ["reason", "syscall_table", "syscall"].map(|field| record[field].clone());
        fields.into()
    });
    told.collect()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn s7_foreign_system_call_tables() {
    const KILLED: i32 = 137;
    const SEGMENTATION_FAULT: i32 = 139;
    let world = World::start();
    let dir = writable(&world);
    let ran = is_killed(&world, &dir, "x32", syscall::X32_BIT | number("mkdir"));
    assert_eq!(code(&ran.output), KILLED, "{:?}", ran.output);
    let told =
        |table: &str, call: &str| vec![(json!("foreign_syscall"), json!(table), json!(call))];
    assert_eq!(foreign(&ran), told("x32", "mkdir"));

    let ran = is_killed(&world, &dir, "int80", 0);
    match code(&ran.output) {
        KILLED => assert_eq!(foreign(&ran), told("i386", "#39")),
        // A kernel without the 32-bit gate has no such calls, so there is none to tell of.
        SEGMENTATION_FAULT => assert_eq!(foreign(&ran), []),
        other => panic!("{other}: {:?}", ran.output),
    }
}

#[test]
fn s10_nothing_is_typed_into_the_operators_terminal() {
    const TIOCSTI: u64 = 0x5412;
    const TIOCLINUX: u64 = 0x541c;
    const TIOCSETD: u64 = 0x5423;
    // The discipline that lets nothing through; others are modules, which the kernel loads for it.
    const N_NULL: &str = "\u{1b}\0\0\0";
    let world = World::start();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    // What is typed counts at once, not with its line.
    let mut modes = tcgetattr(&theirs).unwrap();
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes).unwrap();

    let high = 1_u64 << 32;
    let calls = [
        ("ioctl", json!([0, TIOCSTI, "x"])),
        ("ioctl", json!([0, high | TIOCSTI, "x"])),
        ("ioctl", json!([0, TIOCLINUX, "\u{3}"])),
        ("ioctl", json!([0, high | TIOCLINUX, "\u{3}"])),
        ("ioctl", json!([0, TIOCSETD, N_NULL])),
        ("ioctl", json!([0, high | TIOCSETD, N_NULL])),
    ];
    let argv = [PYTHON, "-I", "-c", SCRIPT, &ask(&calls).to_string()];
    let mut command = world
        .daemon
        .run_command(&Allowed::default().policy(), Some("box"), &argv);
    let output = command
        .stdin(Stdio::from(theirs.try_clone().unwrap()))
        .output()
        .unwrap();
    let steps = text(&output.stdout);
    let refused = steps.matches(r#""errno": 1,"#).count();
    assert_eq!(refused, calls.len(), "{output:?}");
    assert_eq!(rustix::io::ioctl_fionread(&theirs).unwrap(), 0);
    // The operator's own keys still come.
    rustix::io::write(&terminal, b"k").unwrap();
    let mut key = [0];
    assert_eq!(rustix::io::read(&theirs, &mut key), Ok(1));
    assert_eq!(&key, b"k");
    let records = world.denials("box", 0);
    let told: Vec<_> = records
        .iter()
        .map(|record| record["arguments"].as_str())
        .collect();
    let want = ["TIOCSTI", "TIOCLINUX", "TIOCSETD"].map(|name| format!("request={name}"));
    let want = want.iter().flat_map(|text| [Some(text.as_str()); 2]);
    assert_eq!(told, want.collect::<Vec<_>>());
    for record in &records {
        assert_eq!(record["reason"], "syscall_denied", "{record}");
        assert_eq!(record["syscall"], "ioctl", "{record}");
        python_alone().is_told_by(record);
    }
}
