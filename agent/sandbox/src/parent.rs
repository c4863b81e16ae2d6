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
    descriptors::{is_unix_socket, unfit_as_stream},
    keyring::session_keyring,
    process::kill_and_reap,
    rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    spawn::{CloneRequest, spawn_into},
};

use crate::{
    cgroups::Cgroups,
    channel::{self, ChannelError, FromInit, ToInit},
    error::StartError,
    spec::{DEADLINE, Group, Layers, SpawnSpec, TerminalSize},
};

/// What a command gets of the caller's descriptors. They are closed here once it has them.
#[derive(Debug)]
pub struct Descriptors {
    /// Its standard streams.
    pub streams: Streams,
    /// Write end of a pipe; one line comes when the command ends: `exit N` or `signal N`.
    pub status: OwnedFd,
}

/// A command's standard streams.
#[derive(Debug)]
pub enum Streams {
    /// Input, output and error, as the caller gives them.
    Given([OwnedFd; 3]),
    /// A terminal in the sandbox is all three; its other side is sent to this unix socket.
    Terminal(OwnedFd),
}

/// A sandbox whose view stands and whose command has not started. Dropping it ends it.
#[derive(Debug)]
#[must_use]
pub struct ViewReady {
    init: Init,
    channel: UnixStream,
    refusals: OwnedFd,
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
    /// Read end of the pipe of [`crate::Refusal`]s, which does not block; its pid 1 has it open too,
    /// as descriptor [`crate::REFUSALS_READ_FD`].
    pub refusals: OwnedFd,
}

/// The init process, killed and reaped unless [`Init::release`]d.
#[derive(Debug)]
struct Init {
    pid: u32,
    pidfd: Option<OwnedFd>,
}

