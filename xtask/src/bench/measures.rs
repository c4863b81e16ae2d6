//! How something is measured, again and again.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::meter::Meter;
use super::report::{Bound, Row};
use super::rig::{Rig, sink_address};
use super::statistics::Summary;

/// How long all is let alone after a round, so that little runs while the daemon writes down what
/// happened in it. It fetches allowed attempts ten times a second.
pub(super) const PAUSE: Duration = Duration::from_millis(220);
/// Samples a round from inside, and as many from outside, in turn. A sample takes a millisecond or
/// two: on a busy machine most then run from their start to their end before others get the processor.
pub(super) const SAMPLES_PER_ROUND: u32 = 8;
/// UDP connects a sample: in a round fewer than the ring of events holds, or reporting would become
/// cheaper.
pub(super) const UDP_CONNECTS: u32 = 900;
/// Datagrams a sample, fewer than that for the same reason.
pub(super) const SENDS: u32 = 400;
pub(super) const TCP_CONNECTS: u32 = 50;
pub(super) const GETS: u32 = 15;
/// System calls a sample.
pub(super) const CALLS: u32 = 10_000;
const BULK_MIB: u32 = 32;
/// What is started where only the start counts.
pub(super) const TRUE: &str = "/usr/bin/true";

pub(super) const NS_PER_US: f64 = 1e3;
const NS_PER_MS: f64 = 1e6;
pub(super) const NS_PER_S: f64 = 1e9;

/// How many rounds, of which each has some samples from inside and some from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// For `--quick`.
    pub(crate) quick: u32,
    /// For a full run.
    pub(crate) full: u32,
}

/// How something is measured.
pub(super) type Run = fn(&mut Rig, u32) -> anyhow::Result<Samples>;

/// One thing to measure.
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) about: &'static str,
    pub(crate) bound: Option<Bound>,
    pub(crate) rounds: Rounds,
    pub(super) run: Run,
}

/// Samples in the measure's unit.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(super) inside: Vec<f64>,
    pub(super) outside: Vec<f64>,
}

// === impl Measure ===

impl Measure {
    /// Measures it; `None` where this machine lacks what it measures.
    ///
    /// # Errors
    /// It could not be measured.
    pub(crate) fn take(&self, rig: &mut Rig, rounds: u32) -> anyhow::Result<Option<Row>> {
        let samples = (self.run)(rig, rounds)?;
        Ok(Summary::of(&samples.inside).map(|value| Row {
            name: self.name,
            unit: self.unit,
            value,
            baseline: Summary::of(&samples.outside),
            bound: self.bound,
        }))
    }
}

/// Samples of what has no counterpart.
pub(super) fn alone(inside: Vec<f64>) -> anyhow::Result<Samples> {
    Ok(Samples {
        inside,
        outside: Vec::new(),
    })
}

/// Has both meters do `job` in turn; one more round before the first fills caches and is not kept.
pub(super) fn in_turn(
    (outside, inside): (&mut Meter, &mut Meter),
    rounds: u32,
    job: &str,
    from_ns: impl Fn(f64) -> f64,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for round in 0..=rounds {
        for _ in 0..SAMPLES_PER_ROUND {
            let without = outside.time(job).context("outside the sandbox")?;
            let within = inside.time(job).context("inside the sandbox")?;
            if round > 0 {
                samples.outside.push(from_ns(without));
                samples.inside.push(from_ns(within));
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(samples)
}

/// [`in_turn`] of the programs that most measures share.
fn alternate(
    rig: &mut Rig,
    rounds: u32,
    job: &str,
    from_ns: impl Fn(f64) -> f64,
) -> anyhow::Result<Samples> {
    let pair = rig.pair()?;
    in_turn((&mut pair.outside, &mut pair.inside), rounds, job, from_ns)
}

pub(super) fn per_item(
    rig: &mut Rig,
    rounds: u32,
    job: &str,
    divisor: f64,
) -> anyhow::Result<Samples> {
    alternate(rig, rounds, job, |ns| ns / divisor)
}

/// Datagrams in a millisecond.
pub(super) fn rate(rig: &mut Rig, rounds: u32, job: &str) -> anyhow::Result<Samples> {
    alternate(rig, rounds, job, |ns| f64::from(SENDS) * NS_PER_MS / ns)
}

pub(super) fn bulk(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let job = format!("bulk {} {BULK_MIB}", sink_address());
    alternate(rig, rounds, &job, |ns| f64::from(BULK_MIB) * NS_PER_S / ns)
}

pub(super) fn spawn(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
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
pub(super) fn daemon_cpu(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    const BURSTS: u32 = 4;
    const CONNECTS: u32 = UDP_CONNECTS * SAMPLES_PER_ROUND;
    let job = format!("udp {} {CONNECTS}", sink_address());
    let mut inside = Vec::new();
    for _ in 0..rounds {
        rig.pair()?;
        std::thread::sleep(PAUSE);
        let before = rig.daemon().cpu_ms()?;
        for _ in 0..BURSTS {
            rig.pair()?.inside.time(&job)?;
            std::thread::sleep(PAUSE);
        }
        let used = rig.daemon().cpu_ms()? - before;
        inside.push(used * 1000.0 / f64::from(CONNECTS * BURSTS));
    }
    alone(inside)
}
