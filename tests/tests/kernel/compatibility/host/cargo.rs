//! cargo, without a registry.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use crate::compatibility::{Lab, Needs, not_listed, told};
use crate::support::{code, text};

pub(crate) const NEEDS: Needs = Needs {
    program: "cargo",
    executes: "TOOLCHAIN",
    builds: "PROJECT/target",
    binaries: "",
};

/// The Rust toolchain of this host, as rustup or Debian has it.
pub(crate) fn toolchain() -> &'static Path {
    static TOOLCHAIN: LazyLock<PathBuf> = LazyLock::new(|| {
        let rustc = Command::new("rustc").args(["--print", "sysroot"]).output();
        let rustc = rustc.expect("there is no rustc; install it with rustup");
        PathBuf::from(text(&rustc.stdout).trim())
    });
    &TOOLCHAIN
}

const MANIFEST: &str = "[package]\nname = \"greeting\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
/// Compiled and executed by cargo before the rest.
const BUILD: &str = "fn main() { println!(\"cargo::rustc-env=WORD=built\"); }\n";
const LIBRARY: &str = "pub fn word() -> &'static str { env!(\"WORD\") }\n";
const PROGRAM: &str = "\
fn main() {
    println!(\"{}\", greeting::word());
    if let Some(address) = std::env::args().nth(1) {
        if let Err(error) = std::net::TcpStream::connect(address) {
            println!(\"{error}\");
            std::process::exit(1);
        }
    }
}
";

fn lab() -> Lab {
    let lab = Lab::start();
    lab.folder("target");
    lab.write("Cargo.toml", MANIFEST);
    lab.write("build.rs", BUILD);
    lab.write("src/lib.rs", LIBRARY);
    lab.write("src/main.rs", PROGRAM);
    lab
}

/// Builds with the toolchain's cargo and nothing from the network.
fn build(lab: &Lab) {
    let programs = toolchain().join("bin");
    let build = format!(
        "PATH={}:$PATH cargo build --offline -j2",
        programs.display()
    );
    lab.works(&NEEDS, "", &["sh", "-c", &build]);
}

#[test]
fn cargo_builds_a_crate_with_a_build_script_and_it_runs() {
    let lab = lab();
    build(&lab);
    let printed = lab.works(&NEEDS, "", &["target/debug/greeting"]);
    assert_eq!(printed, "built\n");
    let elsewhere = "cp target/debug/greeting . && ./greeting";
    let output = lab.run(&NEEDS, "", &["sh", "-c", elsewhere]);
    assert_eq!(code(&output), 126, "{}", told(&output));
}

#[test]
fn cargo_builds_programs_that_connect_nowhere() {
    let lab = lab();
    build(&lab);
    let program = lab.project().join("target/debug/greeting");
    let denial = not_listed(program.to_str().unwrap(), 80);
    let argv = ["target/debug/greeting", "192.0.2.10:80"];
    let endpoint = "{ host: 192.0.2.10, port: 80 }";
    let printed = lab.is_refused(&NEEDS, endpoint, &argv, &denial);
    assert!(printed.contains("Operation not permitted"), "{printed}");
}
