//! Life of a further command: a process that starts it, passes signals on, tells of its end, and ends
//! it with whoever asked for it.
//!
//! A child of pid 1, confined as the command itself is. It needs no daemon once the command runs.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use clawd_sys::{
    passing::recv_with_fds,
    rustix::{
        event::{PollFd, PollFlags},
        io::fcntl_dupfd_cloexec,
        process::{Pid, getpid},
        stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin},
    },
    signals::{self, Pending},
};

use super::{
    command,
    entrance::Base,
    launch::{Launch, Launched},
    out_of_turn,
    reaper::{self, Duty, Ends, FORWARDED},
    report,
};
use crate::{
    channel::{self, DESCRIPTORS_MAX, FromInit, ToKeeper},
    error::{Failed, InLayer, Layer},
    spec::{DEADLINE, EnterSpec},
};

/// How long a message of the daemon's may take once it has begun.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(1);
/// How often a session is looked through for processes that were forked while others were killed.
const KILL_ROUNDS: u32 = 200;

/// Serves one connection; returns the exit code of this process, which nobody asks for.
pub(super) fn keep(channel: UnixStream, base: &Base) -> u8 {
    match start(&channel, base) {
        Ok((command, ends, signals)) => tend(channel, command, &ends, &signals),
        Err(failed) => report(&channel, failed),
    }
}

/// Forks the command. In the child this does not return.
fn start(channel: &UnixStream, base: &Base) -> Result<(Launched, Ends, Pending), Failed> {
    let deadline = Instant::now() + DEADLINE;
    // Pid 1 has it for its streams since its own command runs.
    let null = fcntl_dupfd_cloexec(stdin(), 0).in_layer(Layer::Process, "keep /dev/null")?;
    let (streams, status) = descriptors(channel, deadline)?;
    let spec =
        match channel::receive(channel, deadline).in_layer(Layer::Channel, "hear from clawd")? {
            ToKeeper::Enter(spec) => *spec,
            ToKeeper::Go | ToKeeper::Signal(_) => return Err(out_of_turn()),
        };
    place(&streams).in_layer(Layer::Process, "take the standard streams")?;
    drop(streams);
    let env = environment(base, &spec);
    let command = command::prepare(&spec.argv, &env, &base.cwd)?;
    let signals = reaper::take_signals().in_layer(Layer::Process, "take signals")?;
    let command = Launch {
        channel,
        command: &command,
        terminal: spec.terminal,
        expected: base.expected.clone(),
        keeper: Some(getpid()),
    }
    .fork()?;
    let ends = Ends {
        status,
        null,
        _refusals: None,
    };
    Ok((command, ends, signals))
}

/// The standard streams (or one socket in the place of all three), and the status pipe.
fn descriptors(channel: &UnixStream, deadline: Instant) -> Result<(Vec<OwnedFd>, OwnedFd), Failed> {
    let patience = deadline.saturating_duration_since(Instant::now());
    channel
        .set_read_timeout(Some(patience.max(Duration::from_millis(1))))
        .in_layer(Layer::Channel, "wait for the descriptors")?;
    let mut byte = [0];
    let (_, mut fds) = recv_with_fds(channel, &mut byte, DESCRIPTORS_MAX)
        .in_layer(Layer::Channel, "take the descriptors")?;
    match (fds.pop(), fds.len()) {
        (Some(status), 1 | 3) => Ok((fds, status)),
        _ => Err(Failed::new(
            Layer::Channel,
            "clawd sent another number of descriptors than a command takes",
        )),
    }
}

fn place(streams: &[OwnedFd]) -> io::Result<()> {
    let stream = |number: usize| {
        let fd = streams.get(number).or_else(|| streams.first());
        fd.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    };
    dup2_stdin(stream(0)?)?;
    dup2_stdout(stream(1)?)?;
    dup2_stderr(stream(2)?)?;
    Ok(())
}

/// That of the first command, with the variables that this one adds or replaces.
fn environment(base: &Base, spec: &EnterSpec) -> Vec<(String, String)> {
    let is_new = |name: &str| spec.env.iter().all(|(other, _)| other != name);
    let kept = base.env.iter().filter(|(name, _)| is_new(name));
    kept.chain(&spec.env).cloned().collect()
}

/// Waits for the command's end, and tells of it.
fn tend(channel: UnixStream, command: Launched, ends: &Ends, signals: &Pending) -> u8 {
    let pid = command.pid;
    let caller = Caller {
        status: ends.status.as_fd(),
        session: pid,
    };
    let orders = Orders {
        channel,
        command: pid,
    };
    reaper::reap(
        command,
        ends,
        signals,
        vec![Box::new(caller), Box::new(orders)],
    )
}

/// Whoever asked for the command: holds the other end of the status pipe.
struct Caller<'a> {
    status: BorrowedFd<'a>,
    session: Pid,
}

impl Duty for Caller<'_> {
    fn polled(&self) -> Vec<PollFd<'_>> {
        // That nobody reads any more is told without being asked for.
        vec![PollFd::from_borrowed_fd(self.status, PollFlags::empty())]
    }

    fn attend(&mut self, _found: &[PollFlags]) -> io::Result<bool> {
        // Where `/proc` cannot be read, the command alone is ended.
        if end_session(self.session).is_err() {
            drop(signals::send(self.session, libc::SIGKILL));
        }
        Ok(false)
    }
}

/// The daemon's messages. Where the daemon is gone, none come.
struct Orders {
    channel: UnixStream,
    command: Pid,
}

impl Duty for Orders {
    fn polled(&self) -> Vec<PollFd<'_>> {
        vec![PollFd::from_borrowed_fd(
            self.channel.as_fd(),
            PollFlags::IN,
        )]
    }

    fn begin(&mut self) {
        let deadline = Instant::now() + MESSAGE_DEADLINE;
        // A daemon that is gone needs no word.
        drop(channel::send(&self.channel, &FromInit::Executed, deadline));
    }

    fn attend(&mut self, _found: &[PollFlags]) -> io::Result<bool> {
        let deadline = Instant::now() + MESSAGE_DEADLINE;
        match channel::receive(&self.channel, deadline) {
            Ok(ToKeeper::Signal(signal)) if FORWARDED.contains(&signal) => {
                // A failure means that it has ended: that is told next.
                drop(signals::send(self.command, signal));
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Kills every process of a session. What made a session of its own belongs to the sandbox.
fn end_session(session: Pid) -> io::Result<()> {
    for _ in 0..KILL_ROUNDS {
        let mut found = false;
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|text| text.parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw) else {
                continue;
            };
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if session_of(&stat) == Some(session.as_raw_nonzero().get()) {
                found = true;
                // A failure means that it ended by itself.
                drop(signals::send(pid, libc::SIGKILL));
            }
        }
        if !found {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The session of a live process, from its line in `/proc/<pid>/stat`. Its name may hold anything.
fn session_of(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let session = fields.nth(2)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::session_of;

    #[test]
    fn session_of_a_process_whose_name_looks_like_fields() {
        let stat = "12 (a) S 1 2 3 (x)) R 5 6 7 0 -1 4194304";
        assert_eq!(session_of(stat), Some(7));
        assert_eq!(session_of("12 (a) Z 5 6 7 0"), None);
        for broken in ["", "12 (a", "12 (a) R", "12 (a) R 1 2", "12 (a) R 1 2 x"] {
            assert_eq!(session_of(broken), None, "{broken}");
        }
    }
}
