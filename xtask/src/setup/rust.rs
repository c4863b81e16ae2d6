//! What set-up needs of the Rust toolchain: its LLVM, its components, `bpf-linker`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::process;

/// The version of `bpf-linker` that the eBPF object is linked with.
pub(super) const BPF_LINKER_VERSION: &str = "0.13.0";

/// The major version of the LLVM inside `rustc`; bitcode is read by no older one.
///
/// # Errors
/// `rustc` cannot be run, or does not tell.
pub(super) fn llvm_major() -> anyhow::Result<u32> {
    let text = process::output(&mut process::command("rustc", &["-vV"]))?;
    llvm_major_in(&text).context("`rustc -vV` names no LLVM version")
}

fn llvm_major_in(verbose_version: &str) -> Option<u32> {
    let version = verbose_version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// Where the toolchain's files are.
///
/// # Errors
/// `rustc` cannot be run.
pub(super) fn sysroot() -> anyhow::Result<PathBuf> {
    let text = process::output(&mut process::command("rustc", &["--print", "sysroot"]))?;
    Ok(PathBuf::from(text.trim_end()))
}

/// Adds components to the toolchain that `rust-toolchain.toml` names.
///
/// # Errors
/// There is no `rustup`, or it fails.
pub(super) fn install_components(components: &[&str]) -> anyhow::Result<()> {
    if process::output(&mut process::command("rustup", &["--version"])).is_err() {
        bail!(
            "there is no rustup; install Rust by rustup, or add to your toolchain: {}",
            components.join(", ")
        );
    }
    process::run(process::command("rustup", &["component", "add"]).args(components))
}

/// Whether the `bpf-linker` in `PATH` has the right version, and runs on LLVM `llvm_major`.
pub(super) fn has_bpf_linker(llvm_major: u32) -> bool {
    let version = process::output(&mut process::command("bpf-linker", &["--version"]));
    let expected = format!("bpf-linker {BPF_LINKER_VERSION}");
    version.is_ok_and(|text| text.trim() == expected)
        && find_in_path("bpf-linker").is_some_and(|program| links_llvm(&program, llvm_major))
}

/// Linked statically, it has no line with LLVM: then its version has to do.
fn links_llvm(program: &Path, llvm_major: u32) -> bool {
    let libraries = process::output(process::command("ldd", &[]).arg(program)).unwrap_or_default();
    !libraries.contains("libLLVM") || libraries.contains(&format!("libLLVM.so.{llvm_major}."))
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// Compiles `bpf-linker` against Debian's LLVM; takes about a minute.
///
/// # Errors
/// Cargo fails.
pub(super) fn install_bpf_linker(llvm_major: u32) -> anyhow::Result<()> {
    let feature = format!("llvm-{llvm_major}");
    let arguments = [
        "install",
        "--locked",
        "--force",
        "--version",
        BPF_LINKER_VERSION,
        "--no-default-features",
    ];
    let mut command = process::cargo(&arguments);
    command.args(["--features", &feature, "bpf-linker"]);
    command.env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm_major}"));
    process::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_major_is_read_from_the_verbose_version() {
        assert_eq!(
            llvm_major_in("rustc 1.95.0\nrelease: 1.95.0\nLLVM version: 22.1.2\n"),
            Some(22)
        );
        assert_eq!(llvm_major_in("rustc 1.95.0\n"), None);
        assert_eq!(llvm_major_in("LLVM version: unknown\n"), None);
    }
}
