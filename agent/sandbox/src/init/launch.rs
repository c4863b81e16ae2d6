//! From a confined process to its command: fork, verify, execute.

use std::{
    io::{PipeReader, PipeWriter, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::Instant,
};

use clawd_sys::{
    descriptors::{close_all_but, close_from_on_exec},
    process::{Fork, fork_single_threaded},
    rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid},
    signals,
};

use super::{command::Command, confine, leave, reaper, report, send, terminal};
use crate::{
    channel::{self, FromInit, ToKeeper},
    error::{Failed, InLayer, Layer},
    spec::{DEADLINE, Layers, TerminalSize},
};

/// A command that is to be executed in a process that is confined already.
pub(super) struct Launch<'a> {
    /// To the daemon.
    pub(super) channel: &'a UnixStream,
    pub(super) command: &'a Command,
    /// Whether it gets a terminal of its own, in place of its streams.
    pub(super) terminal: Option<TerminalSize>,
    /// What must be found in force.
    pub(super) expected: Layers,
    /// The process that a further command ends with; it also waits for the daemon's word.
    pub(super) keeper: Option<Pid>,
}

/// A command's process, on its way to its exec.
pub(super) struct Launched {
    pub(super) pid: Pid,
    /// Ends with the exec; a byte comes before where there is none.
    pub(super) exec: PipeReader,
}

// === impl Launch ===

impl Launch<'_> {
    /// Forks the command's process. In the child this does not return.
    pub(super) fn fork(self) -> Result<Launched, Failed> {
        let (exec, exec_end) = std::io::pipe().in_layer(Layer::Process, "make a pipe")?;
        match fork_single_threaded().in_layer(Layer::Process, "fork")? {
            Fork::Parent(pid) => {
                // This end must be closed in all but the command, or its end would not be seen.
                drop(exec_end);
                Ok(Launched { pid, exec })
            }
            Fork::Child => {
                // What is refused from here on waits for pid 1's answer, which alone has the rest.
                close_all_but(&[self.channel.as_fd(), exec_end.as_fd()]);
                leave(self.become_command(&exec_end))
            }
        }
    }

    /// Executes the command; returns the exit code only where that failed.
    fn become_command(self, mut exec_end: &PipeWriter) -> u8 {
        let channel = self.channel;
        let failed = self.execute();
        let code = report(channel, failed);
        // Told apart from an exec, so that no status is taken for the command's; where it fails,
        // the other half is gone and reports nothing.
        drop(exec_end.write_all(&[reaper::NOT_EXECUTED]));
        code
    }

    /// The way to the exec; returns only why there is none.
    fn execute(self) -> Failed {
        let command = self.command;
        match self.ready() {
            Ok(()) => command.exec(),
            Err(failed) => failed,
        }
    }

    fn ready(self) -> Result<(), Failed> {
        if let Some(keeper) = self.keeper {
            die_with(keeper)?;
        }
        setsid().in_layer(Layer::Process, "start a session")?;
        if let Some(size) = self.terminal {
            terminal::take(size)?;
        }
        self.command.enter()?;
        signals::reset().in_layer(Layer::Process, "reset signals")?;
        let layers = confine::verify(self.expected)?;
        close_from_on_exec(3).in_layer(Layer::Process, "close descriptors")?;
        send(self.channel, &FromInit::InForce(layers))?;
        if self.keeper.is_none() {
            return Ok(());
        }
        let said = channel::receive(self.channel, Instant::now() + DEADLINE);
        match said.in_layer(Layer::Channel, "hear from clawd")? {
            ToKeeper::Go => Ok(()),
            ToKeeper::Enter(_) | ToKeeper::Signal(_) => Err(super::out_of_turn()),
        }
    }
}

/// Nobody would tell of the command's end, nor end it with its caller.
fn die_with(keeper: Pid) -> Result<(), Failed> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .in_layer(Layer::Process, "die with the keeper")?;
    if getppid() == Some(keeper) {
        Ok(())
    } else {
        Err(Failed::new(Layer::Process, "the keeper is gone"))
    }
}
