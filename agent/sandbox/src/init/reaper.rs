//! Life of a sandbox's pid 1, or of a further command's keeper, while the command runs.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use clawd_sys::{
    descriptors::point_streams_at,
    process::{End, reap_any},
    rustix::{
        event::{PollFd, PollFlags, poll},
        io::Errno,
        process::{Pid, set_parent_process_death_signal},
    },
    signals::{self, Pending},
};

use super::launch::Launched;
use crate::error::Failed;

/// Signals that are passed on to the command.
pub(super) const FORWARDED: [i32; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
];

/// What is looked after beside the command.
pub(super) trait Duty {
    /// What to wait for.
    fn polled(&self) -> Vec<PollFd<'_>>;

    /// Called once, when the command has been executed.
    fn begin(&mut self) {}

    /// Does what is to be done after a wait that found this, in the order of [`Duty::polled`]; `false`
    /// where there will be no more. Must not wait.
    ///
    /// # Errors
    /// This process must end, and with it what depends on it.
    fn attend(&mut self, found: &[PollFlags]) -> io::Result<bool>;
}

/// Blocks what [`reap`] waits for, from before the fork on, so that none is lost, and has it come by
/// a descriptor. A blocked signal also reaches a pid 1, for which the kernel drops those of default
/// action.
pub(super) fn take_signals() -> io::Result<Pending> {
    let mut taken = FORWARDED.to_vec();
    taken.push(libc::SIGCHLD);
    signals::block(&taken)?;
    Pending::of(&taken)
}

/// What the forked half writes to its end of the exec pipe where there is no command to execute.
pub(super) const NOT_EXECUTED: u8 = b'n';

/// Descriptors that are kept.
#[derive(Debug)]
pub(super) struct Ends {
    /// Write end of a pipe: how the command ended.
    pub(super) status: OwnedFd,
    /// `/dev/null` of the host: that of the view may be denied.
    pub(super) null: OwnedFd,
    /// Read end of the pipe of refusals: open in pid 1, so that the next daemon can take it.
    pub(super) _refusals: Option<OwnedFd>,
}

/// Waits for the command's end, writes it to [`Ends::status`], returns the exit code. What still runs in
/// the sandbox is killed by the kernel when pid 1 exits.
///
/// Writes nothing where the command was never executed: the daemon was told why, and a status that
/// overtook that message would hide it.
pub(super) fn reap(
    command: Launched,
    ends: &Ends,
    signals: &Pending,
    mut duties: Vec<Box<dyn Duty + '_>>,
) -> u8 {
    let settled = settle(command.exec, ends.null.as_fd());
    let executed = !matches!(settled, Ok(Exec::Failed));
    if executed {
        duties.iter_mut().for_each(|duty| duty.begin());
    }
    let end = settled.and_then(|_exec| wait_for_end(command.pid, signals, &mut duties));
    let (line, code) = match end {
        Ok(End::Exited(code)) => (format!("exit {code}\n"), code),
        Ok(End::Signalled(signal)) => {
            let code = 128_i32.saturating_add(signal);
            (format!("signal {signal}\n"), code)
        }
        Err(_) => (
            format!("exit {}\n", Failed::SETUP),
            i32::from(Failed::SETUP),
        ),
    };
    if !executed {
        return u8::try_from(code).unwrap_or(u8::MAX);
    }
    let written = ends
        .status
        .try_clone()
        .and_then(|fd| std::fs::File::from(fd).write_all(line.as_bytes()));
    // Where it failed, whoever waited for the line is gone; the exit code still says it.
    drop(written);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// What became of the command's exec.
enum Exec {
    /// Its program runs, or was killed on the way.
    Done,
    /// There is no command.
    Failed,
}

/// Lets go of what belongs to the command and, once it is executed, of the daemon.
fn settle(mut exec: impl Read, null: BorrowedFd<'_>) -> io::Result<Exec> {
    // The ends of the command's pipes must be the command's alone.
    point_streams_at(null)?;
    // The end means that the command's program runs, or that it is gone.
    let mut told = [0];
    let exec = match exec.read(&mut told)? {
        0 => Exec::Done,
        _ => Exec::Failed,
    };
    set_parent_process_death_signal(None)?;
    Ok(exec)
}

fn wait_for_end(
    command: Pid,
    signals: &Pending,
    duties: &mut Vec<Box<dyn Duty + '_>>,
) -> io::Result<End> {
    loop {
        let mut found = wait(signals, duties)?.into_iter();
        let mut going_on = Vec::with_capacity(duties.len());
        for mut duty in duties.drain(..) {
            let found = found.next().unwrap_or_default();
            let is_ready = found.iter().any(|flags| !flags.is_empty());
            if !is_ready || duty.attend(&found)? {
                going_on.push(duty);
            }
        }
        *duties = going_on;
        if let Some(end) = pass_on(command, signals)? {
            return Ok(end);
        }
    }
}

/// Waits until there is something to do; returns what was found for each of the duties.
fn wait(signals: &Pending, duties: &[Box<dyn Duty + '_>]) -> io::Result<Vec<Vec<PollFlags>>> {
    let mut polled = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    let mut counts = Vec::with_capacity(duties.len());
    for duty in duties {
        let before = polled.len();
        polled.extend(duty.polled());
        counts.push(polled.len() - before);
    }
    match poll(&mut polled, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut found = polled.iter().skip(1).map(PollFd::revents);
    let found_of = |count: usize| found.by_ref().take(count).collect();
    Ok(counts.into_iter().map(found_of).collect())
}

/// Passes on the signals that are pending, and reaps who has ended; the command's end, if it has.
fn pass_on(command: Pid, pending: &Pending) -> io::Result<Option<End>> {
    while let Some(signal) = pending.take()? {
        if signal != libc::SIGCHLD {
            // A failure means that it has ended: SIGCHLD is next.
            drop(signals::send(command, signal));
            continue;
        }
        while let Some((pid, end)) = reap_any()? {
            if pid == command {
                return Ok(Some(end));
            }
        }
    }
    Ok(None)
}
