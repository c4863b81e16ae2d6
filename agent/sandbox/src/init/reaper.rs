//! Life of a sandbox's pid 1 while the command runs.

use std::{
    io::{self, Read, Write},
    os::fd::OwnedFd,
};

use clawd_sys::{
    descriptors::streams_to_null,
    process::{End, reap_any},
    rustix::process::{Pid, set_parent_process_death_signal},
    signals,
};

use crate::error::Failed;

/// Signals that are passed on to the command.
const FORWARDED: [i32; 12] = [
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

/// Blocks what [`reap`] waits for, from before the fork on, so that none is lost. A blocked signal
/// also reaches a pid 1, for which the kernel drops those of default action.
pub(super) fn block_signals() -> io::Result<()> {
    signals::block(&FORWARDED)?;
    signals::block(&[libc::SIGCHLD])
}

/// What the forked half writes to its end of the exec pipe where there is no command to execute.
pub(super) const NOT_EXECUTED: u8 = b'n';

/// Waits for the command's end, writes it to `status`, returns the exit code. What still runs in
/// the sandbox is killed by the kernel when pid 1 exits.
///
/// Writes nothing where the command was never executed: the daemon was told why, and a status that
/// overtook that message would hide it.
pub(super) fn reap(command: Pid, exec: impl Read, status: &OwnedFd) -> u8 {
    let settled = settle(exec);
    let executed = !matches!(settled, Ok(Exec::Failed));
    let (line, code) = match settled.and_then(|_exec| wait_for_end(command)) {
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
    let written = status
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
fn settle(mut exec: impl Read) -> io::Result<Exec> {
    // The ends of the command's pipes must be the command's alone.
    streams_to_null()?;
    // The end means that the command's program runs, or that it is gone.
    let mut told = [0];
    let exec = match exec.read(&mut told)? {
        0 => Exec::Done,
        _ => Exec::Failed,
    };
    set_parent_process_death_signal(None)?;
    Ok(exec)
}

fn wait_for_end(command: Pid) -> io::Result<End> {
    let mut waited = FORWARDED.to_vec();
    waited.push(libc::SIGCHLD);
    loop {
        let signal = signals::wait_for(&waited)?;
        if signal != libc::SIGCHLD {
            // A failure means that it has ended: SIGCHLD is next.
            drop(signals::send(command, signal));
            continue;
        }
        while let Some((pid, end)) = reap_any()? {
            if pid == command {
                return Ok(end);
            }
        }
    }
}
