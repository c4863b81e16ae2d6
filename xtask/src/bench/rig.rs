//! The test internet, a daemon, and the same program inside and outside a sandbox.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clawd_tests::{Address, Daemon, Internet, Namespace, binaries};

use super::crowd::Crowd;
use super::machine;
use super::measures::TRUE;
use super::meter::Meter;
use super::processes::Process;

/// The measuring program.
pub(crate) const METER: &str = "clawd-meter";
/// Where it takes connections for itself.
const SINK_PORT: u16 = 9000;
/// Where it takes datagrams too.
const NEXT_PORT: u16 = SINK_PORT + 1;
/// How long a daemon that has just started is let alone before it counts as idle.
const SETTLE: Duration = Duration::from_secs(1);
/// A program that does all by itself, where the system has it linked statically.
const BUSYBOX: &str = "/bin/busybox";

/// Everything that measures need. Dropping it removes all of it.
pub(crate) struct Rig {
    // Fields are dropped in this order: programs, daemon, internet.
    pair: Option<Pair>,
    meter: PathBuf,
    /// Events that found no room while daemons ran that have ended since.
    lost_before: u64,
    daemon: Daemon,
    internet: Internet,
}

/// The measuring program twice, with the server that both talk to.
pub(crate) struct Pair {
    /// In a sandbox in network mode direct.
    pub(crate) inside: Meter,
    /// In the same network namespace, in no sandbox.
    pub(crate) outside: Meter,
    _sink: Meter,
}

// === impl Rig ===

