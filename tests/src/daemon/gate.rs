//! The exec gate of the daemon under test, from outside.

use std::io;

use anyhow::Context as _;
use rustix::{
    fd::OwnedFd,
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde_json::Value;

use super::Daemon;

/// A process that does nothing until this is dropped.
#[derive(Debug)]
pub struct Stopped(OwnedFd);

impl Daemon {
    /// What `clawctl status` tells, in whatever health clawd is.
    ///
    /// # Panics
    /// If it prints no status.
    #[must_use]
    pub fn status(&self) -> Value {
        let output = self
            .clawctl(["--json", "status"])
            .output()
            .expect("clawctl");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no status ({error}): {output:?}"))
    }

    /// The process id of the exec gate; `None` while there is none that answers.
    #[must_use]
    pub fn gate_pid(&self) -> Option<u32> {
        let pid = self.status()["exec_gate"]["pid"].as_u64();
        pid.and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid != 0)
    }

    /// How often clawd has started its gate again.
    #[must_use]
    pub fn gate_restarts(&self) -> u64 {
        let restarts = self.status()["exec_gate"]["restarts"].as_u64();
        restarts.unwrap_or_default()
    }

    /// Stops the exec gate.
    ///
    /// # Errors
    /// There is none, or it cannot be signalled.
    pub fn stop_gate(&self) -> anyhow::Result<Stopped> {
        stop(self.gate_pid().context("no exec gate")?)
    }

    /// Stops the exec gate and clawd, which would kill a gate that is silent.
    ///
    /// # Errors
    /// One of them does not run, or cannot be signalled.
    pub fn stop_with_gate(&self) -> anyhow::Result<(Stopped, Stopped)> {
        let gate = self.gate_pid().context("no exec gate")?;
        let stopped = self.stop()?;
        Ok((stop(gate)?, stopped))
    }

    /// Ends the exec gate with SIGKILL; returns the process id that it had.
    ///
    /// # Errors
    /// There is none, or it cannot be signalled.
    pub fn kill_gate(&self) -> anyhow::Result<u32> {
        let pid = self.gate_pid().context("no exec gate")?;
        kill(pid)?;
        Ok(pid)
    }

    /// Stops clawd and ends its exec gate: there is none until what this returns is dropped.
    ///
    /// # Errors
    /// One of them does not run, or cannot be signalled.
    pub fn without_gate(&self) -> anyhow::Result<Stopped> {
        let gate = self.gate_pid().context("no exec gate")?;
        let stopped = self.stop()?;
        kill(gate)?;
        Ok(stopped)
    }

    /// Stops clawd; its gate goes on.
    ///
    /// # Errors
    /// It does not run, or cannot be signalled.
    pub fn stop(&self) -> anyhow::Result<Stopped> {
        stop(self.pid().context("clawd does not run")?)
    }

    /// The pins, as `clawctl identity list` tells.
    ///
    /// # Panics
    /// As [`Daemon::json`].
    #[must_use]
    pub fn pins(&self) -> Vec<Value> {
        let printed = self.json(&["identity", "list"]);
        let list = printed
            .first()
            .and_then(|value| value.get("pins")?.as_array().cloned());
        list.expect("a list of pins")
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        match pidfd_send_signal(&self.0, Signal::CONT) {
            // It may have been killed meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => eprintln!("a process stays stopped: {error}"),
        }
    }
}

fn open(pid: u32) -> anyhow::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.context("no process id")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn stop(pid: u32) -> anyhow::Result<Stopped> {
    let process = open(pid)?;
    pidfd_send_signal(&process, Signal::STOP).map_err(io::Error::from)?;
    Ok(Stopped(process))
}

fn kill(pid: u32) -> anyhow::Result<()> {
    pidfd_send_signal(open(pid)?, Signal::KILL).map_err(io::Error::from)?;
    Ok(())
}
