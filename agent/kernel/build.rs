//! Builds the eBPF object that this crate embeds, so that any build of clawd carries the programs
//! of the same checkout.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let root = manifest_dir
        .ancestors()
        .nth(2)
        .expect("agent/kernel lies two levels down");
    for watched in [
        "ebpf/src",
        "ebpf/Cargo.toml",
        "ebpf/Cargo.lock",
        "common/src",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    // One folder for all profiles of clawd: the object does not depend on them.
    let target_dir = out_dir.ancestors().nth(4).unwrap_or(&out_dir).join("ebpf");
    let object = build(root, &target_dir);
    fs::copy(&object, out_dir.join("clawd.bpf.o"))
        .unwrap_or_else(|error| panic!("cannot copy {}: {error}", object.display()));
}

/// Runs cargo for the eBPF crate and returns the object's path.
fn build(root: &Path, target_dir: &Path) -> PathBuf {
    let cargo = env::var_os("CARGO").expect("set by cargo");
    let mut command = Command::new(cargo);
    command
        .current_dir(root.join("ebpf"))
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "-Z",
            "build-std=core",
        ])
        .env("CARGO_TARGET_DIR", target_dir)
        // Stock stable Rust has everything but the switch for `build-std` and `core_intrinsics`.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"),
        );
    // What the outer build sets for the host must not reach a build for another target.
    for name in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(name);
    }
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    assert!(
        status.success(),
        "the eBPF crate did not build; `cargo xtask setup` installs rust-src and bpf-linker"
    );
    target_dir.join(TARGET).join("release").join("clawd")
}
