//! A measuring program that lives as long as the run, told what to do through pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};

/// A running `clawd-meter`, or a `clawctl` with one in its sandbox.
pub(crate) struct Meter {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

// === impl Meter ===

impl Meter {
    /// Starts it by `spawn`, which gets the command with its pipes, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or ends before it is ready.
    pub(crate) fn start(
        mut command: Command,
        spawn: impl FnOnce(Command) -> std::io::Result<Child>,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(command).context("cannot start the measuring program")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut meter = Self {
            child,
            input,
            output,
        };
        let ready = meter.line()?;
        if ready != "ready" {
            bail!("the measuring program said `{ready}`");
        }
        Ok(meter)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the measuring program has ended");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Has it do one job and returns the nanoseconds that it took.
    ///
    /// # Errors
    /// The job failed: with what it said.
    pub(crate) fn time(&mut self, job: &str) -> anyhow::Result<f64> {
        let input = self.input.as_mut().context("ended already")?;
        writeln!(input, "{job}")?;
        let answer = self.line()?;
        nanoseconds(&answer).with_context(|| format!("`{job}`"))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // It ends with its input; a server has none that it reads.
        self.input = None;
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("a measuring program cannot be ended: {error}");
        }
    }
}

/// Reads the answer to a job.
fn nanoseconds(answer: &str) -> anyhow::Result<f64> {
    if let Some(reason) = answer.strip_prefix("error ") {
        bail!("{reason}");
    }
    let count: u32 = answer
        .parse()
        .with_context(|| format!("`{answer}` is no number of nanoseconds below 4.3 seconds"))?;
    Ok(f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_nanoseconds_or_reasons() {
        assert_eq!(nanoseconds("12500").unwrap(), 12_500.0);
        assert_eq!(
            nanoseconds("error no route").unwrap_err().to_string(),
            "no route"
        );
        assert!(nanoseconds("").is_err());
        assert!(nanoseconds("-1").is_err());
        assert!(nanoseconds("9999999999").is_err());
    }

    #[test]
    fn program_that_ends_at_once_is_an_error() {
        let started = Meter::start(Command::new("true"), |mut command| command.spawn());
        assert!(started.is_err());
    }

    #[test]
    fn program_that_answers_is_timed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; read job; echo 42"]);
        let mut meter = Meter::start(command, |mut command| command.spawn()).unwrap();
        assert_eq!(meter.time("anything").unwrap(), 42.0);
        assert!(meter.time("more").is_err());
    }
}
