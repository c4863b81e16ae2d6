//! A live sandbox that does what it is told, one thing a line, and tells what came of it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::Value;

use crate::daemon::Daemon;

/// The program that is told; it runs under Debian's Python.
const PROBE: &str = include_str!("probe.py");
/// How long a start may take; emulated machines are slow.
const DEADLINE: Duration = Duration::from_secs(120);

/// Debian's Python, whatever comes first in `PATH`.
pub const PYTHON: &str = "/usr/bin/python3";

/// Debian's Python in a sandbox of its own.
#[derive(Debug)]
pub struct Prober {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Prober {
    /// Starts it under the text of a policy, which has to let `/usr` execute.
    ///
    /// # Errors
    /// The sandbox does not start.
    pub fn start(daemon: &Daemon, name: &str, policy: &str) -> anyhow::Result<Self> {
        Self::start_as(daemon, name, policy, PYTHON)
    }

    /// As [`Prober::start`], with another Python.
    ///
    /// # Errors
    /// The sandbox does not start.
    pub fn start_as(
        daemon: &Daemon,
        name: &str,
        policy: &str,
        python: &str,
    ) -> anyhow::Result<Self> {
        let mut command = daemon.run_command(policy, Some(name), &[python, "-I", "-c", PROBE]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut prober = Self {
            child,
            input,
            output,
        };
        let ready = prober.line().context("the sandbox does not start")?;
        anyhow::ensure!(ready == "ready", "the prober said {ready}");
        // It may say so before its start is over.
        let is_listed = || daemon.ps().iter().any(|sandbox| sandbox["name"] == name);
        let deadline = Instant::now() + DEADLINE;
        while !is_listed() {
            anyhow::ensure!(Instant::now() < deadline, "its start does not end");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(prober)
    }

    fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        anyhow::ensure!(
            self.output.read_line(&mut line)? > 0,
            "the prober has ended"
        );
        Ok(serde_json::from_str(&line)?)
    }

    /// Has it do one thing and waits for the outcome: see `probe.py` for what it can do.
    ///
    /// # Panics
    /// If the sandbox has ended.
    pub fn ask(&mut self, what: &Value) -> Value {
        let input = self.input.as_mut().expect("not ended");
        writeln!(input, "{what}").expect("the prober reads");
        self.line()
            .unwrap_or_else(|error| panic!("{what}: {error:#}"))
    }

    /// The process id of its `clawctl`.
    #[must_use]
    pub fn clawctl_pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it end by itself.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn end(&mut self) -> anyhow::Result<ExitStatus> {
        self.input = None;
        Ok(self.child.wait()?)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.input = None;
        // The daemon's own end kills the sandbox; here only clawctl must not stay.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}
