//! Runs the kernel tests on other kernels, in virtual machines without hardware support.

mod apt;
mod compiler;
mod contents;
mod elsewhere;
mod image;
mod kernel;
mod modules;
mod qemu;
mod test_binaries;
mod tree;

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context as _, anyhow, bail};

use crate::args::{Arguments, UsageError};
use crate::build::{self, Profile};
use crate::outcome::Outcome;
use crate::setup::{self, Group};
use crate::workspace;
use contents::TESTS_LEFT_OUT;
use kernel::Kernel;

pub(crate) const USAGE: &str = "[SERIES]... [-- TEST ARGUMENTS]";
pub(crate) const ABOUT: &str = "Run the kernel tests inside Debian's 6.1 and 6.12, emulated by QEMU
SERIES is a kernel series like 6.12; without one, all that clawd supports are booted, side by side.
/dev/kvm is not needed. What follows `--` goes to every test binary. Tests of programs that are too
large for an emulated machine (node, npm, pip, cargo) are left out; the output says so.";

/// The kernel series that every change has to work on, oldest first.
pub(crate) const SERIES: &[&str] = &["6.1", "6.12"];

/// What became of all machines.
#[must_use]
pub(crate) struct Report {
    /// The sum over all test binaries on all kernels.
    pub(crate) outcome: Outcome,
    /// One sentence for each machine that did not end well.
    pub(crate) failures: Vec<String>,
}

/// `cargo xtask vm [SERIES]... [-- TEST ARGUMENTS]`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(raw, &[])?;
    let series = series_in(&arguments.words)?;
    setup::ensure(&[Group::Build, Group::Demo, Group::Vm])?;
    fetch_kernels(&series)?;
    build::build(Profile::Release)?;
    let report = test_on(&series, &arguments.trailing)?;
    println!("{}", report.outcome);
    if report.failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", report.failures.join("; "))
    }
}

/// The series to boot: those named, or all that are supported.
pub(crate) fn series_in(words: &[String]) -> Result<Vec<String>, UsageError> {
    if words.is_empty() {
        return Ok(SERIES.iter().map(|&series| series.to_owned()).collect());
    }
    for word in words {
        let is_number =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !word
            .split_once('.')
            .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
        {
            return Err(UsageError::new(format!(
                "`{word}` is not a kernel series; write one like 6.12"
            )));
        }
    }
    Ok(words.to_vec())
}

/// Fetches what is to be booted, unless it is here; before a build, so that what cannot be had is
/// known at once.
///
/// # Errors
/// A kernel cannot be had; the text says which there are.
pub(crate) fn fetch_kernels(series: &[String]) -> anyhow::Result<Vec<Kernel>> {
    let _only_run = lock()?;
    series.iter().map(|series| kernel::fetch(series)).collect()
}

/// Boots one machine per series at the same time, each with the release build and the kernel tests.
///
/// # Errors
/// No machine was booted: a kernel cannot be had, or the tests do not compile.
pub(crate) fn test_on(series: &[String], test_arguments: &[String]) -> anyhow::Result<Report> {
    let kernels = fetch_kernels(series)?;
    let binaries = test_binaries::build()?;
    let _only_run = lock()?;
    let directory = directory();
    println!(
        "left out of the machines, too large to be emulated: {}",
        TESTS_LEFT_OUT.join(", ")
    );
    let skipped = TESTS_LEFT_OUT.iter();
    let mut arguments: Vec<String> = skipped
        .flat_map(|name| ["--skip".to_owned(), (*name).to_owned()])
        .collect();
    arguments.extend_from_slice(test_arguments);
    let base = image::base(&directory, &binaries, &arguments)?;
    let runs: Vec<(Outcome, anyhow::Result<i32>)> = thread::scope(|scope| {
        let machines: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(|| boot(kernel, &base)))
            .collect();
        let gone = |_| {
            (
                Outcome::default(),
                Err(anyhow!("the thread that watched it panicked")),
            )
        };
        machines
            .into_iter()
            .map(|machine| machine.join().unwrap_or_else(gone))
            .collect()
    });
    let mut report = Report {
        outcome: Outcome::default(),
        failures: Vec::new(),
    };
    for (kernel, (outcome, exit_code)) in kernels.iter().zip(runs) {
        let failure = match exit_code {
            Ok(0) => None,
            Ok(_) => Some(format!("tests failed on {}", kernel.release)),
            Err(error) => Some(format!("{}: {error:#}", kernel.release)),
        };
        report.outcome += if failure.is_none() {
            outcome
        } else {
            outcome.with_a_failure()
        };
        report.failures.extend(failure);
    }
    Ok(report)
}

/// Where kernels and images are kept between runs.
fn directory() -> PathBuf {
    workspace::target_dir().join("vm")
}

/// Keeps a second run in this checkout waiting: it would build its images in the same place.
fn lock() -> anyhow::Result<File> {
    let path = directory().join("lock");
    fs::create_dir_all(directory())
        .with_context(|| format!("cannot make {}", directory().display()))?;
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("waiting for another run of the virtual machines in this checkout");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Returns what the tests counted, even if the machine died, and their exit code.
fn boot(kernel: &Kernel, base: &image::Base) -> (Outcome, anyhow::Result<i32>) {
    let mut outcome = Outcome::default();
    let exit_code = run_machine(kernel, base, |line| {
        println!("[{}] {line}", kernel.series);
        if let Some(summary) = Outcome::from_summary_line(line) {
            outcome += summary;
        }
    });
    (outcome, exit_code)
}

fn run_machine(
    kernel: &Kernel,
    base: &image::Base,
    on_line: impl FnMut(&str),
) -> anyhow::Result<i32> {
    let directory = directory().join(&kernel.series);
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let initrd = image::with_modules(base, kernel, &directory)?;
    qemu::run(kernel, &initrd, &directory, on_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_series_is_booted_by_default() {
        assert_eq!(series_in(&[]).unwrap(), SERIES);
    }

    #[test]
    fn tests_left_out_of_machines_are_there_and_their_modules_say_so() {
        for name in TESTS_LEFT_OUT {
            let parts: Vec<&str> = name.split("::").collect();
            let (test, module) = parts.split_last().unwrap();
            let path = format!("tests/tests/kernel/{}.rs", module.join("/"));
            let text = fs::read_to_string(workspace::root().join(path)).unwrap();
            assert!(text.contains(&format!("fn {test}")), "{name}");
            assert!(
                text.starts_with("//!") && text.contains("cargo xtask vm"),
                "{name}"
            );
        }
    }

    #[test]
    fn named_series_are_taken_and_other_words_refused() {
        assert_eq!(series_in(&["6.12".to_owned()]).unwrap(), ["6.12"]);
        for word in ["6", "6.", ".1", "6.1.0", "six.one", "6.1-rc1"] {
            assert!(series_in(&[word.to_owned()]).is_err(), "{word}");
        }
    }
}
