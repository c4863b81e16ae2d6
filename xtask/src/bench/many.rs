//! Many sandboxes that are started at once and live at the same time.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter};
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::machine;
use super::measures::{PAUSE, Samples, alone};
use super::rig::Rig;

/// What each runs: it says that it lives, and ends with its input.
const COMMAND: [&str; 3] = ["sh", "-c", "echo up; read -r line"];
const POLICY: &str = "version: 2
filesystem_policy: { read_execute: [/usr, /bin, /lib, /lib64], read_write: [/tmp] }
landlock: { compatibility: best_effort }
network: { mode: none }
network_policies: {}
";
/// How long all together may take.
const START_MAX: Duration = Duration::from_secs(300);
/// How often it is looked whether one of them has failed.
const LOOK: Duration = Duration::from_millis(500);

/// Sandboxes that wait for their end.
pub(super) struct Waiting {
    children: Vec<Child>,
    /// Their input: it ends with this.
    input: Option<PipeWriter>,
    errors: PathBuf,
}

// === impl Waiting ===

impl Waiting {
    /// Starts so many, and returns when the command of each has said that it lives.
    pub(super) fn start(rig: &Rig, count: usize) -> anyhow::Result<Self> {
        let (input, writer) = std::io::pipe()?;
        let (reader, output) = std::io::pipe()?;
        let errors = rig.folder("many")?.join("errors");
        let log = File::create(&errors)?;
        let mut waiting = Self {
            children: Vec::new(),
            input: Some(writer),
            errors,
        };
        for _ in 0..count {
            let mut command = rig.sandboxed(POLICY, None, &COMMAND);
            command
                .stdin(input.try_clone()?)
                .stdout(output.try_clone()?)
                .stderr(log.try_clone()?);
            waiting
                .children
                .push(command.spawn().context("cannot start clawctl")?);
        }
        drop(output);
        waiting.all_live(reader)?;
        Ok(waiting)
    }

    fn all_live(&mut self, reader: PipeReader) -> anyhow::Result<()> {
        let (sender, lines) = mpsc::channel();
        // Ends with the last of them, or when nobody wants to know any more.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(reader).lines();
            while let Some(Ok(line)) = lines.next()
                && sender.send(line).is_ok()
            {}
        });
        let deadline = Instant::now() + START_MAX;
        let mut live = 0_usize;
        while live < self.children.len() {
            if lines.recv_timeout(LOOK).is_ok() {
                live += 1;
                continue;
            }
            if let Some(why) = self.failure()? {
                bail!("{live} of {} live; another: {why}", self.children.len());
            }
            if Instant::now() > deadline {
                bail!("{live} of {} live after {START_MAX:?}", self.children.len());
            }
        }
        Ok(())
    }

    /// What the first that failed has said.
    fn failure(&mut self) -> anyhow::Result<Option<String>> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                let text = fs::read_to_string(&self.errors)?;
                let said = text.lines().next().unwrap_or("it said nothing");
                return Ok(Some(format!("{status}, {said}")));
            }
        }
        Ok(None)
    }

    /// Ends them, in order.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        for child in &mut self.children {
            let status = child.wait()?;
            // `read` meets the end of its input.
            if status.code() != Some(1) {
                bail!("a sandbox ended with {status}");
            }
        }
        self.children.clear();
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.input.take());
        for child in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("a clawctl cannot be ended: {error}");
            }
        }
    }
}

/// Seconds until all of `count` live.
pub(super) fn starts(rig: &mut Rig, rounds: u32, count: usize) -> anyhow::Result<Samples> {
    let mut seconds = Vec::new();
    machine::as_usual(&[rig.daemon().0], || {
        for _ in 0..rounds {
            let start = Instant::now();
            let waiting = Waiting::start(rig, count)?;
            seconds.push(start.elapsed().as_secs_f64());
            waiting.end()?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    })?;
    alone(seconds)
}

/// MiB that clawd and its exec gate grow by for each of `count` sandboxes.
pub(super) fn memory(rig: &mut Rig, rounds: u32, count: u32) -> anyhow::Result<Samples> {
    let used = |rig: &Rig| anyhow::Ok(rig.daemon().rss_mib()? + rig.gate()?.rss_mib()?);
    let mut each = Vec::new();
    for _ in 0..rounds {
        // What one round leaves would be room for the next.
        rig.end_daemon()?;
        rig.launch_daemon()?;
        machine::as_usual(&[rig.daemon().0], || {
            std::thread::sleep(PAUSE);
            let before = used(rig)?;
            let waiting = Waiting::start(rig, usize::try_from(count)?)?;
            std::thread::sleep(PAUSE);
            each.push((used(rig)? - before) / f64::from(count));
            waiting.end()
        })?;
    }
    alone(each)
}
