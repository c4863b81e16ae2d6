//! A network namespace that lives as long as one thread.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, bail};
use rustix::thread::{UnshareFlags, gettid};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, held by a thread in it and by nothing else: when the process dies, however
/// it dies, the namespace is gone with everything in it.
#[derive(Debug)]
pub struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Namespace {
    /// Makes one, with its loopback interface up.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn new() -> anyhow::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        let thread = thread::Builder::new().name("network".to_owned()).spawn(move || {
            #[expect(deprecated, reason = "the call that replaces it is unsafe; only sharing of descriptors could be")]
            let made = rustix::thread::unshare(UnshareFlags::NEWNET);
            let tid = gettid().as_raw_nonzero();
            if ready.send(made.map(|()| tid)).is_err() {
                return;
            }
            while let Ok(job) = queue.recv() {
                job();
            }
        })?;
        let tid = started
            .recv()
            .context("the thread of the namespace is gone")?
            .context("cannot make a network namespace")?;
        let path = PathBuf::from(format!("/proc/{}/task/{tid}/ns/net", std::process::id()));
        let namespace = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            path,
        };
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    /// The namespace's file, as `ip link set X netns` takes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `job` in the namespace and waits for it. Threads that it starts stay there.
    ///
    /// # Panics
    /// If the job panics.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        let job: Job = Box::new(move || {
            // Nobody waits any more only if the caller's thread has gone.
            drop(answer.send(job()));
        });
        let sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok());
        assert!(sent, "the thread of the namespace is gone");
        answered.recv().expect("the job panicked")
    }

    /// A command that starts `program` so that it is killed when the thread that started it ends:
    /// with [`Namespace::start`], when the namespace is dropped or this process dies.
    #[must_use]
    pub fn command(program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Starts `command` in the namespace.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, mut command: Command) -> io::Result<Child> {
        self.run(move || command.spawn())
    }

    /// Runs a program in the namespace to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self, mut command: Command) -> io::Result<Output> {
        self.run(move || command.output())
    }

    /// Runs `ip` commands, one a line.
    ///
    /// # Errors
    /// The first that fails.
    pub fn ip(&self, lines: &[impl AsRef<str>]) -> anyhow::Result<()> {
        for line in lines {
            let line = line.as_ref();
            let mut command = Command::new("ip");
            command.args(line.split(' '));
            let output = self.output(command).context("cannot start ip")?;
            if !output.status.success() {
                bail!(
                    "ip {line}: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the thread of a namespace panicked");
        }
    }
}
