//! Compiles fuzz targets as cargo-fuzz does, without it and without a nightly compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{process, workspace};

/// Naming the target keeps the flags off build scripts and macros.
const TRIPLE: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// Coverage that libFuzzer reads, AddressSanitizer, and checks that a release leaves out.
const RUSTC_FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Zsanitizer=address",
    "-Cforce-frame-pointers=yes",
    // Overflow checks come with it.
    "-Cdebug-assertions=yes",
    "-Ccodegen-units=1",
];

/// Where everything is that fuzzing makes.
pub(super) fn directory() -> PathBuf {
    workspace::target_dir().join("fuzz")
}

/// Where the target `name` is after [`build`].
pub(super) fn binary(name: &str) -> PathBuf {
    directory().join(TRIPLE).join("release").join(name)
}

/// Compiles every target of the crate at `manifest`.
///
/// # Errors
/// Cargo fails.
pub(super) fn build(manifest: &Path) -> anyhow::Result<()> {
    process::run(cargo("build", manifest).arg("--bins"))
}

/// Lints the crate at `manifest`, with the flags of its build so that build scripts run once.
///
/// # Errors
/// Cargo fails, or there is a warning.
pub(crate) fn lint(manifest: &Path) -> anyhow::Result<()> {
    process::run(cargo("clippy", manifest).args(["--all-targets", "--", "-D", "warnings"]))
}

fn cargo(subcommand: &str, manifest: &Path) -> Command {
    let arguments = [subcommand, "--release", "--locked", "--quiet"];
    let mut command = process::cargo(&arguments);
    command
        .args(["--target", TRIPLE, "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", directory())
        // Unlike RUSTFLAGS, nothing that the caller has set comes before it.
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTC_FLAGS.join("\u{1f}"))
        // For the sanitizer alone; its runtime comes with the stable toolchain.
        .env("RUSTC_BOOTSTRAP", "1");
    command
}
