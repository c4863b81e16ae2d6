//! The daemon under test.

mod gate;
mod hindered;
mod paths;

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    binaries,
    internet::Internet,
    leftovers::{PROCESSES, kill, start_time, sweep_once},
    namespace::Namespace,
    scratch::Scratch,
};
pub use gate::Stopped;
pub use hindered::Busy;
pub use paths::Paths;

/// How long a daemon may take to start or end; emulated machines are slow.
const DEADLINE: Duration = Duration::from_secs(120);

/// A clawd with paths of its own, in the internet's host namespace or one with loopback alone.
///
/// Dropping it stops every sandbox, ends clawd with SIGTERM, and fails the test if anything stays.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    policies: AtomicU32,
    /// What clawd is started by, where it is not started directly.
    launcher: Vec<OsString>,
    /// Another clawd than the one that was built.
    program: Option<PathBuf>,
    /// More than its paths.
    flags: Vec<OsString>,
    paths: Paths,
    scratch: Scratch,
    place: Arc<Namespace>,
}

impl Daemon {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// The programs are not built, or clawd does not start: then with what it said.
    pub fn start(internet: Option<&Internet>) -> anyhow::Result<Self> {
        let mut daemon = Self::prepare(internet)?;
        daemon.launch()?;
        Ok(daemon)
    }

    /// One that is not started yet: see [`Daemon::launch`].
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn prepare(internet: Option<&Internet>) -> anyhow::Result<Self> {
        sweep_once();
        let place = match internet {
            Some(internet) => Arc::clone(internet.host()),
            None => Arc::new(Namespace::new()?),
        };
        let scratch = Scratch::new()?;
        let paths = Paths::new(&scratch)?;
        Ok(Self {
            child: None,
            policies: AtomicU32::new(0),
            launcher: Vec::new(),
            program: None,
            flags: Vec::new(),
            paths,
            scratch,
            place,
        })
    }

    /// Has clawd started by these words, which begin a command line that ends with it.
    pub fn launch_by(&mut self, words: &[&str]) {
        self.launcher = words.iter().map(Into::into).collect();
    }

    /// Has another clawd started from now on; the one that was built where it is `None`.
    pub fn use_program(&mut self, program: Option<PathBuf>) {
        self.program = program;
    }

