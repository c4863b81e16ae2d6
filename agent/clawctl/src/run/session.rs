//! A run from the hand-over to its exit status.
//!
//! Two sources tell what becomes of the command: the connection (clawd) and the status pipe (the
//! sandbox's own first process). The pipe has the last word and does not need clawd.

use std::{future::pending, os::fd::OwnedFd, time::Duration};

use clawd_control::{ClientMessage, ExitCode, ExitStatus, RunEvent, SandboxName, exit, limits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    sync::oneshot,
};

use crate::{
    client::RunConnection,
    failure::Failure,
    lines::{Lines, TooLong},
    output,
};

use super::{
    relay::Relay,
    signals::{Came, Signals},
    streams::Streams,
    terminal::Awaited,
};

/// How long clawd may take to clear an ended sandbox away.
const CLEARED_DEADLINE: Duration = Duration::from_secs(5);

/// How long the other side of a terminal may take that was sent before the command's exec.
const TERMINAL_DEADLINE: Duration = Duration::from_secs(5);

/// Whose command it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The first of its sandbox.
    Run,
    /// A further one.
    Exec,
}

/// How a command's input and output come and go.
pub(super) enum Attached {
    /// As these streams.
    Streams(Streams),
    /// Through a terminal, which is awaited.
    Terminal(Awaited),
}

/// A command's terminal, as far as it has come.
enum Terminal {
    None,
    Awaited(Awaited),
    /// It is there; the command may not run yet.
    Waiting(OwnedFd),
    Joined(Relay),
}

/// A command that clawd has the descriptors of.
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
    kind: Kind,
    terminal: Terminal,
    streams: Option<Streams>,
    /// Told when this terminal is gone.
    hung_up: Option<oneshot::Receiver<()>>,
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
    Signal(Came),
    Terminal(Option<OwnedFd>),
    HungUp,
}

// === impl Session ===

