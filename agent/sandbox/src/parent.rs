//! The daemon's half: clone, wait for the view, let it go on.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::PathBuf,
    time::Instant,
};

use clawd_sys::{
    descriptors::unfit_as_stream,
    process::kill_and_reap,
    spawn::{CloneRequest, spawn_into},
};

use crate::{
    channel::{self, ChannelError, FromInit, ToInit},
    error::StartError,
    spec::{DEADLINE, Layers, SpawnSpec},
};

/// What the sandbox gets of the caller's descriptors. They are closed here once it has them.
#[derive(Debug)]
pub struct Descriptors {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// Write end of a pipe; one line comes when the command ends: `exit N` or `signal N`.
    pub status: OwnedFd,
}

/// A sandbox whose view stands and whose command has not started. Dropping it ends it.
#[derive(Debug)]
#[must_use]
pub struct ViewReady {
    init: Init,
    channel: UnixStream,
    namespaces: Vec<String>,
    exec_mounts: Vec<PathBuf>,
}

/// A sandbox that runs. Dropping this does not end it; the caller reaps its init.
#[derive(Debug)]
#[must_use]
pub struct Running {
    /// Process id of its pid 1, in the caller's pid namespace.
    pub init_pid: u32,
    /// Its pid 1; readable once it ended.
    pub pidfd: OwnedFd,
    /// What is in force.
    pub layers: Layers,
}

/// The init process, killed and reaped unless [`Init::release`]d.
#[derive(Debug)]
struct Init {
    pid: u32,
    pidfd: Option<OwnedFd>,
}

/// Starts a sandbox's init in `cgroup` and has it build the view. Blocks for milliseconds, at most
/// [`DEADLINE`].
///
/// `init_exe` is a program that calls [`crate::init::main`] when its first argument is
/// [`crate::INIT_ARGUMENT`]. Until [`ViewReady::go`] has returned, the sandbox dies with the calling
/// *thread*.
///
/// # Errors
/// Any of [`StartError`]; nothing is left running.
pub fn spawn(
    spec: &SpawnSpec,
    cgroup: BorrowedFd<'_>,
    init_exe: BorrowedFd<'_>,
    fds: Descriptors,
) -> Result<ViewReady, StartError> {
    let deadline = Instant::now() + DEADLINE;
    check(spec)?;
    for (stream, fd) in [
        ("stdin", &fds.stdin),
        ("stdout", &fds.stdout),
        ("stderr", &fds.stderr),
    ] {
        let unfit = unfit_as_stream(fd.as_fd()).map_err(system("look at a standard stream"))?;
        if let Some(unfit) = unfit {
            return Err(StartError::Stream { stream, unfit });
        }
    }
    let (channel, theirs) = UnixStream::pair().map_err(system("make a socket pair"))?;
    let cloned = spawn_into(&CloneRequest {
        cgroup,
        exe: init_exe,
        argv: &[c"clawd", c"sandbox-init"],
        descriptors: [
            fds.stdin.as_fd(),
            fds.stdout.as_fd(),
            fds.stderr.as_fd(),
            theirs.as_fd(),
            fds.status.as_fd(),
        ],
        new_network: spec.own_network,
    })
    .map_err(system(
        "clone a process into the sandbox's cgroup and namespaces",
    ))?;
    let init = Init {
        pid: cloned.pid,
        pidfd: Some(cloned.pidfd),
    };
    // Closed here, so that the end of the sandbox is the end of the channel and of the pipes.
    drop((theirs, fds));
    channel::send(&channel, &ToInit::Spec(Box::new(spec.clone())), deadline)
        .or_else(|error| explain(&channel, error, deadline, "reading its specification"))?;
    let exec_mounts = match receive(&channel, deadline, "building the mount view")? {
        FromInit::ViewReady { exec_mounts } => exec_mounts,
        FromInit::Failed(failed) => return Err(failed.into()),
        FromInit::InForce(_) => return Err(out_of_turn("building the mount view")),
    };
    let namespaces = differing_namespaces(init.pid, spec.own_network)?;
    Ok(ViewReady {
        init,
        channel,
        namespaces,
        exec_mounts,
    })
}

// === impl ViewReady ===