impl Rig {
    /// Starts the internet and an idle daemon.
    ///
    /// # Errors
    /// Something is missing or cannot be started.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let internet = Internet::start()?;
        let mut daemon = Daemon::prepare(Some(&internet))?;
        // What is measured is counted in one file.
        daemon.add_flags(&["--audit-max-bytes", &u64::MAX.to_string()]);
        daemon.launch()?;
        let meter = daemon.scratch().folder("bin", 0o755)?.join(METER);
        fs::copy(binaries::find(METER)?, &meter).context("cannot copy the measuring program")?;
        std::thread::sleep(SETTLE);
        gate_as_usual(&daemon)?;
        Ok(Self {
            pair: None,
            meter,
            lost_before: 0,
            daemon,
            internet,
        })
    }

    /// The measuring program in no sandbox, which lives without clawd too.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn outside(&self) -> anyhow::Result<Meter> {
        let outside = Namespace::command(&self.meter);
        Meter::start(outside, |command| self.internet.host().start(command))
    }

    /// The measuring program in a sandbox by this name, beside those that there are.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn inside(&self, name: &str) -> anyhow::Result<Meter> {
        self.inside_among(name, 0)
    }

    /// As [`Rig::inside`], under a policy with so many rules more.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn inside_among(&self, name: &str, more: u32) -> anyhow::Result<Meter> {
        let policy = direct_policy(&self.meter, more);
        let inside = self.daemon.run_command(&policy, Some(name), &[&self.meter]);
        Meter::start(inside, |mut command| command.spawn())
    }

    /// Pushes a policy with so many rules more to a sandbox of [`Rig::inside`]; returns how many
    /// milliseconds it took until it was in force, as the daemon tells.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) fn push(&self, name: &str, more: u32) -> anyhow::Result<f64> {
        let file = self.folder("push")?.join("policy.yaml");
        fs::write(&file, direct_policy(&self.meter, more))?;
        let mut command = self
            .daemon
            .clawctl(["--json", "policy", "push", "--sandbox", name]);
        let output = command.arg(&file).output()?;
        if !output.status.success() {
            bail!(
                "clawctl policy push: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let elapsed_us = answer["elapsed_us"].as_f64();
        Ok(elapsed_us.context("no time in the answer")? / 1e3)
    }

    /// A command in a sandbox by this name, under the text of a policy.
    pub(crate) fn sandboxed(&self, policy: &str, name: Option<&str>, argv: &[&str]) -> Command {
        self.daemon.run_command(policy, name, argv)
    }

    /// The same command outside, as the same user, with the same environment. A tree that the user may
    /// not walk to is shown at another place.
    pub(crate) fn unconfined(
        &self,
        user: u32,
        shown: Option<(&Path, &Path)>,
        argv: &[&str],
    ) -> Command {
        const SHOW: &str =
            "[ -z \"$1\" ] || mount --bind \"$1\" \"$2\"; shift 2; exec setpriv \"$@\"";
        let (from, to) = shown.unwrap_or((Path::new(""), Path::new("")));
        let user = user.to_string();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", SHOW, "sh"])
            .args([from, to])
            .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
            .args(["--pdeathsig", "KILL", "--"])
            .args(argv)
            .env_clear()
            .envs([
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
                ("LANG", "C.UTF-8"),
            ]);
        command
    }

    /// The network namespace of the daemon and its sandboxes.
    pub(crate) fn place(&self) -> &Namespace {
        self.internet.host()
    }

    /// A folder for a measure, which everybody may search.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.daemon.scratch().folder(name, 0o755)
    }

    /// So many sandboxes, their names beginning with `prefix`, and as many processes outside.
    ///
    /// # Errors
    /// One of them cannot be started.
    pub(crate) fn crowd(&self, prefix: &str, count: usize) -> anyhow::Result<Crowd> {
        let names = (1..=count).map(|number| format!("{prefix}-{number}"));
        Ok(Crowd {
            inside: names
                .map(|name| self.inside(&name))
                .collect::<Result<_, _>>()?,
            outside: (0..count)
                .map(|_| self.outside())
                .collect::<Result<_, _>>()?,
        })
    }

    /// The measuring program's file.
    pub(crate) fn meter(&self) -> &Path {
        &self.meter
    }

    /// A statically linked `true` that sandboxes can execute; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be copied.
    pub(crate) fn static_true(&self) -> anyhow::Result<Option<PathBuf>> {
        let program = self.meter.with_file_name("true");
        if program.exists() {
            return Ok(Some(program));
        }
        let has_loader = |content: &[u8]| content.windows(4).any(|bytes| bytes == b"/ld-");
        match fs::read(BUSYBOX) {
            Ok(content) if !has_loader(content.get(..4096).unwrap_or(&content)) => {
                fs::copy(BUSYBOX, &program).context("cannot copy busybox")?;
                Ok(Some(program))
            }
            _ => Ok(None),
        }
    }

    /// Programs of this size that sandboxes can execute, each with a content of its own.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn large_programs(&self, count: u64, bytes: usize) -> anyhow::Result<Vec<PathBuf>> {
        let mut content = fs::read(TRUE)?;
        content.resize(bytes, 0x5a);
        let write = |number: u64| {
            let path = self.meter.with_file_name(format!("large-{number}"));
            fs::write(&path, &content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            fs::File::open(&path)?.sync_all()?;
            change(&path, number)?;
            Ok(path)
        };
        (0..count)
            .map(write)
            .collect::<std::io::Result<_>>()
            .context("cannot write large programs")
    }

    /// Ends the sandboxes and the daemon; nothing of it is left in the kernel.
    ///
    /// # Errors
    /// Something is left.
    pub(crate) fn end_daemon(&mut self) -> anyhow::Result<()> {
        self.lost_before = self.events_lost()?;
        self.pair = None;
        self.daemon.finish()
    }

    /// Starts the daemon that was ended.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn launch_daemon(&mut self) -> anyhow::Result<()> {
        self.daemon.launch()?;
        gate_as_usual(&self.daemon)
    }

    /// The audit log.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.daemon.paths().state_dir.join("audit.jsonl")
    }

    /// Both measuring programs, started when they are first asked for.
    ///
    /// # Errors
    /// One of them cannot be started.
    pub(crate) fn pair(&mut self) -> anyhow::Result<&mut Pair> {
        if self.pair.is_none() {
            self.pair = Some(self.start_pair()?);
        }
        self.pair.as_mut().context("not started")
    }

    fn start_pair(&self) -> anyhow::Result<Pair> {
        let mut sink = Namespace::command(&self.meter);
        sink.args(["serve", &sink_address()]);
        let sink = Meter::start(sink, |command| self.internet.outside().start(command))?;
        let mut pair = Pair {
            inside: self.inside("meter")?,
            outside: self.outside()?,
            _sink: sink,
        };
        pair.pin();
        Ok(pair)
    }

    /// `clawctl run` of `argv` with namespaces of all kinds, and `bwrap` with the same ones.
    pub(crate) fn launchers(&self, argv: &[&str]) -> (Command, Command) {
        let ours = self.daemon.run_command(isolated_policy(), None, argv);
        let mut theirs = Command::new("/usr/bin/bwrap");
        theirs
            .args([
                "--unshare-all",
                "--new-session",
                "--ro-bind",
                "/usr",
                "/usr",
            ])
            .args(["--symlink", "usr/bin", "/bin"])
            .args(["--symlink", "usr/lib", "/lib"])
            .args(["--symlink", "usr/lib64", "/lib64"])
            .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--"])
            .args(argv)
            .current_dir("/")
            .stdin(Stdio::null());
        (ours, theirs)
    }

    /// The daemon.
    pub(crate) fn daemon(&self) -> Process {
        Process(self.daemon.pid().unwrap_or_default())
    }

    /// Its exec gate.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn gate(&self) -> anyhow::Result<Process> {
        Ok(Process(self.daemon.gate_pid().context("no exec gate")?))
    }

    /// How many events of the sandboxes found no room: where some were lost, reporting cost less than
    /// it does otherwise.
    ///
    /// # Errors
    /// `clawctl ps` fails.
    pub(crate) fn events_lost(&self) -> anyhow::Result<u64> {
        let listed = self.daemon.clawctl(["--json", "ps"]).output()?;
        if !listed.status.success() {
            bail!(
                "clawctl ps: {}",
                String::from_utf8_lossy(&listed.stderr).trim()
            );
        }
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        let sandboxes = listed["sandboxes"]
            .as_array()
            .context("no list of sandboxes")?;
        let lost = sandboxes
            .iter()
            .filter_map(|sandbox| sandbox["counters"]["events_lost"].as_u64());
        Ok(self.lost_before + lost.sum::<u64>())
    }
}

