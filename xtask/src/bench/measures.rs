//! What is measured, how often, and what it should keep to.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::report::{Bound, Row};
use super::rig::{Rig, sink_address, web_address};
use super::statistics::Summary;

/// How long all is let alone after a round, so that little runs while the daemon writes down what
/// happened in it. It fetches allowed attempts ten times a second.
const PAUSE: Duration = Duration::from_millis(220);
/// Samples a round from inside, and as many from outside, in turn. A sample takes a millisecond or
/// two: on a busy machine most then run from their start to their end before others get the processor.
const SAMPLES_PER_ROUND: u32 = 8;
/// UDP connects a sample: in a round fewer than the ring of events holds, or reporting would become
/// cheaper.
const UDP_CONNECTS: u32 = 900;
const TCP_CONNECTS: u32 = 50;
const GETS: u32 = 15;
const BULK_MIB: u32 = 32;
const EXECS: u32 = 4;
/// What is started where only the start counts.
const TRUE: &str = "/usr/bin/true";

const NS_PER_US: f64 = 1e3;
const NS_PER_MS: f64 = 1e6;
const NS_PER_S: f64 = 1e9;

/// How many rounds, of which each has some samples from inside and some from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// For `--quick`.
    pub(crate) quick: u32,
    /// For a full run.
    pub(crate) full: u32,
}

/// How something is measured.
type Run = fn(&mut Rig, u32) -> anyhow::Result<Samples>;

/// One thing to measure.
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) about: &'static str,
    pub(crate) bound: Option<Bound>,
    pub(crate) rounds: Rounds,
    run: Run,
}

/// Samples in the measure's unit.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    inside: Vec<f64>,
    outside: Vec<f64>,
}

/// Everything that can be measured, in this order: the idle daemon comes before what makes it work.
pub(crate) const MEASURES: &[Measure] = &[
    Measure {
        name: "clawd_idle_rss",
        unit: "MiB",
        about: "resident memory of a clawd that has done nothing yet",
        bound: Some(Bound::Below(30.0)),
        rounds: Rounds { quick: 1, full: 1 },
        run: |rig, _| alone(vec![rig.daemon_rss_mib()?]),
    },
    Measure {
        name: "udp_connect",
        unit: "us",
        about: "connect(2) of one UDP socket to a listed address, again and again",
        bound: Some(Bound::DifferenceAtMost(1.0)),
        rounds: Rounds {
            quick: 20,
            full: 100,
        },
        run: |rig, rounds| {
            let job = format!("udp {} {UDP_CONNECTS}", sink_address());
            per_item(rig, rounds, &job, f64::from(UDP_CONNECTS) * NS_PER_US)
        },
    },
    Measure {
        name: "tcp_connect_close",
        unit: "us",
        about: "socket, connection to a server across a veth pair, close with a reset",
        bound: Some(Bound::DifferenceAtMost(4.0)),
        rounds: Rounds {
            quick: 30,
            full: 200,
        },
        run: |rig, rounds| {
            let job = format!("tcp {} {TCP_CONNECTS}", sink_address());
            per_item(rig, rounds, &job, f64::from(TCP_CONNECTS) * NS_PER_US)
        },
    },
    Measure {
        name: "http_get_fresh",
        unit: "us",
        about: "a connection to nginx, a small GET, the answer to its end",
        bound: Some(Bound::RatioAtMost(1.05)),
        rounds: Rounds {
            quick: 30,
            full: 200,
        },
        run: |rig, rounds| {
            let job = format!("get {} {GETS}", web_address());
            per_item(rig, rounds, &job, f64::from(GETS) * NS_PER_US)
        },
    },
    Measure {
        name: "bulk_tcp",
        unit: "MiB/s",
        about: "bytes sent over one connection",
        bound: Some(Bound::RatioAtLeast(0.97)),
        rounds: Rounds {
            quick: 20,
            full: 100,
        },
        run: bulk,
    },
    Measure {
        name: "exec",
        unit: "us",
        about: "fork, exec and end of `true`, by a program that runs already",
        bound: None,
        rounds: Rounds {
            quick: 15,
            full: 60,
        },
        run: |rig, rounds| {
            let job = format!("exec {TRUE} {EXECS}");
            per_item(rig, rounds, &job, f64::from(EXECS) * NS_PER_US)
        },
    },
    Measure {
        name: "spawn",
        unit: "ms",
        about: "`clawctl run` of `true`, beside bubblewrap with the same namespaces",
        bound: Some(Bound::DifferenceAtMost(10.0)),
        rounds: Rounds {
            quick: 30,
            full: 150,
        },
        run: spawn,
    },
    Measure {
        name: "clawd_cpu_per_1000_connects",
        unit: "ms",
        about: "processor time in which clawd writes down 1,000 allowed attempts",
        bound: None,
        rounds: Rounds { quick: 3, full: 8 },
        run: daemon_cpu,
    },
    Measure {
        name: "clawd_worked_rss",
        unit: "MiB",
        about: "resident memory of a clawd that did all that was measured before",
        bound: Some(Bound::Below(30.0)),
        rounds: Rounds { quick: 1, full: 1 },
        run: |rig, _| alone(vec![rig.daemon_rss_mib()?]),
    },
];

