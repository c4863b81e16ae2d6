//! A measuring program that lives as long as the run, told what to do through pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

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

    /// Has it do one job and returns the nanoseconds that it took, or what else it counted.
    ///
    /// # Errors
    /// The job failed: with what it said.
    pub(crate) fn time(&mut self, job: &str) -> anyhow::Result<f64> {
        self.begin(job)?;
        self.end().with_context(|| format!("`{job}`"))
    }

    /// Has it begin a job, beside those of others.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn begin(&mut self, job: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("ended already")?;
        Ok(writeln!(input, "{job}")?)
    }

    /// Waits for the job that it has begun; returns what [`Meter::time`] does.
    ///
    /// # Errors
    /// As [`Meter::time`].
    pub(crate) fn end(&mut self) -> anyhow::Result<f64> {
        number(&self.line()?)
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
fn number(answer: &str) -> anyhow::Result<f64> {
    if let Some(reason) = answer.strip_prefix("error ") {
        bail!("{reason}");
    }
    let count: u64 = answer
        .parse()
        .with_context(|| format!("`{answer}` is no number"))?;
    // There is no lossless conversion, and nothing that is measured here takes months.
    Ok(Duration::from_nanos(count).as_secs_f64() * 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_or_reasons() {
        for exact in [0_u32, 1, 3, 12_500, u32::MAX] {
            let answer = number(&exact.to_string()).unwrap();
            assert!((answer - f64::from(exact)).abs() < 1e-3, "{answer}");
        }
        assert_eq!(
            number("error no route").unwrap_err().to_string(),
            "no route"
        );
        assert!(number("").is_err());
        assert!(number("-1").is_err());
        assert!(number("1.5").is_err());
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
        assert!((meter.time("anything").unwrap() - 42.0).abs() < 1e-3);
        assert!(meter.time("more").is_err());
    }
}