    /// Has clawd started with these flags too from now on.
    pub fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(Into::into));
    }

    /// Starts clawd with this daemon's paths and waits until it answers.
    ///
    /// # Errors
    /// It runs already, or does not start: then with what it said.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.launch_unseen()?;
        self.wait_until_it_answers()
    }

    /// Starts clawd and does not wait for anything.
    ///
    /// # Errors
    /// It runs already, or there is no such program.
    pub fn launch_unseen(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            bail!("clawd runs already");
        }
        let clawd = match &self.program {
            Some(program) => program.clone(),
            None => binaries::find("clawd")?,
        };
        let mut words = self.launcher.iter().cloned().chain([clawd.into()]);
        let mut command = Namespace::command(words.next().unwrap_or_default());
        command
            .args(words)
            .args(self.paths.flags())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        command.stderr(log);
        let child = self.place.start(command).context("cannot start clawd")?;
        self.record(child.id())?;
        self.child = Some(child);
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("clawd does not run")?;
        let deadline = Instant::now() + DEADLINE;
        while UnixStream::connect(&self.paths.socket).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                self.child = None;
                bail!("clawd does not start: {}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Writes down what the sweeper of a later run should kill.
    fn record(&self, pid: u32) -> anyhow::Result<()> {
        use std::io::Write as _;
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.scratch.path(PROCESSES));
        writeln!(file?, "{pid} {}", start_time(pid).unwrap_or(0))?;
        Ok(())
    }

    /// Ends clawd without a chance to do anything; its sandboxes go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("clawd does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Kills clawd and starts another with the same paths.
    ///
    /// # Errors
    /// As [`Daemon::launch`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            self.kill9()?;
        }
        self.launch()
    }

    /// Ends clawd with SIGTERM and tells how it ended.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("clawd does not run")?;
        kill(child.id(), Signal::TERM);
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("clawd did not end after SIGTERM: {}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process id; `None` while it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where everything of it is.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Its folder, for programs and files of the test.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn place(&self) -> &Arc<Namespace> {
        &self.place
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path("clawd.log")
    }

    /// What clawd has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// `clawctl` for this daemon, with these arguments.
    ///
    /// # Panics
    /// If clawctl is not built.
    pub fn clawctl(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(binaries::find("clawctl").expect("clawctl"));
        command
            .arg("--socket")
            .arg(&self.paths.socket)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Writes a policy to a file of its own.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn policy_file(&self, policy: &str) -> PathBuf {
        let number = self.policies.fetch_add(1, Ordering::Relaxed);
        self.scratch
            .write(&format!("policy-{number}.yaml"), policy)
            .expect("policy file")
    }

    /// `clawctl run` of `argv` under the text of a policy, as `name` where one is given.
    pub fn run_command(
        &self,
        policy: &str,
        name: Option<&str>,
        argv: &[impl AsRef<OsStr>],
    ) -> Command {
        let mut command = self.clawctl(["run"]);
        if let Some(name) = name {
            command.args(["--name", name]);
        }
        command
            .arg("--policy")
            .arg(self.policy_file(policy))
            .arg("--")
            .args(argv);
        command
    }

    /// Runs `argv` under the text of a policy to its end.
    ///
    /// # Panics
    /// If clawctl cannot be started.
    pub fn run(&self, policy: &str, argv: &[impl AsRef<OsStr>]) -> Output {
        self.run_command(policy, None, argv)
            .output()
            .expect("clawctl")
    }

    /// Runs `clawctl ... --json` and returns what it printed, a value a line.
    ///
    /// # Panics
    /// If it fails, or prints anything else.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self
            .clawctl(["--json"].iter().chain(arguments))
            .output()
            .expect("clawctl");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "clawctl {arguments:?}: {output:?}");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// The sandboxes, as `clawctl ps` tells.
    ///
    /// # Panics
    /// As [`Daemon::json`].
    pub fn ps(&self) -> Vec<Value> {
        let printed = self.json(&["ps"]);
        let list = printed
            .first()
            .and_then(|value| value.get("sandboxes")?.as_array().cloned());
        list.expect("a list of sandboxes")
    }

    /// Every audit record so far.
    ///
    /// # Panics
    /// As [`Daemon::json`].
    pub fn audit(&self) -> Vec<Value> {
        self.json(&["logs", "-n", "100000"])
    }

    /// Stops every sandbox, ends clawd, and tells what stays.
    ///
    /// # Errors
    /// Something stays, or did not end in order.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if self.child.is_none() && self.paths.exist() {
            self.launch()
                .context("what a killed clawd left cannot be taken over")?;
        }
        if self.child.is_none() {
            return Ok(());
        }
        let stopped = self.clawctl(["stop", "--all"]).output()?;
        if !stopped.status.success() {
            bail!("stop --all: {stopped:?}");
        }
        let status = self.terminate()?;
        if !status.success() {
            bail!("clawd ended with {status}: {}", self.log());
        }
        if self.paths.exist() {
            bail!(
                "clawd left something behind: {:?}: {}",
                self.paths.existing(),
                self.log()
            );
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let result = self.finish();
        if let Some(mut child) = self.child.take() {
            // What is left of it is brought to an end without it.
            drop(child.kill().and_then(|()| child.wait()));
        }
        self.paths.remove();
        if let Err(error) = result {
            if thread::panicking() {
                eprintln!("and the daemon did not end in order: {error:#}");
            } else {
                panic!("the daemon did not end in order: {error:#}");
            }
        } else if thread::panicking() {
            eprintln!("clawd said:\n{}", self.log());
        }
    }
}

/// Whether a file is there, whatever it is.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
