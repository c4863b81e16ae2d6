//! What many rules and many sandboxes cost.

use super::machine;
use super::many::Waiting;
use super::measures::{NS_PER_US, PAUSE, SAMPLES_PER_ROUND, Samples, UDP_CONNECTS, alone, in_turn};
use super::rig::{Rig, sink_address};

/// Rules of the smaller and of the larger policy, besides those of the measure.
const FEW: u32 = 10;
const MANY: u32 = 10_000;
/// Sandboxes that live beside the one that is measured.
const SANDBOXES: usize = 1000;

fn job() -> String {
    format!("udp {} {UDP_CONNECTS}", sink_address())
}

/// Microseconds of one of the job's connects.
fn each_us(ns: f64) -> f64 {
    ns / (f64::from(UDP_CONNECTS) * NS_PER_US)
}

/// A connect in a sandbox with many rules; `outside` is one with few.
pub(super) fn connects(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    rig.pair()?;
    let mut many = rig.inside_among("many-rules", MANY)?;
    let mut few = rig.inside_among("few-rules", FEW)?;
    for meter in [&mut many, &mut few] {
        meter.time("pin 0")?;
    }
    in_turn((&mut few, &mut many), rounds, &job(), each_us)
}

/// A connect beside many sandboxes; `outside` is the same one before they were started.
pub(super) fn among_sandboxes(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    rig.pair()?;
    let mut meter = rig.inside("among")?;
    meter.time("pin 0")?;
    let mut take = |rounds: u32| {
        let mut taken = Vec::new();
        for round in 0..=rounds {
            for _ in 0..SAMPLES_PER_ROUND {
                let time = each_us(meter.time(&job())?);
                if round > 0 {
                    taken.push(time);
                }
            }
            std::thread::sleep(PAUSE);
        }
        anyhow::Ok(taken)
    };
    let outside = take(rounds)?;
    let waiting = machine::as_usual(&[rig.daemon().0], || Waiting::start(rig, SANDBOXES))?;
    std::thread::sleep(PAUSE);
    let inside = take(rounds)?;
    waiting.end()?;
    Ok(Samples { inside, outside })
}

/// Milliseconds until a push of so many rules is in force.
pub(super) fn pushes(rig: &mut Rig, rounds: u32, rules: u32) -> anyhow::Result<Samples> {
    let name = format!("pushed-{rules}");
    let _meter = rig.inside(&name)?;
    let mut taken = Vec::new();
    for _ in 0..rounds {
        taken.push(rig.push(&name, rules)?);
        std::thread::sleep(PAUSE);
    }
    alone(taken)
}
