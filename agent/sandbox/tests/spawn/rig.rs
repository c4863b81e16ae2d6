//! Starts sandboxes for the cases, and cleans up after them.

use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use clawd_sandbox::{
    Cgroups, Compatibility, Descriptors, HOME, Layers, ProcessLimits, REFUSAL_BYTES, Refusal,
    Running, SpawnSpec, StartError, Streams, Syscalls, ViewReady, ViewSpec, spawn,
};
use clawd_sys::rustix::process::{WaitId, WaitIdOptions, waitid};

/// A user that owns nothing here.
pub(crate) const USER: u32 = 64_123;

/// A cgroup that is gone, with all in it, when this is dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let line = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .expect("cgroup v2 is mounted");
        let mount = line.split(' ').nth(4).expect("mount point");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("{mount}/clawd-sandbox-test-{}-{number}", std::process::id());
        fs::create_dir(&path).expect("create the cgroup");
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn open(&self) -> Cgroups {
        Cgroups::open(&self.0, &[] as &[PathBuf]).expect("open the cgroup")
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.procs"))
            .expect("cgroup.procs")
            .is_empty()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(5);
        let _killed = fs::write(self.0.join("cgroup.kill"), "1");
        while fs::remove_dir(&self.0).is_err() {
            assert!(Instant::now() < end, "{} stays", self.0.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A sandbox that sees programs and libraries, and this file.
pub(crate) fn spec(argv: &[&str]) -> SpawnSpec {
    let libraries = ["/lib", "/lib64"]
        .map(PathBuf::from)
        .into_iter()
        .filter(|path| path.exists());
    let me = std::env::current_exe().expect("own path");
    SpawnSpec {
        hostname: "box".into(),
        view: ViewSpec {
            read_execute: [PathBuf::from("/usr"), "/bin".into(), me]
                .into_iter()
                .chain(libraries)
                .collect(),
            ..ViewSpec::default()
        },
        own_network: true,
        uid: USER,
        gid: USER,
        user_name: "agent".into(),
        group_name: "agents".into(),
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("HOME".into(), HOME.into()),
        ],
        cwd: "/".into(),
        landlock: Compatibility::HardRequirement,
        seccomp: Syscalls::default(),
        groups: Vec::new(),
        limits: ProcessLimits::default(),
        terminal: None,
    }
}

/// This file as a probe.
pub(crate) fn probe(arguments: &[&str]) -> SpawnSpec {
    let me = std::env::current_exe().expect("own path");
    let me = me.to_str().expect("utf-8").to_owned();
    spec(&[&[me.as_str(), "probe"], arguments].concat())
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) layers: Layers,
    pub(crate) refusals: Vec<Refusal>,
}

/// Our ends of a sandbox's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: std::io::PipeWriter,
    pub(crate) stdout: std::io::PipeReader,
    stderr: std::io::PipeReader,
    status: std::io::PipeReader,
}

pub(crate) fn pipes() -> (Descriptors, Pipes) {
    let (in_read, stdin) = std::io::pipe().expect("pipe");
    let (stdout, out_write) = std::io::pipe().expect("pipe");
    let (stderr, err_write) = std::io::pipe().expect("pipe");
    let (status, status_write) = std::io::pipe().expect("pipe");
    let theirs = Descriptors {
        streams: Streams::Given([in_read.into(), out_write.into(), err_write.into()]),
        status: status_write.into(),
    };
    (
        theirs,
        Pipes {
            stdin,
            stdout,
            stderr,
            status,
        },
    )
}

pub(crate) fn init_exe() -> OwnedFd {
    fs::File::open("/proc/self/exe").expect("own file").into()
}

/// Where further commands could come in.
pub(crate) fn entrance() -> (UnixListener, SocketAddr) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("clawd-sandbox-test-{}-{number}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).expect("an address");
    let listener = UnixListener::bind_addr(&address).expect("binds");
    (listener, address)
}

/// Starts a sandbox's view.
pub(crate) fn start_view(
    spec: &SpawnSpec,
    cgroups: &Cgroups,
    theirs: Descriptors,
) -> Result<ViewReady, StartError> {
    let (listener, _) = entrance();
    spawn(spec, cgroups, init_exe().as_fd(), listener.as_fd(), theirs)
}

/// Starts a sandbox to the point where its command runs.
pub(crate) fn start(spec: &SpawnSpec, cgroup: &Cgroup) -> Result<(Running, Pipes), StartError> {
    let (theirs, ours) = pipes();
    let ready = start_view(spec, &cgroup.open(), theirs)?;
    assert!(ready.exec_mounts().iter().any(|at| at == Path::new("/usr")));
    let private = ["/", "/tmp", "/dev", "/dev/shm", "/proc", HOME].map(Path::new);
    assert!(
        !ready
            .exec_mounts()
            .iter()
            .any(|at| private.contains(&at.as_path()))
    );
    Ok((ready.go()?, ours))
}

/// Waits for a sandbox's end.
pub(crate) fn finish(running: Running, pipes: Pipes) -> Outcome {
    let Pipes {
        stdin,
        mut stdout,
        mut stderr,
        mut status,
    } = pipes;
    drop(stdin);
    let read = |from: &mut std::io::PipeReader| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("read");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (out, err, status) = (read(&mut stdout), read(&mut stderr), read(&mut status));
    let ended = waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED);
    let code = ended
        .expect("reap")
        .expect("ended")
        .exit_status()
        .unwrap_or(-1);
    let mut refusals = Vec::new();
    let mut bytes = [0; REFUSAL_BYTES];
    // Nobody else has the write end any more.
    while clawd_sys::rustix::io::read(&running.refusals, &mut bytes).expect("refusals") > 0 {
        refusals.push(Refusal::decode(&bytes));
    }
    Outcome {
        status,
        code,
        out,
        err,
        layers: running.layers,
        refusals,
    }
}

pub(crate) fn run(spec: &SpawnSpec) -> Result<Outcome, StartError> {
    run_with(spec, "")
}

/// Runs a command to its end; then nothing of it is left.
pub(crate) fn run_with(spec: &SpawnSpec, stdin: &str) -> Result<Outcome, StartError> {
    let cgroup = Cgroup::new();
    let result = start(spec, &cgroup).map(|(running, mut pipes)| {
        pipes.stdin.write_all(stdin.as_bytes()).expect("write");
        finish(running, pipes)
    });
    assert!(cgroup.is_empty(), "processes are left");
    result
}

pub(crate) fn shell(script: &str) -> Outcome {
    run(&spec(&["sh", "-c", script])).expect("starts")
}
