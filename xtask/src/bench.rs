//! Measures what a sandbox costs, inside and outside in turn.

mod builds;
mod crowd;
mod execs;
mod machine;
mod many;
mod measures;
mod meter;
mod processes;
mod report;
mod rig;
mod rules;
mod statistics;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::args::{Arguments, UsageError};
use crate::outcome::AlreadyReported;
use crate::workspace::{self, BIN_DIR_VARIABLE, KERNEL_TESTS_PACKAGE};
use measures::Measure;
use rig::Rig;
use table::MEASURES;

pub(crate) const USAGE: &str = "[--json] [--quick] [NAME]...";
pub(crate) const ABOUT: &str = "Measure what a sandbox costs, beside the same program in none
Installs what is missing and builds first; with CLAWD_BIN_DIR set, the programs in that folder are
measured instead. Medians of many alternating rounds, with their quartiles. Figures are never
asserted: it fails only if something could not be measured. NAME picks what to measure, `--quick`
takes fewer rounds, `--json` prints one object a line: name, value, unit, baseline, ratio, bound,
result.";

const JSON: &str = "--json";
const QUICK: &str = "--quick";
/// Leaves the scheduling as a host has it; for a quiet machine.
const ORDINARY: &str = "--ordinary";

/// `cargo xtask bench [--json] [--quick] [NAME]...`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(raw, &[JSON, QUICK, ORDINARY])?;
    if let Some(word) = arguments.trailing.first() {
        return Err(UsageError::new(format!("`{word}` is one argument too many")).into());
    }
    let chosen = choose(&arguments.words)?;
    if !workspace::is_root() {
        bail!("measuring needs root: it loads programs into the kernel; run it as root");
    }
    if std::env::var_os(BIN_DIR_VARIABLE).is_none() {
        let programs = build()?;
        return measure_in_a_child(raw, &programs);
    }
    measure(&chosen, &arguments)
}

/// The named measures in the table's order; all of them if none is named.
fn choose(names: &[String]) -> Result<Vec<&'static Measure>, UsageError> {
    for name in names {
        if !MEASURES.iter().any(|measure| measure.name == name) {
            let known: Vec<&str> = MEASURES.iter().map(|measure| measure.name).collect();
            return Err(UsageError::new(format!(
                "`{name}` is not measured; there are {}",
                known.join(", ")
            )));
        }
    }
    let is_chosen =
        |measure: &&Measure| names.is_empty() || names.iter().any(|name| name == measure.name);
    Ok(MEASURES.iter().filter(is_chosen).collect())
}

/// Installs what is missing, builds the programs, and returns their folder. Standard output stays
/// free for the figures.
fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    for arguments in [["setup"].as_slice(), &["build", "--release"]] {
        checked(Command::new(&own).args(arguments).stdout(io::stderr()))?;
    }
    let arguments = [
        "build",
        "--release",
        "--locked",
        "-p",
        KERNEL_TESTS_PACKAGE,
        "--bin",
        rig::METER,
    ];
    checked(crate::process::cargo(&arguments).stdout(io::stderr()))?;
    Ok(workspace::release_dir())
}

/// This program again, told where the programs are: only a new process can be.
fn measure_in_a_child(raw: &[String], programs: &Path) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = Command::new(own);
    command
        .arg("bench")
        .args(raw)
        .env(BIN_DIR_VARIABLE, programs);
    checked(&mut command)
}

/// Runs a command that reports its own failure.
fn checked(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .context("cannot start a program")?;
    if status.success() {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

fn measure(chosen: &[&Measure], arguments: &Arguments) -> anyhow::Result<()> {
    let json = arguments.has(JSON);
    let scheduling = if arguments.has(ORDINARY) {
        "scheduling ordinary, as asked for".to_owned()
    } else {
        machine::go_first()
    };
    if !json {
        for line in machine::lines() {
            println!("{line}");
        }
        println!("{scheduling}");
        for measure in chosen {
            println!("{}: {}", measure.name, measure.about);
        }
    }
    let mut rig = Rig::start()?;
    let mut rows = Vec::new();
    let mut failures = 0_usize;
    for measure in chosen {
        let rounds = if arguments.has(QUICK) {
            measure.rounds.quick
        } else {
            measure.rounds.full
        };
        eprintln!("measuring {} ({rounds} rounds)", measure.name);
        match measure.take(&mut rig, rounds) {
            Ok(None) => eprintln!(
                "{} is left out: this machine has no such program",
                measure.name
            ),
            Ok(Some(row)) if json => println!("{}", row.to_json()),
            Ok(Some(row)) => rows.push(row),
            Err(error) => {
                failures += 1;
                eprintln!("error: {} could not be measured: {error:#}", measure.name);
            }
        }
    }
    let lost = rig.events_lost()?;
    if lost > 0 {
        eprintln!("{lost} events found no room: figures inside are lower than with all reported");
    }
    if !json {
        print!("{}", report::table(&rows));
    }
    if failures > 0 {
        bail!("{failures} of {} could not be measured", chosen.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_in_the_tables_order() {
        let names = ["spawn", "udp_connect"].map(str::to_owned);
        let chosen: Vec<&str> = choose(&names)
            .unwrap()
            .iter()
            .map(|measure| measure.name)
            .collect();
        assert_eq!(chosen, ["udp_connect", "spawn"]);
        assert_eq!(choose(&[]).unwrap().len(), MEASURES.len());
    }

    #[test]
    fn unknown_name_is_refused_with_those_there_are() {
        let refused = choose(&["upd_connect".to_owned()]);
        let text = refused.err().unwrap().to_string();
        assert!(
            text.contains("`upd_connect`") && text.contains("udp_connect,"),
            "{text}"
        );
    }

    #[test]
    fn quick_runs_have_fewer_rounds() {
        for measure in MEASURES {
            assert!(
                measure.rounds.quick <= measure.rounds.full,
                "{}",
                measure.name
            );
        }
    }
}