/// Starts a sandbox's init in `cgroups` and has it build the view. Blocks for milliseconds, at most
/// [`DEADLINE`].
///
/// `listener` is a listening unix socket that nobody but root can connect to: where [`crate::enter`]
/// comes in. `init_exe` is a program that calls [`crate::init::main`] when its first argument is
/// [`crate::INIT_ARGUMENT`]. Until [`ViewReady::go`] has returned, the sandbox dies with the calling
/// *thread*.
///
/// # Errors
/// Any of [`StartError`]; nothing is left running.
pub fn spawn(
    spec: &SpawnSpec,
    cgroups: &Cgroups,
    init_exe: BorrowedFd<'_>,
    listener: BorrowedFd<'_>,
    fds: Descriptors,
) -> Result<ViewReady, StartError> {
    let deadline = Instant::now() + DEADLINE;
    check(spec)?;
    fds.check(spec.terminal)?;
    let (channel, theirs) = UnixStream::pair().map_err(system("make a socket pair"))?;
    let (refusals, tell_refusals) = refusals_pipe().map_err(system("make a pipe"))?;
    let [stdin, stdout, stderr] = fds.streams.three();
    let cloned = spawn_into(&CloneRequest {
        cgroup: cgroups.unified(),
        exe: init_exe,
        argv: &[c"clawd", c"sandbox-init"],
        descriptors: [
            stdin,
            stdout,
            stderr,
            theirs.as_fd(),
            fds.status.as_fd(),
            tell_refusals.as_fd(),
            refusals.as_fd(),
            listener,
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
    // It waits for its specification, and has done nothing of the sandbox's yet.
    cgroups
        .enter(init.pid)
        .map_err(system("put the sandbox's first process into its cgroups"))?;
    // Closed here, so that the end of the sandbox is the end of the channel and of the pipes.
    drop((theirs, fds, tell_refusals));
    let message = ToInit::Spec {
        spec: Box::new(spec.clone()),
        keyring: session_keyring().map_err(system("look at the session keyring"))?,
    };
    channel::send(&channel, &message, deadline)
        .or_else(|error| explain(&channel, error, deadline, "reading its specification"))?;
    let exec_mounts = match receive(&channel, deadline, "building the mount view")? {
        FromInit::ViewReady { exec_mounts } => exec_mounts,
        FromInit::Failed(failed) => return Err(failed.into()),
        FromInit::InForce(_) | FromInit::Executed => {
            return Err(out_of_turn("building the mount view"));
        }
    };
    let namespaces = differing_namespaces(init.pid, spec.own_network)?;
    Ok(ViewReady {
        init,
        channel,
        refusals,
        namespaces,
        exec_mounts,
    })
}

/// Room for some thousand records: what a busy sandbox is refused while clawd is started again.
fn refusals_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    const BYTES: usize = 256 << 10;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Where the kernel gives less, more may be lost, and is counted.
    if let Err(error) = fcntl_setpipe_size(&writer, BYTES) {
        tracing::warn!(%error, "a sandbox's pipe of refusals keeps its usual size");
    }
    Ok((reader, writer))
}

/// Refuses a descriptor that would lead out of the sandbox.
fn fit(stream: &'static str, fd: &OwnedFd) -> Result<(), StartError> {
    match unfit_as_stream(fd.as_fd()).map_err(system("look at a standard stream"))? {
        Some(unfit) => Err(StartError::Stream { stream, unfit }),
        None => Ok(()),
    }
}

// === impl Descriptors ===

impl Descriptors {
    /// Refuses descriptors that would lead out of the sandbox, or are not what the command is to have.
    pub(crate) fn check(&self, terminal: Option<TerminalSize>) -> Result<(), StartError> {
        self.streams.check(terminal)?;
        fit("the status pipe", &self.status)
    }
}

// === impl Streams ===

impl Streams {
    /// Refuses streams that are not what the command is to have.
    fn check(&self, terminal: Option<TerminalSize>) -> Result<(), StartError> {
        match (self, terminal) {
            (Self::Given(given), None) => ["stdin", "stdout", "stderr"]
                .into_iter()
                .zip(given)
                .try_for_each(|(stream, fd)| fit(stream, fd)),
            (Self::Terminal(socket), Some(_)) => {
                // It is seen by the command's process alone, and by that only before its exec.
                match is_unix_socket(socket.as_fd()).map_err(system("look at a socket"))? {
                    true => Ok(()),
                    false => Err(StartError::Request(
                        "what a terminal is to be sent to is no unix socket".to_owned(),
                    )),
                }
            }
            (Self::Given(_), Some(_)) | (Self::Terminal(_), None) => Err(StartError::Request(
                "a command has either a terminal or streams".to_owned(),
            )),
        }
    }

    /// What is placed at 0, 1 and 2.
    pub(crate) fn three(&self) -> [BorrowedFd<'_>; 3] {
        match self {
            Self::Given(given) => given.each_ref().map(AsFd::as_fd),
            Self::Terminal(socket) => [socket.as_fd(); 3],
        }
    }

    /// As they travel to a keeper.
    pub(crate) fn all(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Given(given) => given.iter().map(AsFd::as_fd).collect(),
            Self::Terminal(socket) => vec![socket.as_fd()],
        }
    }
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
            refusals,
            namespaces,
            ..
        } = self;
        channel::send(&channel, &ToInit::Go, deadline)
            .or_else(|error| explain(&channel, error, deadline, "going on"))?;
        let mut layers = match receive(&channel, deadline, "confining itself")? {
            FromInit::InForce(layers) => layers,
            FromInit::Failed(failed) => return Err(failed.into()),
            FromInit::ViewReady { .. } | FromInit::Executed => {
                return Err(out_of_turn("confining itself"));
            }
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
            refusals,
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

/// A command of no words.
pub(crate) const NO_COMMAND: &str = "there is no command to run";

fn check(spec: &SpawnSpec) -> Result<(), StartError> {
    let wrong = |message: &str| Err(StartError::Request(message.to_owned()));
    let root = |group: &Group| group.gid == 0;
    if spec.uid == 0 || spec.gid == 0 || spec.groups.iter().any(root) {
        return wrong("a sandbox never runs as user or group 0: name another user");
    }
    if spec.argv.first().is_none_or(String::is_empty) {
        return wrong(NO_COMMAND);
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

pub(crate) fn receive(
    channel: &UnixStream,
    deadline: Instant,
    step: &'static str,
) -> Result<FromInit, StartError> {
    channel::receive(channel, deadline).map_err(silent(step))
}

/// A send that failed because init had given up: its last message says why.
pub(crate) fn explain(
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

pub(crate) fn silent(step: &'static str) -> impl FnOnce(ChannelError) -> StartError {
    move |source| StartError::Silent { step, source }
}

pub(crate) fn out_of_turn(step: &'static str) -> StartError {
    silent(step)(ChannelError::Malformed("out of turn".to_owned()))
}

pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
