//! Builds `clawd`, its eBPF object inside, with `clawctl`.

use crate::args::{Arguments, UsageError};
use crate::setup::{self, Group};
use crate::{process, workspace};

pub(crate) const USAGE: &str = "[--release | --debug]";
pub(crate) const ABOUT: &str =
    "Build clawd and clawctl, and count the instructions of every eBPF program
Installs first what the build needs. The count comes from the kernel's verifier: it needs root.";

/// Which of Cargo's profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Optimised: what is shipped, tested and measured.
    Release,
    /// Quick to compile.
    Debug,
}

/// `cargo xtask build [--release | --debug]`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(raw, &["--release", "--debug"])?;
    arguments.expect_flags_only()?;
    if arguments.has("--release") && arguments.has("--debug") {
        return Err(UsageError::new("`--release` and `--debug` exclude each other").into());
    }
    setup::ensure(&[Group::Build])?;
    let profile = if arguments.has("--debug") {
        Profile::Debug
    } else {
        Profile::Release
    };
    build(profile)?;
    verify(profile)
}

/// Compiles both programs; the build script of `clawd-kernel` compiles and embeds the eBPF object.
///
/// # Errors
/// Cargo fails.
pub(crate) fn build(profile: Profile) -> anyhow::Result<()> {
    let mut command = process::cargo(&["build", "--locked", "-p", "clawd", "-p", "clawctl"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    process::run(&mut command)
}

/// Has the running kernel verify every program, which prints their instruction counts.
///
/// # Errors
/// The kernel refuses a program.
pub(crate) fn verify(profile: Profile) -> anyhow::Result<()> {
    if !workspace::is_root() {
        println!("instruction counts skipped: loading programs into the kernel needs root");
        return Ok(());
    }
    let directory = match profile {
        Profile::Release => workspace::release_dir(),
        Profile::Debug => workspace::target_dir().join("debug"),
    };
    process::run(&mut process::command(
        &directory.join("clawd").to_string_lossy(),
        &["verify"],
    ))
}
