//! Ten sandboxes that execute programs as fast as they can.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clawd_audit::tail::read_line;
use clawd_audit::{Activity, AuditRecord};
use clawd_common::verdict::Reason;

use super::measures::{PAUSE, Samples, TRUE, alone};
use super::meter::Meter;
use super::rig::Rig;

/// Sandboxes.
const COUNT: usize = 10;
/// Execs in each, a round: few enough that the ring of events holds those that the daemon has no
/// time for, since a lost event is an exec that nobody vouches for.
const EXECS: u32 = 500;
/// How long the daemon may take to write down what happened.
const RECORDS_MAX: Duration = Duration::from_secs(10);

/// Measuring programs that work at the same time.
pub(crate) struct Crowd {
    /// Each in a sandbox of its own.
    pub(super) inside: Vec<Meter>,
    /// As many in none.
    pub(super) outside: Vec<Meter>,
}

// === impl Crowd ===

impl Crowd {
    /// Has all in sandboxes do a job at the same time; returns the sum of their answers.
    pub(super) fn inside(&mut self, job: &str) -> anyhow::Result<f64> {
        together(&mut self.inside, job).context("inside the sandboxes")
    }

    /// As [`Crowd::inside`] with those outside.
    pub(super) fn outside(&mut self, job: &str) -> anyhow::Result<f64> {
        together(&mut self.outside, job).context("outside the sandboxes")
    }
}

fn together(meters: &mut [Meter], job: &str) -> anyhow::Result<f64> {
    for meter in meters.iter_mut() {
        meter.begin(job)?;
    }
    let answers: Vec<_> = meters.iter_mut().map(Meter::end).collect();
    answers.into_iter().sum()
}

/// Execs a second of all together.
pub(super) fn rate(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let mut crowd = rig.crowd("crowd", COUNT)?;
    let job = job(&program(rig)?);
    let mut samples = Samples::default();
    for round in 0..=rounds {
        let start = Instant::now();
        crowd.outside(&job)?;
        let outside = start.elapsed();
        let start = Instant::now();
        crowd.inside(&job)?;
        let inside = start.elapsed();
        if round > 0 {
            samples.inside.push(all_execs() / inside.as_secs_f64());
            samples.outside.push(all_execs() / outside.as_secs_f64());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(samples)
}

/// Execs for which no record says that the program was identified.
pub(super) fn missed(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let mut crowd = rig.crowd("watched", COUNT)?;
    let program = program(rig)?;
    let job = job(&program);
    let log = rig.audit_log();
    let begin = fs::metadata(&log)?.len();
    let lost_before = rig.events_lost()?;
    for _ in 0..rounds {
        crowd.inside(&job)?;
        std::thread::sleep(PAUSE);
    }
    let wanted = all_execs() * f64::from(rounds);
    let deadline = Instant::now() + RECORDS_MAX;
    let mut missed = wanted;
    while missed > 0.0 && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
        missed = wanted - f64::from(identified(&log, begin, &program)?);
    }
    let lost = rig.events_lost()?.saturating_sub(lost_before);
    if lost > 0 {
        eprintln!("{lost} events of those execs were lost; they count as missed");
    }
    alone(vec![missed])
}

fn all_execs() -> f64 {
    f64::from(EXECS) * COUNT as f64
}

fn job(program: &Path) -> String {
    format!("exec {} {EXECS}", program.display())
}

/// The program that starts fastest.
fn program(rig: &Rig) -> anyhow::Result<PathBuf> {
    Ok(rig.static_true()?.unwrap_or_else(|| TRUE.into()))
}

/// How many execs of a program the audit log tells of as identified, from a position on.
fn identified(log: &Path, begin_bytes: u64, program: &Path) -> anyhow::Result<u32> {
    let text = fs::read(log).context("cannot read the audit log")?;
    let begin = usize::try_from(begin_bytes)?;
    let text = text.get(begin..).unwrap_or_default();
    let is_wanted = |record: &AuditRecord| {
        record.activity == Activity::Exec
            && record.reason == Some(Reason::Identified)
            && record.exe.as_deref().map(Path::new) == Some(program)
    };
    let records = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| read_line(line).ok());
    Ok(u32::try_from(records.filter(is_wanted).count())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"time":"2026-01-01T00:00:00.000000000Z","seq":4,"class":{"name":"Process Activity","uid":1007},"sandbox":"a","policy_generation":1,"pid":7,"exe":"/bin/true","sha256":null,"lineage":[],"action":"allowed","reason":"identified","rule":null,"dst_name":null,"dst_ip":null,"dst_port":null,"protocol":null,"activity":"exec"}"#;

    #[test]
    fn only_execs_of_the_program_with_identity_count() {
        let lines = [
            LINE.to_owned(),
            LINE.to_owned(),
            LINE.replace("\"identified\"", "\"not_hashed\""),
            LINE.replace("\"identified\"", "\"no_identity_not_hashed\""),
            LINE.replace("/bin/true", "/bin/false"),
            LINE.replace("\"exec\"", "\"connect\""),
            LINE.get(..90).unwrap().to_owned(),
        ];
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, lines.join("\n")).unwrap();
        let count = |begin| identified(&log, begin, Path::new("/bin/true")).unwrap();
        assert_eq!(count(0), 2);
        assert_eq!(count(u64::try_from(LINE.len() + 1).unwrap()), 1);
    }
}
