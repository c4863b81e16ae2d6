//! Cases about beginning and end of a sandbox.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clawd_sandbox::{Cgroups, StartError, spawn};
use clawd_sys::rustix::process::{Signal, pidfd_send_signal};

use crate::rig::{Cgroup, entrance, finish, pipes, run, shell, spec, start, start_view};

/// A daemon of its own, which is killed in the middle: `early` before it lets the sandbox go on,
/// `late` after.
pub(crate) fn spawner(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let late = arguments.next().as_deref() == Some("late");
    let cgroup = PathBuf::from(arguments.next().expect("a cgroup"));
    let cgroups = Cgroups::open(&cgroup, &[] as &[PathBuf]).expect("open");
    let (theirs, _ours) = pipes();
    let spec = spec(&["sleep", "1000"]);
    let ready = start_view(&spec, &cgroups, theirs).expect("a view");
    println!("{}", ready.init_pid());
    let _running = late.then(|| ready.go().expect("runs"));
    println!("waiting");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub(crate) fn daemon_death() {
    for (when, survives) in [("early", false), ("late", true)] {
        let cgroup = Cgroup::new();
        let mut daemon = Command::new("/proc/self/exe")
            .args(["spawner".as_ref(), when.as_ref(), cgroup.path().as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(daemon.stdout.take().expect("piped")).lines();
        let pid = lines.next().expect("a line").expect("read");
        assert_eq!(lines.next().expect("a line").expect("read"), "waiting");
        // pid 1 lets go right after the exec that the daemon was told of.
        std::thread::sleep(Duration::from_millis(300));
        daemon.kill().expect("kill");
        daemon.wait().expect("reap");
        // Long enough for a death that should not be, too.
        let patience = if survives { 300 } else { 2_000 };
        let end = Instant::now() + Duration::from_millis(patience);
        while !cgroup.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(!cgroup.is_empty(), survives, "{when}: init {pid}");
    }
}

pub(crate) fn stream_end() {
    let cgroup = Cgroup::new();
    let begin = Instant::now();
    let spec = spec(&["sh", "-c", "exec sleep 5 >&- 2>&-"]);
    let (running, mut pipes) = start(&spec, &cgroup).expect("starts");
    let mut rest = Vec::new();
    pipes.stdout.read_to_end(&mut rest).expect("read");
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "pid 1 holds the command's stream"
    );
    pidfd_send_signal(&running.pidfd, Signal::TERM).expect("signal");
    assert_eq!(finish(running, pipes).status, "signal 15\n");
}

pub(crate) fn no_init() {
    let cgroup = Cgroup::new();
    for program in ["/bin/true", "/bin/cat", "/etc/passwd"] {
        let (theirs, _ours) = pipes();
        let exe = fs::File::open(program).expect("open");
        let error = spawn(
            &spec(&["true"]),
            &cgroup.open(),
            exe.as_fd(),
            entrance().0.as_fd(),
            theirs,
        );
        let error = error.expect_err("no init");
        assert!(
            matches!(error, StartError::Silent { .. }),
            "{program}: {error}"
        );
        assert!(cgroup.is_empty(), "{program}");
    }
}

pub(crate) fn signals() {
    let cgroup = Cgroup::new();
    let script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let (running, pipes) = start(&spec(&["sh", "-c", script]), &cgroup).expect("starts");
    std::thread::sleep(std::time::Duration::from_millis(300));
    pidfd_send_signal(&running.pidfd, Signal::TERM).expect("signal");
    let got = finish(running, pipes);
    assert_eq!((got.out.as_str(), got.code), ("ready\ngot\n", 3));
}

pub(crate) fn orphans() {
    let got = shell("sleep 1000 <&- >&- 2>&- & exit 5");
    assert_eq!(got.code, 5);
}

pub(crate) fn dropped() {
    let cgroup = Cgroup::new();
    let (theirs, _ours) = pipes();
    let ready = start_view(&spec(&["/bin/true"]), &cgroup.open(), theirs).expect("a view");
    assert!(!cgroup.is_empty());
    let process = format!("/proc/{}", ready.init_pid());
    assert!(Path::new(&process).exists());
    drop(ready);
    assert!(cgroup.is_empty() && !Path::new(&process).exists());
}

/// Last and alone.
pub(crate) fn leak() {
    let count = |what: &str| fs::read_dir(what).expect("list").count();
    let children = || fs::read_to_string("/proc/thread-self/children").expect("children");
    let before = count("/proc/self/fd");
    for _ in 0..100 {
        let got = run(&spec(&["/bin/true"])).expect("starts");
        assert_eq!(got.code, 0);
    }
    for _ in 0..10 {
        run(&spec(&["/no/such"])).expect_err("refused");
    }
    assert_eq!(count("/proc/self/fd"), before);
    assert_eq!(children(), "");
    let _written = std::io::stdout().write_all(b"test spawns_in_a_row_leak_nothing ... ok\n");
}
