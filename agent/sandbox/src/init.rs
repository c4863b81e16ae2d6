//! The sandbox's half: pid 1, from its first instruction to the command's.

mod command;
mod confine;
mod desk;
mod entrance;
mod keeper;
mod launch;
mod reaper;
mod terminal;

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    time::{Duration, Instant},
};

use clawd_sys::{
    descriptors::inherited,
    network::loopback_up,
    process::unshare_cgroup_namespace,
    rustix::{
        event::{PollFd, PollFlags},
        fs::Mode,
        process::umask,
    },
    signals::Pending,
    spawn::{CHANNEL_FD, LISTENER_FD, REFUSALS_FD, REFUSALS_READ_FD, STATUS_FD},
};

use crate::{
    channel::{self, FromInit, ToInit},
    error::{Failed, InLayer, Layer},
    landlock_layer, seccomp,
    spec::{DEADLINE, GO_DEADLINE, Layers, SpawnSpec},
    view,
};

use self::{
    desk::Desk,
    entrance::{Base, Entrance},
    launch::{Launch, Launched},
    reaper::Duty,
};

/// Runs as the init of a sandbox; the program was started by [`crate::spawn`] and has done nothing
/// yet, least of all started a thread.
///
/// Exits with the command's code, 128+n for a signal, or 125 to 127 where there was no command.
pub fn main() -> ! {
    std::process::exit(run().into())
}

/// The exit code.
fn run() -> u8 {
    let Ok(channel) = inherited(CHANNEL_FD).map(UnixStream::from) else {
        return Failed::SETUP;
    };
    match start(&channel) {
        Ok(started) => {
            let Started {
                command,
                ends,
                signals,
                desk,
                entrance,
            } = started;
            let word = Word(Some(channel));
            let duties: Vec<Box<dyn Duty>> =
                vec![Box::new(desk), Box::new(entrance), Box::new(word)];
            reaper::reap(command, &ends, &signals, duties)
        }
        Err(failed) => report(&channel, failed),
    }
}

/// The channel, whose end tells the daemon that the command was executed, and that this process does
/// not die with it any more.
struct Word(Option<UnixStream>);

impl Duty for Word {
    fn polled(&self) -> Vec<PollFd<'_>> {
        Vec::new()
    }

    fn begin(&mut self) {
        self.0 = None;
    }

    fn attend(&mut self, _found: &[PollFlags]) -> io::Result<bool> {
        Ok(false)
    }
}

/// Tells the daemon why; nobody is left to tell where that fails, and the exit code says it too.
fn report(channel: &UnixStream, failed: Failed) -> u8 {
    let code = failed.exit_code;
    let message = FromInit::Failed(failed);
    let sent = channel::send(channel, &message, Instant::now() + DEADLINE);
    if sent.is_ok() { code } else { Failed::SETUP }
}

/// What pid 1 keeps.
struct Started {
    command: Launched,
    ends: reaper::Ends,
    signals: Pending,
    desk: Desk,
    entrance: Entrance,
}

/// What pid 1 keeps of what it was started with, and the pipe that it tells refusals through.
fn inherit_ends() -> Result<(reaper::Ends, OwnedFd), Failed> {
    let status = inherited(STATUS_FD).in_layer(Layer::Channel, "find the status pipe")?;
    let pipe = |number| inherited(number).in_layer(Layer::Channel, "find the pipe of refusals");
    let told = pipe(REFUSALS_FD)?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .in_layer(Layer::Process, "open /dev/null")?
        .into();
    let ends = reaper::Ends {
        status,
        null,
        _refusals: Some(pipe(REFUSALS_READ_FD)?),
    };
    Ok((ends, told))
}

/// Builds, confines, forks. In the child this does not return.
fn start(channel: &UnixStream) -> Result<Started, Failed> {
    let (ends, told) = inherit_ends()?;
    let listener = inherited(LISTENER_FD).in_layer(Layer::Channel, "find the entrance")?;
    let (spec, keyring) = match receive(channel, DEADLINE)? {
        ToInit::Spec { spec, keyring } => (*spec, keyring),
        ToInit::Go => return Err(out_of_turn()),
    };
    confine::verify_keyring(keyring)?;
    own_namespaces(&spec)?;
    confine::reset_oom_score()?;
    let plan = view::plan_on_host(&spec.view)?;
    let built = view::build(&plan, &spec)?;
    send(
        channel,
        &FromInit::ViewReady {
            exec_mounts: built.exec_mounts,
        },
    )?;
    match receive(channel, GO_DEADLINE)? {
        ToInit::Go => {}
        ToInit::Spec { .. } => return Err(out_of_turn()),
    }
    let landlock = landlock_layer::prepare(&plan, spec.own_network, spec.landlock)?;
    let filter = seccomp::compile(&spec.seccomp)?;
    let command = command::prepare(&spec.argv, &spec.env, &spec.cwd)?;
    let limits = confine::limits(spec.limits)?;
    confine::privileges(&spec)?;
    confine::die_with_daemon(channel)?;
    let memory_deny_write_execute = confine::memory(spec.seccomp.profile)?;
    let (landlock_abi, landlock) = landlock.enforce()?;
    let signals = reaper::take_signals().in_layer(Layer::Process, "take signals")?;
    let desk = Desk::new(filter.enforce()?, told);
    let expected = Layers {
        landlock_abi,
        landlock,
        seccomp_filters: seccomp::Filter::COUNT,
        seccomp_profile: spec.seccomp.profile,
        memory_deny_write_execute,
        namespaces: Vec::new(),
        uid: spec.uid,
        gid: spec.gid,
        groups: confine::group_numbers(&spec),
        no_new_privs: true,
        capabilities_empty: true,
        mounts: built.mounts,
        limits,
    };
    let command = Launch {
        channel,
        command: &command,
        terminal: spec.terminal,
        expected: expected.clone(),
        keeper: None,
    }
    .fork()?;
    let base = Base {
        env: spec.env,
        cwd: spec.cwd,
        expected,
    };
    Ok(Started {
        command,
        ends,
        signals,
        desk,
        entrance: Entrance::new(UnixListener::from(listener), base)?,
    })
}

#[expect(
    clippy::exit,
    reason = "the forked half must not return into the other half's code"
)]
fn leave(code: u8) -> ! {
    std::process::exit(code.into())
}

fn own_namespaces(spec: &SpawnSpec) -> Result<(), Failed> {
    // Before the view: its directories must be open to the sandbox's user, whatever clawd's mask.
    umask(Mode::WGRP | Mode::WOTH);
    clawd_sys::rustix::thread::set_name(c"clawd-init").in_layer(Layer::Process, "take a name")?;
    unshare_cgroup_namespace().in_layer(Layer::Namespaces, "make a cgroup namespace")?;
    clawd_sys::rustix::system::sethostname(spec.hostname.as_bytes())
        .in_layer(Layer::Namespaces, "set the host name")?;
    if spec.own_network {
        loopback_up().in_layer(Layer::Namespaces, "bring `lo` up")?;
    }
    Ok(())
}

fn receive(channel: &UnixStream, patience: Duration) -> Result<ToInit, Failed> {
    channel::receive(channel, Instant::now() + patience).in_layer(Layer::Channel, "hear from clawd")
}

fn send(channel: &UnixStream, message: &FromInit) -> Result<(), Failed> {
    channel::send(channel, message, Instant::now() + DEADLINE)
        .in_layer(Layer::Channel, "answer clawd")
}

fn out_of_turn() -> Failed {
    Failed::new(Layer::Channel, "clawd's messages came out of turn")
}