impl Session {
    /// Takes over the connection and the status pipe's read end.
    pub(super) fn new(
        connection: RunConnection,
        status: pipe::Receiver,
        kind: Kind,
        attached: Attached,
    ) -> Result<Self, Failure> {
        let RunConnection { stream, read } = connection;
        let (from_clawd, to_clawd) = UnixStream::into_split(stream);
        let (streams, terminal) = match attached {
            Attached::Streams(streams) => (Some(streams), Terminal::None),
            Attached::Terminal(awaited) => (None, Terminal::Awaited(awaited)),
        };
        let mut session = Self {
            from_clawd,
            to_clawd,
            lines: Lines::new(limits::LINE_BYTES),
            status,
            status_line: Vec::new(),
            state: State::Starting,
            connected: true,
            status_open: true,
            kind,
            terminal,
            streams,
            hung_up: None,
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
                ended => {
                    self.leave_terminal().await?;
                    if let Some(streams) = self.streams.take() {
                        streams.finish(&mut signals).await?;
                    }
                    self.until_cleared().await;
                    return ended.map(Option::unwrap_or_default);
                }
            }
            self.join()?;
            let step = tokio::select! {
                // In this order: an exit status that is there ends the run, whatever else is.
                biased;
                read = self.status.read(&mut status_bytes), if self.status_open => Step::Status(read),
                read = self.from_clawd.read(&mut clawd_bytes), if self.connected => Step::Clawd(read),
                signal = signals.next() => Step::Signal(signal),
                terminal = self.terminal.receive() => Step::Terminal(terminal),
                () = gone(&mut self.hung_up) => Step::HungUp,
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
                Step::Signal(Came::Forwarded(signal)) => self.forward(signal).await?,
                Step::Signal(Came::Resized) => self.terminal.resize(),
                Step::Terminal(terminal) => {
                    self.terminal = terminal.map_or(Terminal::None, Terminal::Waiting);
                }
                Step::HungUp => return Err(hung_up()),
            }
        }
    }

    /// Joins terminals or streams once the command runs. What clawd says before is shown on this
    /// terminal as it was; a clawd that is gone says nothing more.
    fn join(&mut self) -> Result<(), Failure> {
        if matches!(self.state, State::Starting) && self.connected {
            return Ok(());
        }
        if let Some(streams) = &mut self.streams {
            streams.begin()?;
        }
        self.terminal = match std::mem::replace(&mut self.terminal, Terminal::None) {
            Terminal::Waiting(command) => {
                let (tell, hung_up) = oneshot::channel();
                self.hung_up = Some(hung_up);
                Terminal::Joined(Relay::start(command, tell)?)
            }
            other => other,
        };
        Ok(())
    }

    /// Shows what the command has printed last, and puts this terminal back.
    async fn leave_terminal(&mut self) -> Result<(), Failure> {
        match std::mem::replace(&mut self.terminal, Terminal::None) {
            Terminal::None => {}
            Terminal::Joined(relay) => relay.finish(),
            Terminal::Waiting(command) => Relay::show(command)?.finish(),
            // The command was quicker than its terminal; where it was killed, none comes.
            Terminal::Awaited(awaited) => {
                let received = tokio::time::timeout(TERMINAL_DEADLINE, awaited.receive()).await;
                if let Ok(Some(command)) = received {
                    Relay::show(command)?.finish();
                }
            }
        }
        Ok(())
    }

    /// Waits until clawd has cleared the sandbox away, so that its name is free for whatever the
    /// caller does next. clawd closes the connection then; without clawd it is closed already. A
    /// command that was quicker than clawd's word of its start has that word waiting here.
    async fn until_cleared(&mut self) {
        let mut bytes = [0; 4096];
        let closed = async {
            while self.connected {
                let count = self.from_clawd.read(&mut bytes).await.unwrap_or(0);
                self.connected = count > 0;
                let said = bytes.get(..count).unwrap_or_default();
                if matches!(self.state, State::Starting) && self.take_in(said).is_err() {
                    // The exit status is there, and says more.
                    return;
                }
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
            State::Started(name) => Err(killed(self.kind, name)),
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
                RunEvent::Started {
                    sandbox, warnings, ..
                } => {
                    crate::policy::warn(&warnings);
                    self.state = State::Started(sandbox);
                }
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
        let what_becomes = match self.kind {
            Kind::Run => "the sandbox goes on without clawctl",
            Kind::Exec => "the command ends with clawctl",
        };
        let message =
            format!("clawd is gone, so signal {signal} cannot be handed on; {what_becomes}");
        Err(Failure { code, message })
    }
}

// === impl Terminal ===

impl Terminal {
    /// The command's terminal, when it comes; `None` where it will not.
    async fn receive(&self) -> Option<OwnedFd> {
        match self {
            Self::Awaited(awaited) => awaited.receive().await,
            Self::None | Self::Waiting(_) | Self::Joined(_) => pending().await,
        }
    }

    fn resize(&self) {
        if let Self::Joined(relay) = self {
            relay.resize();
        }
    }
}

/// Waits until this terminal is gone. Nothing is lost if the future is dropped.
async fn gone(hung_up: &mut Option<oneshot::Receiver<()>>) {
    if let Some(told) = hung_up
        && told.await.is_ok()
    {
        return;
    }
    // The relay has ended for another reason, or has not begun.
    *hung_up = None;
    pending().await
}

fn hung_up() -> Failure {
    const SIGHUP: u8 = 1;
    Failure {
        code: ExitStatus::Signaled(SIGHUP).exit_code(),
        message: "the terminal is gone".to_owned(),
    }
}

fn killed(kind: Kind, sandbox: &SandboxName) -> Failure {
    let message = match kind {
        Kind::Run => format!("sandbox {sandbox} was killed before its command ended"),
        Kind::Exec => format!("sandbox {sandbox} ended, or was killed, before the command did"),
    };
    Failure::setup(message).with_code(ExitCode::Killed)
}

/// Why a command did not start, as an exit code; any that is not one of these is "set-up".
pub(super) fn start_code(sent: u8) -> ExitCode {
    [ExitCode::NotExecutable, ExitCode::NotFound, ExitCode::Usage]
        .into_iter()
        .find(|code| code.code() == sent)
        .unwrap_or(ExitCode::Setup)
}

#[cfg(test)]
mod tests;
