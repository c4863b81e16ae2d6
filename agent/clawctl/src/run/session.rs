//! A run from the hand-over to its exit status.
//!
//! Two sources tell what becomes of the command: the connection (clawd) and the status pipe (the
//! sandbox's own first process). The pipe has the last word and does not need clawd.

use std::time::Duration;

use clawd_control::{ClientMessage, ExitCode, ExitStatus, RunEvent, SandboxName, exit, limits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
};

use crate::{
    client::RunConnection,
    failure::Failure,
    lines::{Lines, TooLong},
    output,
};

use super::signals::Signals;

/// How long clawd may take to clear an ended sandbox away.
const CLEARED_DEADLINE: Duration = Duration::from_secs(5);

/// A run that clawd has the descriptors of.
pub(super) struct Session {
    from_clawd: OwnedReadHalf,
    to_clawd: OwnedWriteHalf,
    lines: Lines,
    status: pipe::Receiver,
    status_line: Vec<u8>,
    state: State,
    /// Whether clawd still reads and writes.
    connected: bool,
    /// Whether the status pipe can still say something.
    status_open: bool,
}

/// What is known of the command.
enum State {
    /// clawd has not said.
    Starting,
    Started(SandboxName),
}

/// Something happened.
enum Step {
    Status(std::io::Result<usize>),
    Clawd(std::io::Result<usize>),
    Signal(i32),
}

// === impl Session ===

impl Session {
    /// Takes over the connection and the status pipe's read end.
    pub(super) fn new(connection: RunConnection, status: pipe::Receiver) -> Result<Self, Failure> {
        let RunConnection { stream, read } = connection;
        let (from_clawd, to_clawd) = UnixStream::into_split(stream);
        let mut session = Self {
            from_clawd,
            to_clawd,
            lines: Lines::new(limits::LINE_BYTES),
            status,
            status_line: Vec::new(),
            state: State::Starting,
            connected: true,
            status_open: true,
        };
        session.take_in(&read)?;
        Ok(session)
    }

    /// Waits for the command to end, forwarding signals; returns its exit code.
    pub(super) async fn outcome(mut self, mut signals: Signals) -> Result<u8, Failure> {
        let mut status_bytes = [0; exit::STATUS_LINE_BYTES];
        let mut clawd_bytes = [0; 4096];
        loop {
            match self.ended() {
                Ok(None) => {}
                Ok(Some(code)) => {
                    self.until_cleared().await;
                    return Ok(code);
                }
                Err(failure) => {
                    self.until_cleared().await;
                    return Err(failure);
                }
            }
            let step = tokio::select! {
                // In this order: an exit status that is there ends the run, whatever else is.
                biased;
                read = self.status.read(&mut status_bytes), if self.status_open => Step::Status(read),
                read = self.from_clawd.read(&mut clawd_bytes), if self.connected => Step::Clawd(read),
                signal = signals.next() => Step::Signal(signal),
            };
            match step {
                Step::Status(read) => {
                    let count = read.unwrap_or(0);
                    self.status_open = count > 0;
                    let bytes = status_bytes.get(..count).unwrap_or_default();
                    self.status_line.extend_from_slice(bytes);
                }
                Step::Clawd(read) => {
                    let count = read.unwrap_or(0);
                    self.connected = count > 0;
                    self.take_in(clawd_bytes.get(..count).unwrap_or_default())?;
                }
                Step::Signal(signal) => self.forward(signal).await?,
            }
        }
    }

    /// Waits until clawd has cleared the sandbox away, so that its name is free for whatever the
    /// caller does next. clawd closes the connection then; without clawd it is closed already.
    async fn until_cleared(&mut self) {
        let mut bytes = [0; 256];
        let closed = async {
            while self.connected {
                // Nothing that is still said matters: the command has ended.
                let read = self.from_clawd.read(&mut bytes).await;
                self.connected = read.is_ok_and(|count| count > 0);
            }
        };
        // Past the deadline the exit status is worth more than the free name.
        drop(tokio::time::timeout(CLEARED_DEADLINE, closed).await);
    }

    /// The exit code, once what is known suffices.
    fn ended(&self) -> Result<Option<u8>, Failure> {
        let mut parts = self.status_line.splitn(2, |b| *b == b'\n');
        if let (Some(line), Some(_)) = (parts.next(), parts.next()) {
            let line = String::from_utf8_lossy(line);
            let status: ExitStatus = line.parse().map_err(|error: exit::ExitStatusError| {
                Failure::setup(format!("the sandbox ended, but its exit status is {error}"))
            })?;
            return Ok(Some(status.exit_code()));
        }
        if self.status_line.len() > exit::STATUS_LINE_BYTES {
            return Err(Failure::setup("the sandbox's exit status has no end"));
        }
        if self.status_open {
            return Ok(None);
        }
        match &self.state {
            State::Started(name) => Err(Failure::setup(format!(
                "sandbox {name} was killed before its command ended"
            ))
            .with_code(ExitCode::Killed)),
            // clawd may have said more than was read yet.
            State::Starting if self.connected => Ok(None),
            State::Starting => Err(Failure::setup(
                "clawd closed the connection before the command started; see its log",
            )),
        }
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let lines = self.lines.push(bytes);
        let lines = lines.map_err(|TooLong| Failure::setup("clawd sent a message without end"))?;
        for line in lines {
            let event = serde_json::from_slice(&line).map_err(|error| {
                Failure::setup(format!(
                    "clawd sent a message that is not understood: {error}"
                ))
            })?;
            match event {
                RunEvent::Started { sandbox, .. } => self.state = State::Started(sandbox),
                RunEvent::Failed { exit_code, message } => {
                    return Err(Failure::setup(message).with_code(start_code(exit_code)));
                }
            }
        }
        Ok(())
    }

    async fn forward(&mut self, signal: i32) -> Result<(), Failure> {
        let mut line = output::json(&ClientMessage::Signal { signal });
        line.push('\n');
        if self.connected && self.to_clawd.write_all(line.as_bytes()).await.is_ok() {
            return Ok(());
        }
        // Whoever signals wants an end; without clawd only this process can be ended.
        let code = u8::try_from(signal).map_or(ExitCode::Setup.code(), |signal| {
            ExitStatus::Signaled(signal).exit_code()
        });
        let message = format!(
            "clawd is gone, so signal {signal} cannot be handed on; the sandbox goes on without clawctl"
        );
        Err(Failure { code, message })
    }
}

/// Why a command did not start, as an exit code; any that is not one of these is "set-up".
fn start_code(sent: u8) -> ExitCode {
    [ExitCode::NotExecutable, ExitCode::NotFound, ExitCode::Usage]
        .into_iter()
        .find(|code| code.code() == sent)
        .unwrap_or(ExitCode::Setup)
}

#[cfg(test)]
mod tests;
