//! Fuzzes every parser that has a fuzz target, on the pinned compiler.

mod build;
mod find;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};

use crate::args::{Arguments, UsageError};
use crate::process;
use crate::setup::{self, Group};
use find::Target;

pub(crate) use build::lint;
pub(crate) use find::manifests;

pub(crate) const USAGE: &str = "[--seconds N] [TARGET]...";
pub(crate) const ABOUT: &str =
    "Fuzz the parsers, each for 10 seconds or those that `--seconds` says
TARGET is the name of a fuzz target; without one, all run. An input that makes one crash, hang, or
take too much memory is kept, and its path printed.";

/// Long enough that a seed's neighbours are tried, short enough for every run of CI.
pub(crate) const SECONDS_DEFAULT: u32 = 10;

/// Twice the largest shipped seed, and more: bigger inputs make more of the same, more slowly.
const INPUT_BYTES_MAX: u32 = 8192;

/// Twice what the targets reach in minutes, AddressSanitizer's quarantine included.
const MEMORY_MIB_MAX: u32 = 1024;

/// One input takes milliseconds; a busy machine gets a thousandfold.
const INPUT_SECONDS_MAX: u32 = 20;

/// How much of the fuzzer's report a failure shows.
const REPORT_LINES_MAX: usize = 150;

/// A directory that is gone when this is.
struct Scratch(PathBuf);

/// `cargo xtask fuzz [--seconds N] [TARGET]...`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    let (seconds, rest) = seconds_in(raw)?;
    let arguments = Arguments::parse(&rest, &[])?;
    if let Some(word) = arguments.trailing.first() {
        return Err(
            UsageError::new(format!("`{word}` is one argument too many; see `--help`")).into(),
        );
    }
    // Not what the build needs: that has eBPF's tools, and g++ brings the linker.
    setup::ensure(&[Group::Vm])?;
    fuzz(&arguments.words, seconds)
}

/// Builds and runs the targets named by `names`, or all, for `seconds` each.
///
/// # Errors
/// A name is no target's, a target does not compile, tried nothing, or failed on an input.
pub(crate) fn fuzz(names: &[String], seconds: u32) -> anyhow::Result<()> {
    let targets = find::targets()?;
    let chosen = choose(&targets, names)?;
    let mut manifests: Vec<&Path> = chosen
        .iter()
        .map(|target| target.manifest.as_path())
        .collect();
    manifests.dedup();
    for manifest in manifests {
        build::build(manifest)?;
    }
    let mut failures = Vec::new();
    for target in chosen {
        if let Err(error) = run_target(target, seconds) {
            eprintln!("error: fuzz target {}: {error:#}", target.name);
            failures.push(target.name.as_str());
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("fuzz targets failed: {}", failures.join(", "))
    }
}

/// Takes `--seconds N` out of what was typed.
fn seconds_in(raw: &[String]) -> Result<(u32, Vec<String>), UsageError> {
    let mut rest = raw.to_vec();
    let Some(index) = raw.iter().position(|argument| argument == "--seconds") else {
        return Ok((SECONDS_DEFAULT, rest));
    };
    let seconds = raw
        .get(index.saturating_add(1))
        .and_then(|text| text.parse().ok());
    // libFuzzer takes 0 for "without end".
    let Some(seconds) = seconds.filter(|seconds| *seconds > 0) else {
        return Err(UsageError::new("`--seconds` needs a whole number from 1"));
    };
    rest.drain(index..=index.saturating_add(1));
    Ok((seconds, rest))
}

fn choose<'all>(
    targets: &'all [Target],
    names: &[String],
) -> Result<Vec<&'all Target>, UsageError> {
    let unknown = names
        .iter()
        .find(|name| targets.iter().all(|target| target.name != **name));
    if let Some(name) = unknown {
        let known: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        return Err(UsageError::new(format!(
            "there is no fuzz target `{name}`; there are: {}",
            known.join(", ")
        )));
    }
    let is_chosen = |target: &&Target| names.is_empty() || names.contains(&target.name);
    Ok(targets.iter().filter(is_chosen).collect())
}

fn run_target(target: &Target, seconds: u32) -> anyhow::Result<()> {
    let corpus = Scratch::new(&format!("corpus-{}-{}", std::process::id(), target.name))?;
    let artifacts = build::directory().join("artifacts").join(&target.name);
    fs::create_dir_all(&artifacts)
        .with_context(|| format!("cannot create {}", artifacts.display()))?;
    let mut command = fuzzer(target, seconds, &artifacts);
    command.arg(&corpus.0).args(&target.seeds);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    judge(target, &output)
}

/// The built target with every limit; it keeps in `artifacts` what it fails on.
fn fuzzer(target: &Target, seconds: u32, artifacts: &Path) -> Command {
    let mut command = process::command(&build::binary(&target.name).to_string_lossy(), &[]);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1");
    command
}

fn judge(target: &Target, output: &Output) -> anyhow::Result<()> {
    let report = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // A run that tried nothing must not pass for one that found nothing.
        let tried = tried_in(&report).filter(|tried| *tried > 0);
        let tried = tried.context("it ended well without telling how many inputs it tried")?;
        println!("{}: {tried} inputs, none failed", target.name);
        return Ok(());
    }
    // Lines of progress begin with `#`, those of a backtrace with spaces; the panic is before it.
    let lines: Vec<&str> = report
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let shown = lines.len().saturating_sub(REPORT_LINES_MAX);
    for line in lines.iter().skip(shown) {
        eprintln!("  {line}");
    }
    match artifact_in(&report) {
        Some(path) => bail!("failed on the input {path} ({})", output.status),
        None => bail!("failed, and kept no input ({})", output.status),
    }
}

fn tried_in(report: &str) -> Option<u64> {
    let count = report
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    count.trim().parse().ok()
}

fn artifact_in(report: &str) -> Option<&str> {
    report
        .lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map(|(_, path)| path.trim())
}

// === impl Scratch ===

impl Scratch {
    fn new(name: &str) -> anyhow::Result<Self> {
        let path = build::directory().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests;