// === impl Pair ===

impl Pair {
    /// Both on one processor: they never run at the same time, and a server gets another one.
    fn pin(&mut self) {
        for (place, meter) in [("inside", &mut self.inside), ("outside", &mut self.outside)] {
            if let Err(error) = meter.time("pin 0") {
                eprintln!("the measuring program {place} is not pinned to a processor: {error:#}");
            }
        }
    }
}

/// Gives a large program another content. At its end: the program itself stays as it is.
///
/// # Errors
/// It cannot be written.
pub(crate) fn change(path: &Path, number: u64) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let at_bytes = file.metadata()?.len().saturating_sub(8);
    file.write_all_at(&number.to_ne_bytes(), at_bytes)
}

/// nginx, where both meters reach it.
pub(crate) fn web_address() -> String {
    format!("{}:80", Address::A)
}

/// The measuring program's own server.
pub(crate) fn sink_address() -> String {
    format!("{}:{SINK_PORT}", Address::A)
}

/// Where it takes datagrams too.
pub(crate) fn next_address() -> String {
    format!("{}:{NEXT_PORT}", Address::A)
}

/// Network mode direct, the servers of the measures, and `more` endpoints that nobody asks for: no two of
/// the same address, with ports of fifty services.
fn direct_policy(meter: &Path, more: u32) -> String {
    use std::fmt::Write as _;
    const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 1]);
    let mut policy = base_policy(meter);
    for number in 0..more {
        let host = std::net::Ipv4Addr::from(FIRST + number * 7);
        let port = 1024 + number % 50;
        // Writing to a string cannot fail.
        let _written = writeln!(policy, "      - {{ host: {host}, port: {port} }}");
    }
    policy
}

fn base_policy(meter: &Path) -> String {
    let folder = meter.parent().unwrap_or(meter).display();
    let (meter, server) = (meter.display(), Address::A);
    format!(
        "version: 2
filesystem_policy: {{ read_execute: [/usr, /bin, /lib, /lib64, {folder}], read_write: [/tmp] }}
landlock: {{ compatibility: best_effort }}
network: {{ mode: direct }}
network_policies:
  servers:
    binaries: [{{ path: {meter} }}]
    endpoints:
      - {{ host: {server}, port: 80 }}
      - {{ host: {server}, port: {SINK_PORT} }}
      - {{ host: {server}, ports: [{SINK_PORT}, {NEXT_PORT}], protocol: udp }}
"
    )
}

fn isolated_policy() -> &'static str {
    "version: 2
filesystem_policy: { read_execute: [/usr, /bin, /lib, /lib64], read_write: [/tmp] }
landlock: { compatibility: best_effort }
network: { mode: none }
network_policies: {}
"
}

/// Takes the exec gate's part in the bench's priority away: its threads are woken where an ordinary
/// process is, as on a host. What is measured keeps it, inside and outside.
fn gate_as_usual(daemon: &Daemon) -> anyhow::Result<()> {
    let gate = daemon.gate_pid().context("no exec gate")?;
    machine::go_as_usual(gate)
}