// === impl Measure ===

impl Measure {
    /// Measures it.
    ///
    /// # Errors
    /// It could not be measured.
    pub(crate) fn take(&self, rig: &mut Rig, rounds: u32) -> anyhow::Result<Row> {
        let samples = (self.run)(rig, rounds)?;
        Ok(Row {
            name: self.name,
            unit: self.unit,
            value: Summary::of(&samples.inside).context("nothing was measured")?,
            baseline: Summary::of(&samples.outside),
            bound: self.bound,
        })
    }
}

/// Samples of what has no counterpart.
fn alone(inside: Vec<f64>) -> anyhow::Result<Samples> {
    Ok(Samples {
        inside,
        outside: Vec::new(),
    })
}

/// Has both meters do `job` in turn; one more round before the first fills caches and is not kept.
fn alternate(
    rig: &mut Rig,
    rounds: u32,
    job: &str,
    from_ns: impl Fn(f64) -> f64,
) -> anyhow::Result<Samples> {
    let pair = rig.pair()?;
    let mut samples = Samples::default();
    for round in 0..=rounds {
        for _ in 0..SAMPLES_PER_ROUND {
            let outside = pair.outside.time(job).context("outside the sandbox")?;
            let inside = pair.inside.time(job).context("inside the sandbox")?;
            if round > 0 {
                samples.outside.push(from_ns(outside));
                samples.inside.push(from_ns(inside));
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(samples)
}

fn per_item(rig: &mut Rig, rounds: u32, job: &str, divisor: f64) -> anyhow::Result<Samples> {
    alternate(rig, rounds, job, |ns| ns / divisor)
}

fn bulk(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let job = format!("bulk {} {BULK_MIB}", sink_address());
    alternate(rig, rounds, &job, |ns| f64::from(BULK_MIB) * NS_PER_S / ns)
}

fn spawn(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let (mut ours, mut theirs) = rig.launchers(&[TRUE]);
    let mut samples = Samples::default();
    for round in 0..=rounds {
        let outside = timed(&mut theirs)?;
        let inside = timed(&mut ours)?;
        if round > 0 {
            samples.outside.push(outside);
            samples.inside.push(inside);
        }
    }
    Ok(samples)
}

/// Milliseconds from the start of a program to its end.
fn timed(command: &mut Command) -> anyhow::Result<f64> {
    command.stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().context("cannot start a program")?;
    let elapsed = start.elapsed();
    if !status.success() {
        bail!("`{}` ended with {status}", crate::process::shown(command));
    }
    Ok(elapsed.as_secs_f64() * NS_PER_S / NS_PER_MS)
}

/// A tick of the kernel's account is 10 ms: each sample is of many connects.
fn daemon_cpu(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    const BURSTS: u32 = 4;
    const CONNECTS: u32 = UDP_CONNECTS * SAMPLES_PER_ROUND;
    let job = format!("udp {} {CONNECTS}", sink_address());
    let mut inside = Vec::new();
    for _ in 0..rounds {
        rig.pair()?;
        std::thread::sleep(PAUSE);
        let before = rig.daemon_cpu_ms()?;
        for _ in 0..BURSTS {
            rig.pair()?.inside.time(&job)?;
            std::thread::sleep(PAUSE);
        }
        let used = rig.daemon_cpu_ms()? - before;
        inside.push(used * 1000.0 / f64::from(CONNECTS * BURSTS));
    }
    alone(inside)
}
