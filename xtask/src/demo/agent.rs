//! A running `agent.sh`: what it reports, and what it is told to try.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clawd_tests::Namespace;

use super::attempt::Attempt;
use super::interrupt::Interrupt;

/// How long an agent may be silent: longer than all time-outs of one attempt.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a wait looks for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// A running agent. Dropping it ends the program that was started, not the sandbox behind it.
pub(super) struct Agent {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<std::io::Result<String>>,
    complaints: PathBuf,
    interrupt: Interrupt,
}

impl Agent {
    /// Starts `command` in `place`; its standard error goes to the file `complaints`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        place: &Namespace,
        mut command: Command,
        complaints: PathBuf,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let stderr = File::create(&complaints)
            .with_context(|| format!("cannot make {}", complaints.display()))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let shown = crate::process::shown(&command);
        let mut child = place
            .start(command)
            .with_context(|| format!("cannot start `{shown}`"))?;
        let orders = child.stdin.take();
        let stdout = child.stdout.take();
        let lines = reader(stdout.context("the agent has no output")?);
        Ok(Self {
            child,
            orders,
            lines,
            complaints,
            interrupt: interrupt.clone(),
        })
    }

    /// The next attempt that it reports; `None` once nobody can write a report any more.
    ///
    /// # Errors
    /// It reports nothing for a minute, or something that is no report; or Ctrl-C.
    pub(super) fn next_attempt(&mut self) -> anyhow::Result<Option<Attempt>> {
        let deadline = Instant::now() + SILENCE_MAX;
        loop {
            self.interrupt.check()?;
            match self.lines.recv_timeout(TICK) {
                Ok(line) => {
                    if let Some(attempt) = Attempt::from_line(&line?)? {
                        return Ok(Some(attempt));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    bail!("the agent is silent; it said: {}", self.complaints())
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Has it make one attempt.
    ///
    /// # Errors
    /// It cannot be told, or does not report.
    pub(super) fn attempt(&mut self, name: &str) -> anyhow::Result<Attempt> {
        let orders = self.orders.as_mut().context("the agent takes no orders")?;
        writeln!(orders, "{name}").with_context(|| format!("cannot tell the agent `{name}`"))?;
        self.next_attempt()?.with_context(|| {
            format!(
                "the agent ended before it tried `{name}`; it said: {}",
                self.complaints()
            )
        })
    }

    /// All that it reports until it ends by itself, with the exit status.
    ///
    /// # Errors
    /// As [`Agent::next_attempt`].
    pub(super) fn finish(mut self) -> anyhow::Result<(Vec<Attempt>, ExitStatus)> {
        self.orders = None;
        let mut attempts = Vec::new();
        while let Some(attempt) = self.next_attempt()? {
            attempts.push(attempt);
        }
        Ok((attempts, self.child.wait()?))
    }

    /// What it wrote to standard error.
    pub(super) fn complaints(&self) -> String {
        let text = std::fs::read_to_string(&self.complaints).unwrap_or_default();
        text.trim().to_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.orders = None;
        // It may have ended by itself; then there is nothing to kill and nothing lost.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

/// Reads lines in a thread, which ends when nobody can write any more.
fn reader(stdout: ChildStdout) -> Receiver<std::io::Result<String>> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
