//! What clawd's processes use, and what other processes of the host pay.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

use super::measures::{NS_PER_US, PAUSE, SAMPLES_PER_ROUND, Samples, TRUE, alone};
use super::rig::Rig;

/// Ticks a second of the times in `/proc/<pid>/stat` (`USER_HZ`, the same on every architecture that
/// clawd supports).
const TICKS_PER_SECOND: f64 = 100.0;
/// A tick of the kernel's account is 10 ms: each sample is of many execs.
const EXECS_PER_SAMPLE: u32 = 2000;
/// Execs on the host a sample: a difference of 2 % is to be seen.
const HOST_EXECS: u32 = 10;
/// How long a daemon that has just started or ended is let alone.
const SETTLE: Duration = Duration::from_millis(300);

/// A process, by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

// === impl Process ===

impl Process {
    /// Its resident memory, in MiB.
    ///
    /// # Errors
    /// It does not run, or the kernel does not tell.
    pub(crate) fn rss_mib(self) -> anyhow::Result<f64> {
        rss_mib(&self.file("status")?).context("the kernel does not tell a process's VmRSS")
    }

    /// The processor time that it has used so far, in milliseconds.
    ///
    /// # Errors
    /// As [`Process::rss_mib`].
    pub(crate) fn cpu_ms(self) -> anyhow::Result<f64> {
        cpu_ms(&self.file("stat")?).context("the kernel does not tell a process's time")
    }

    fn file(self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

/// Processor time of a process for 1,000 execs in the sandbox.
pub(super) fn cpu_of_execs(
    rig: &mut Rig,
    rounds: u32,
    process: fn(&Rig) -> anyhow::Result<Process>,
) -> anyhow::Result<Samples> {
    let job = format!("exec {TRUE} {EXECS_PER_SAMPLE}");
    let mut inside = Vec::new();
    rig.pair()?;
    let process = process(rig)?;
    for _ in 0..rounds {
        std::thread::sleep(PAUSE);
        let before = process.cpu_ms()?;
        rig.pair()?.inside.time(&job)?;
        std::thread::sleep(PAUSE);
        let used = process.cpu_ms()? - before;
        inside.push(used * 1000.0 / f64::from(EXECS_PER_SAMPLE));
    }
    alone(inside)
}

/// Each round ends clawd and starts it again: what else the machine does changes by the minute.
pub(super) fn host_execs(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let mut meter = rig.outside()?;
    meter.time("pin 0")?;
    let job = format!("exec {TRUE} {HOST_EXECS}");
    let mut take = |samples: &mut Vec<f64>| {
        std::thread::sleep(SETTLE);
        for _ in 0..SAMPLES_PER_ROUND {
            samples.push(meter.time(&job)? / (f64::from(HOST_EXECS) * NS_PER_US));
        }
        anyhow::Ok(())
    };
    let mut samples = Samples::default();
    for _ in 0..rounds {
        rig.end_daemon()?;
        let taken = take(&mut samples.outside);
        rig.launch_daemon()?;
        taken?;
        take(&mut samples.inside)?;
    }
    Ok(samples)
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
