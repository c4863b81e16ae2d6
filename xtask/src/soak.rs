//! The tests that take too long for every run.

use anyhow::bail;

use crate::args::Arguments;
use crate::build::{self, Profile};
use crate::{process, workspace};

pub(crate) const USAGE: &str = "";
pub(crate) const ABOUT: &str = "Run the kernel tests that take long: 100,000 pushes under load
On this host, as root, with the release build. `cargo xtask test` has the same with fewer pushes.
CLAWD_TESTS_SEED repeats a run whose seed was printed.";

/// `cargo xtask soak`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    Arguments::parse(raw, &[])?.expect_flags_only()?;
    if !workspace::is_root() {
        bail!("only root can load programs into the kernel; run `cargo xtask soak` as root");
    }
    build::build(Profile::Release)?;
    let package = workspace::KERNEL_TESTS_PACKAGE;
    let mut command = process::cargo(&["test", "--release", "--locked", "--quiet", "-p", package]);
    command
        .args(["--", "--ignored", "--nocapture"])
        .env(workspace::BIN_DIR_VARIABLE, workspace::release_dir());
    process::run(&mut command)
}
