//! Everything that CI runs, in one order, with one closing line.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::args::Arguments;
use crate::build::{self, Profile};
use crate::outcome::{AlreadyReported, Outcome};
use crate::setup::{self, Group};
use crate::{dependencies, fuzz, process, vm, workspace};

pub(crate) const USAGE: &str = "[SERIES]...";
pub(crate) const ABOUT: &str =
    "Run all that CI runs: set-up, formatting, lints, dependencies, build, tests, fuzz targets
Stops at the first step that fails. The kernel tests run on this host, as root, then inside each
kernel series that is named, or all that clawd supports. The last line sums up all tests; a step
that fails without a test's failure counts as one.";

/// One step: its name, and what it does.
type Step<'run> = (
    &'static str,
    &'run dyn Fn(&mut Outcome) -> anyhow::Result<()>,
);

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

/// `cargo xtask test [SERIES]...`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(raw, &[])?;
    let series = vm::series_in(&arguments.words)?;
    let virtual_machines = |outcome: &mut Outcome| on_virtual_machines(&series, outcome);
    let steps: &[Step<'_>] = &[
        ("set-up", &|_| set_up(&series)),
        ("formatting", &|_| formatting()),
        ("lints", &|_| lints()),
        ("dependencies", &|_| dependencies::check()),
        ("build", &|_| build::build(Profile::Release)),
        ("programs verified by this kernel", &|_| {
            build::verify(Profile::Release)
        }),
        ("unit tests", &unit_tests),
        ("fuzz", &|_| fuzz::fuzz(&[], fuzz::SECONDS_DEFAULT)),
        ("kernel tests on this host", &kernel_tests),
        ("kernel tests in virtual machines", &virtual_machines),
    ];
    run_steps(steps)
}

fn set_up(series: &[String]) -> anyhow::Result<()> {
    setup::ensure(&[Group::Build, Group::Demo, Group::Vm])?;
    vm::fetch_kernels(series).map(drop)
}

fn run_steps(steps: &[Step<'_>]) -> anyhow::Result<()> {
    let mut outcome = Outcome::default();
    let mut durations: Vec<(&str, Duration)> = Vec::new();
    for (index, (name, step)) in steps.iter().enumerate() {
        println!("== {name} ({} of {})", index + 1, steps.len());
        let start = Instant::now();
        let result = step(&mut outcome);
        durations.push((name, start.elapsed()));
        if let Err(error) = result {
            eprintln!("error: {name}: {error:#}");
            print_durations(&durations, false);
            println!("{}", outcome.with_a_failure());
            return Err(AlreadyReported.into());
        }
    }
    print_durations(&durations, true);
    println!("{outcome}");
    Ok(())
}

fn print_durations(durations: &[(&str, Duration)], succeeded: bool) {
    println!("== summary");
    for (index, (name, duration)) in durations.iter().enumerate() {
        let is_last = index + 1 == durations.len();
        let word = if succeeded || !is_last {
            "ok"
        } else {
            "FAILED"
        };
        println!("{:>7.1} s  {word:<6}  {name}", duration.as_secs_f64());
    }
}

fn formatting() -> anyhow::Result<()> {
    process::run(&mut process::cargo(&["fmt", "--all", "--check"]))?;
    process::run(&mut process::cargo(&[
        "fmt",
        "--manifest-path",
        "ebpf/Cargo.toml",
        "--check",
    ]))?;
    for manifest in fuzz::manifests()? {
        let mut command = process::cargo(&["fmt", "--check", "--manifest-path"]);
        process::run(command.arg(manifest))?;
    }
    Ok(())
}

fn lints() -> anyhow::Result<()> {
    // With the profile of the build, so that build scripts and macros are compiled once.
    let workspace = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--release",
        "--locked",
        "--quiet",
    ];
    process::run(process::cargo(&workspace).args(DENY_WARNINGS))?;
    let ebpf = [
        "clippy",
        "--release",
        "--locked",
        "--quiet",
        "--target",
        "bpfel-unknown-none",
    ];
    let mut command = process::cargo(&ebpf);
    command.args(["-Z", "build-std=core"]).args(DENY_WARNINGS);
    // The same switch as the build of the object has: stable Rust, but for `build-std`.
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", workspace::target_dir().join("ebpf"));
    process::run(command.current_dir(workspace::root().join("ebpf")))?;
    fuzz::manifests()?
        .iter()
        .try_for_each(|manifest| fuzz::lint(manifest))
}

fn unit_tests(outcome: &mut Outcome) -> anyhow::Result<()> {
    cargo_test(
        &["--workspace", "--exclude", workspace::KERNEL_TESTS_PACKAGE],
        outcome,
    )
}

fn kernel_tests(outcome: &mut Outcome) -> anyhow::Result<()> {
    if !workspace::is_root() {
        bail!("only root can load programs into the kernel; run `cargo xtask test` as root");
    }
    cargo_test(&["-p", workspace::KERNEL_TESTS_PACKAGE], outcome)
}

fn cargo_test(selection: &[&str], outcome: &mut Outcome) -> anyhow::Result<()> {
    let mut command =
        process::cargo(&["test", "--release", "--locked", "--quiet", "--no-fail-fast"]);
    command
        .args(selection)
        .env(workspace::BIN_DIR_VARIABLE, workspace::release_dir());
    let succeeded = process::stream(&mut command, |line| {
        if let Some(summary) = Outcome::from_summary_line(line) {
            *outcome += summary;
        }
    })?;
    if succeeded {
        Ok(())
    } else {
        bail!("tests failed")
    }
}

fn on_virtual_machines(series: &[String], outcome: &mut Outcome) -> anyhow::Result<()> {
    let report = vm::test_on(series, &[])?;
    *outcome += report.outcome;
    if report.failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", report.failures.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn steps_stop_at_the_first_failure() {
        let later_ran = Cell::new(false);
        let later = |_: &mut Outcome| {
            later_ran.set(true);
            Ok(())
        };
        let result = run_steps(&[("first", &|_| bail!("broken")), ("later", &later)]);
        assert!(result.unwrap_err().is::<AlreadyReported>());
        assert!(!later_ran.get());
    }

    #[test]
    fn steps_all_run_when_none_fails() {
        let count = Cell::new(0);
        let step = |_: &mut Outcome| {
            count.set(count.get() + 1);
            Ok(())
        };
        run_steps(&[("first", &step), ("second", &step)]).unwrap();
        assert_eq!(count.get(), 2);
    }
}
