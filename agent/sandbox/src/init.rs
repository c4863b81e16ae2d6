//! The sandbox's half: pid 1, from its first instruction to the command's.

mod command;
mod confine;
mod reaper;

use std::{
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Instant,
};

use clawd_sys::{
    descriptors::{close_from_on_exec, inherited},
    network::loopback_up,
    process::{Fork, fork_single_threaded, unshare_cgroup_namespace},
    rustix::{fs::Mode, process::umask},
    signals,
    spawn::{CHANNEL_FD, STATUS_FD},
};

use crate::{
    channel::{self, FromInit, ToInit},
    error::{Failed, InLayer, Layer},
    landlock_layer, seccomp,
    spec::{DEADLINE, Layers, SpawnSpec},
    view,
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
            // Closed, so that its end tells the daemon of the exec.
            drop(channel);
            reaper::reap(started.command, started.exec, &started.status)
        }
        Err(failed) => report(&channel, failed),
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
    command: clawd_sys::rustix::process::Pid,
    exec: std::io::PipeReader,
    status: OwnedFd,
}

/// Builds, confines, forks. In the child this does not return.
fn start(channel: &UnixStream) -> Result<Started, Failed> {
    let status = inherited(STATUS_FD).in_layer(Layer::Channel, "find the status pipe")?;
    let spec = match receive(channel)? {
        ToInit::Spec(spec) => *spec,
        ToInit::Go => return Err(out_of_turn()),
    };
    own_namespaces(&spec)?;
    let plan = view::plan_on_host(&spec.view)?;
    let built = view::build(&plan, spec.uid, spec.gid)?;
    send(
        channel,
        &FromInit::ViewReady {
            exec_mounts: built.exec_mounts,
        },
    )?;
    match receive(channel)? {
        ToInit::Go => {}
        ToInit::Spec(_) => return Err(out_of_turn()),
    }
    let landlock = landlock_layer::prepare(&plan.trees, spec.own_network, spec.landlock)?;
    let filters = seccomp::compile(spec.seccomp)?;
    let command = command::prepare(&spec)?;
    confine::limits()?;
    confine::privileges(&spec)?;
    confine::die_with_daemon(channel)?;
    let memory_deny_write_execute = confine::memory(spec.seccomp)?;
    let (landlock_abi, landlock) = landlock.enforce()?;
    reaper::block_signals().in_layer(Layer::Process, "block signals")?;
    let (exec, exec_end) = std::io::pipe().in_layer(Layer::Process, "make a pipe")?;
    filters.enforce()?;
    match fork_single_threaded().in_layer(Layer::Process, "fork")? {
        Fork::Parent(command) => {
            // This end must be closed in all but the command, or its end would not be seen.
            drop(exec_end);
            Ok(Started {
                command,
                exec,
                status,
            })
        }
        Fork::Child => {
            let expected = Layers {
                landlock_abi,
                landlock,
                seccomp_filters: filters.count(),
                seccomp_profile: spec.seccomp,
                memory_deny_write_execute,
                namespaces: Vec::new(),
                uid: spec.uid,
                gid: spec.gid,
                no_new_privs: true,
                capabilities_empty: true,
                mounts: built.mounts,
            };
            let failed = become_command(channel, &command, expected);
            let code = report(channel, failed);
            // Told apart from an exec, so that no status is taken for the command's; where it
            // fails, pid 1 is gone and reports nothing.
            drop((&exec_end).write_all(&[reaper::NOT_EXECUTED]));
            leave(code)
        }
    }
}

#[expect(
    clippy::exit,
    reason = "the forked half must not return into the other half's code"
)]
fn leave(code: u8) -> ! {
    std::process::exit(code.into())
}

/// The child's way to its exec; returns only why it could not.
fn become_command(channel: &UnixStream, command: &command::Command, expected: Layers) -> Failed {
    let ready = || {
        clawd_sys::rustix::process::setsid().in_layer(Layer::Process, "start a session")?;
        command.enter()?;
        signals::reset().in_layer(Layer::Process, "reset signals")?;
        let layers = confine::verify(expected)?;
        close_from_on_exec(3).in_layer(Layer::Process, "close descriptors")?;
        send(channel, &FromInit::InForce(layers))
    };
    match ready() {
        Ok(()) => command.exec(),
        Err(failed) => failed,
    }
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

fn receive(channel: &UnixStream) -> Result<ToInit, Failed> {
    channel::receive(channel, Instant::now() + DEADLINE).in_layer(Layer::Channel, "hear from clawd")
}

fn send(channel: &UnixStream, message: &FromInit) -> Result<(), Failed> {
    channel::send(channel, message, Instant::now() + DEADLINE)
        .in_layer(Layer::Channel, "answer clawd")
}

fn out_of_turn() -> Failed {
    Failed::new(Layer::Channel, "clawd's messages came out of turn")
}
