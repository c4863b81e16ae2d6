//! Execs of files that the gate knows, the first exec of a file, and the first connect after an exec.

use std::path::Path;

use anyhow::Context as _;

use super::machine;
use super::measures::{NS_PER_US, PAUSE, Samples, alone, in_turn};
use super::rig::{self, Rig, sink_address};

/// Execs of a known program a sample. The first of them, after the pause in which the other side had its
/// turn, pays for cold caches and for a processor that has fallen asleep.
const EXECS: u32 = 16;

/// Files that are hashed in a round, and the size of each in bytes: the time for all else that an
/// exec does is small beside that for the hash.
const FILES: u64 = 8;
const FILE_BYTES: u32 = 64 << 20;
/// Sandboxes that execute at the same time: one for each processor of a small machine.
const SANDBOXES: usize = 2;
/// Programs a round in each of them.
const PROGRAMS: u32 = 500;

/// Executes a program that the gate knows, again and again.
///
/// Nothing here has the bench's priority: no sandbox has one, and the kernel wakes a process that goes
/// before others elsewhere than an ordinary one, so that the way to the gate and back is another.
pub(super) fn warm(
    rig: &Rig,
    rounds: u32,
    sandbox: &str,
    program: &Path,
) -> anyhow::Result<Samples> {
    let job = format!("exec {} {EXECS}", program.display());
    machine::as_usual(&[rig.daemon().0], || {
        let mut inside = rig.inside(sandbox)?;
        let mut outside = rig.outside()?;
        for meter in [&mut inside, &mut outside] {
            meter.time("pin 0")?;
        }
        in_turn((&mut outside, &mut inside), rounds, &job, |ns| {
            ns / (f64::from(EXECS) * NS_PER_US)
        })
    })
}

/// Executes large files for the first time after a change, then again.
pub(super) fn hash_rate(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let programs = rig.large_programs(FILES, FILE_BYTES as usize)?;
    let pair = rig.pair()?;
    let mut samples = Samples::default();
    for round in 0..=rounds {
        for program in &programs {
            rig::change(program, (u64::from(round) + 1) << 32)?;
        }
        // A file that has just changed is not hashed at once, which is not what is measured.
        std::thread::sleep(PAUSE);
        for program in &programs {
            let path = program.display();
            let exec = format!("exec {path} 1");
            let cold = pair.inside.time(&exec).context("inside the sandbox")?;
            let warm = pair.inside.time(&exec).context("inside the sandbox")?;
            let outside = pair.outside.time(&format!("hash {path}"))?;
            if round > 0 {
                // Bytes a nanosecond are GB/s.
                samples.inside.push(f64::from(FILE_BYTES) / (cold - warm));
                samples.outside.push(f64::from(FILE_BYTES) / outside);
            }
        }
    }
    Ok(samples)
}

/// Counts the denials of programs that connect at once.
pub(super) fn first_connects(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let mut crowd = rig.crowd("first", SANDBOXES)?;
    let meter = rig.meter().display();
    let job = format!("first {meter} {} {PROGRAMS}", sink_address());
    let mut denials = 0.0;
    for _ in 0..rounds {
        denials += crowd.inside(&job)?;
        std::thread::sleep(PAUSE);
    }
    alone(vec![denials])
}
