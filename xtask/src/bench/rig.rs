//! The test internet, a daemon, and the same program inside and outside a sandbox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clawd_tests::{Address, Daemon, Internet, Namespace, binaries};

use super::meter::Meter;

/// The measuring program.
pub(crate) const METER: &str = "clawd-meter";
/// Where it takes connections for itself.
const SINK_PORT: u16 = 9000;
/// How long a daemon that has just started is let alone before it counts as idle.
const SETTLE: Duration = Duration::from_secs(1);
/// Ticks a second of the times in `/proc/<pid>/stat` (`USER_HZ`, the same on every architecture that
/// clawd supports).
const TICKS_PER_SECOND: f64 = 100.0;

/// Everything that measures need. Dropping it removes all of it.
pub(crate) struct Rig {
    // Fields are dropped in this order: programs, daemon, internet.
    pair: Option<Pair>,
    meter: PathBuf,
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
        let daemon = Daemon::start(Some(&internet))?;
        let meter = daemon.scratch().folder("bin", 0o755)?.join(METER);
        fs::copy(binaries::find(METER)?, &meter).context("cannot copy the measuring program")?;
        std::thread::sleep(SETTLE);
        Ok(Self {
            pair: None,
            meter,
            daemon,
            internet,
        })
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
        let outside = Namespace::command(&self.meter);
        let outside = Meter::start(outside, |command| self.internet.host().start(command))?;
        let policy = direct_policy(&self.meter);
        let inside = self
            .daemon
            .run_command(&policy, Some("meter"), &[&self.meter]);
        let inside = Meter::start(inside, |mut command| command.spawn())?;
        let mut pair = Pair {
            inside,
            outside,
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

    /// The daemon's resident memory, in MiB.
    ///
    /// # Errors
    /// The daemon does not run, or the kernel does not tell.
    pub(crate) fn daemon_rss_mib(&self) -> anyhow::Result<f64> {
        let status = self.daemon_file("status")?;
        rss_mib(&status).context("the kernel does not tell the daemon's VmRSS")
    }

    /// The processor time that the daemon has used so far, in milliseconds.
    ///
    /// # Errors
    /// As [`Rig::daemon_rss_mib`].
    pub(crate) fn daemon_cpu_ms(&self) -> anyhow::Result<f64> {
        let stat = self.daemon_file("stat")?;
        cpu_ms(&stat).context("the kernel does not tell the daemon's processor time")
    }

    fn daemon_file(&self, name: &str) -> anyhow::Result<String> {
        let pid = self.daemon.pid().context("clawd does not run")?;
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// How many events of the sandbox found no room: where some were lost, reporting cost less than
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
        Ok(lost.sum())
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

/// nginx, where both meters reach it.
pub(crate) fn web_address() -> String {
    format!("{}:80", Address::A)
}

/// The measuring program's own server.
pub(crate) fn sink_address() -> String {
    format!("{}:{SINK_PORT}", Address::A)
}

fn direct_policy(meter: &Path) -> String {
    let folder = meter.parent().unwrap_or(meter).display();
    let (meter, server) = (meter.display(), Address::A);
    format!(
        "version: 2
filesystem_policy: {{ read_execute: [/usr, /bin, /lib, /lib64, {folder}], read_write: [/tmp] }}
landlock: {{ compatibility: best_effort }}
network: {{ mode: direct }}
network_policies:
  servers:
    endpoints:
      - {{ host: {server}, port: 80 }}
      - {{ host: {server}, port: {SINK_PORT} }}
      - {{ host: {server}, port: {SINK_PORT}, protocol: udp }}
    binaries: [{{ path: {meter} }}]
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

fn rss_mib(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u32 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

fn cpu_ms(stat: &str) -> Option<f64> {
    // The command in parentheses may hold anything; fields 14 and 15 are the twelfth and next after it.
    let (_, after) = stat.rsplit_once(')')?;
    let mut times = after.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) * 1000.0 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_mib() {
        assert_eq!(
            rss_mib("Name:\tclawd\nVmRSS:\t   14336 kB\nThreads:\t1\n"),
            Some(14.0)
        );
        assert_eq!(rss_mib("Name:\tclawd\n"), None);
        assert_eq!(rss_mib("VmRSS:\t14336\n"), None);
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 25 5 0 0 20 0";
        assert_eq!(cpu_ms(stat), Some(300.0));
        assert_eq!(cpu_ms("7 (a) S 1 1"), None);
        assert_eq!(cpu_ms(""), None);
    }
}