impl ViewReady {
    /// Process id of the sandbox's pid 1, in the caller's pid namespace.
    #[must_use]
    pub fn init_pid(&self) -> u32 {
        self.init.pid
    }

    /// Mount points, as seen inside, of the mounts that programs can be executed from.
    #[must_use]
    pub fn exec_mounts(&self) -> &[PathBuf] {
        &self.exec_mounts
    }

    /// Lets the sandbox confine itself and execute its command. Blocks until the command's program
    /// is executed, at most [`DEADLINE`]; whoever answers the exec gate must not be the caller.
    ///
    /// # Errors
    /// Any of [`StartError`]; nothing is left running.
    pub fn go(self) -> Result<Running, StartError> {
        let deadline = Instant::now() + DEADLINE;
        let Self {
            init,
            channel,
            namespaces,
            ..
        } = self;
        channel::send(&channel, &ToInit::Go, deadline)
            .or_else(|error| explain(&channel, error, deadline, "going on"))?;
        let mut layers = match receive(&channel, deadline, "confining itself")? {
            FromInit::InForce(layers) => layers,
            FromInit::Failed(failed) => return Err(failed.into()),
            FromInit::ViewReady { .. } => return Err(out_of_turn("confining itself")),
        };
        // The exec closes the last descriptor of the other end; a failed one is reported before.
        match channel::receive(&channel, deadline) {
            Err(ChannelError::Closed) => {}
            Err(source) => return Err(silent("executing the command")(source)),
            Ok(FromInit::Failed(failed)) => return Err(failed.into()),
            Ok(_) => return Err(out_of_turn("executing the command")),
        }
        layers.namespaces = namespaces;
        let init_pid = init.pid;
        let pidfd = init.release()?;
        Ok(Running {
            init_pid,
            pidfd,
            layers,
        })
    }
}

// === impl Init ===

impl Init {
    fn release(mut self) -> Result<OwnedFd, StartError> {
        self.pidfd
            .take()
            .ok_or_else(|| StartError::Request("the process was given away before".into()))
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take()
            && let Err(error) = kill_and_reap(pidfd.as_fd())
        {
            tracing::error!(pid = self.pid, %error, "a sandbox's init could not be ended");
        }
    }
}

fn check(spec: &SpawnSpec) -> Result<(), StartError> {
    let wrong = |message: &str| Err(StartError::Request(message.to_owned()));
    if spec.uid == 0 || spec.gid == 0 {
        return wrong("a sandbox never runs as user or group 0: name another user");
    }
    if spec.argv.first().is_none_or(String::is_empty) {
        return wrong("there is no command to run");
    }
    if !spec.cwd.is_absolute() {
        return wrong("the working directory is not an absolute path");
    }
    Ok(())
}

/// Names of the namespaces in which `pid` differs from this process; an error if one is missing.
fn differing_namespaces(pid: u32, own_network: bool) -> Result<Vec<String>, StartError> {
    let mut names = vec!["pid", "mnt", "ipc", "uts", "cgroup"];
    if own_network {
        names.push("net");
    }
    for name in &names {
        let inode = |of: String| {
            let path = format!("/proc/{of}/ns/{name}");
            fs::metadata(path)
                .map(|data| data.ino())
                .map_err(system("look at the sandbox's namespaces"))
        };
        if inode(pid.to_string())? == inode("self".to_owned())? {
            return Err(StartError::Namespace(name));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn receive(
    channel: &UnixStream,
    deadline: Instant,
    step: &'static str,
) -> Result<FromInit, StartError> {
    channel::receive(channel, deadline).map_err(silent(step))
}

/// A send that failed because init had given up: its last message says why.
fn explain(
    channel: &UnixStream,
    error: ChannelError,
    deadline: Instant,
    step: &'static str,
) -> Result<(), StartError> {
    match channel::receive(channel, deadline) {
        Ok(FromInit::Failed(failed)) => Err(failed.into()),
        _ => Err(silent(step)(error)),
    }
}

fn silent(step: &'static str) -> impl FnOnce(ChannelError) -> StartError {
    move |source| StartError::Silent { step, source }
}

fn out_of_turn(step: &'static str) -> StartError {
    silent(step)(ChannelError::Malformed("out of turn".to_owned()))
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
