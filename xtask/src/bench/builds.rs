//! Builds of programs, inside and outside in turn.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;

use super::machine;
use super::measures::{PAUSE, Samples};
use super::meter::Meter;
use super::rig::Rig;
use crate::process;

/// Who builds, inside and outside.
const USER: u32 = 65534;
/// A shell that does a job a line, as measuring programs do.
const SHELL: &str = "echo ready
while read -r job; do
    if sh -c \"$job\" >job.log 2>&1; then echo 0; else echo \"error $(tail -n 1 job.log)\"; fi
done";

const C_FILES: u32 = 20;
const C_FUNCTIONS: u32 = 120;
const MAKEFILE: &str = "\
objects := $(patsubst %.c,build/%.o,$(wildcard *.c))
build/program: $(objects)
\tgcc -o $@ $^
build/%.o: %.c
\tgcc -O2 -pipe -c -o $@ $<
";
const CRATES: u32 = 6;
/// Crates that have a build script, which is compiled and executed first.
const BUILD_SCRIPTS: u32 = 2;
const CRATE_FUNCTIONS: u32 = 150;

/// The same project twice, with a shell in each.
struct Builders {
    inside: Meter,
    outside: Meter,
}

/// `make -j2` of a project in C.
pub(super) fn c(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    as_usual(rig, |rig| {
        let mut builders = Builders::start(rig, "c", None, &write_c)?;
        builders.alternate(rounds, "rm -rf build/*", "make -s -j2")
    })
}

/// `cargo build` of a workspace without dependencies.
pub(super) fn cargo(rig: &mut Rig, rounds: u32) -> anyhow::Result<Samples> {
    let sysroot = process::output(&mut process::command("rustc", &["--print", "sysroot"]))?;
    let toolchain = Path::new(sysroot.trim());
    let build = "PATH=$TOOLCHAIN/bin:$PATH CARGO_HOME=$PWD/build/home \
                 cargo build -q --offline -j2 --target-dir build";
    as_usual(rig, |rig| {
        let mut builders = Builders::start(rig, "rust", Some(toolchain), &write_rust)?;
        builders.alternate(rounds, "rm -rf build/*", build)
    })
}

/// What a sandbox runs has no priority, so what is compared with it must have none.
fn as_usual(
    rig: &Rig,
    work: impl FnOnce(&Rig) -> anyhow::Result<Samples>,
) -> anyhow::Result<Samples> {
    machine::as_usual(&[rig.daemon().0], || work(rig))
}

// === impl Builders ===

impl Builders {
    /// Writes both projects, each with a folder `build`, and starts both shells.
    fn start(
        rig: &Rig,
        name: &str,
        toolchain: Option<&Path>,
        write: &dyn Fn(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let project = |side: &str| {
            let folder = rig.folder(&format!("{name}-{side}"))?;
            fs::create_dir_all(folder.join("build"))?;
            write(&folder).context("cannot write a project")?;
            give_away(&folder)?;
            anyhow::Ok(folder)
        };
        let argv = ["sh", "-c", SHELL];
        let (inside, outside) = (project("inside")?, project("outside")?);
        let mut command = rig.sandboxed(&policy(&inside, toolchain), Some(name), &argv);
        command.current_dir(&inside);
        let inside = Meter::start(command, |mut command: Command| command.spawn())?;
        let seen = rig.folder("toolchain")?;
        let mut command = rig.unconfined(USER, toolchain.map(|from| (from, &*seen)), &argv);
        command
            .current_dir(&outside)
            .envs([("HOME", &outside), ("TOOLCHAIN", &seen)]);
        let outside = Meter::start(command, |command| rig.place().start(command))?;
        Ok(Self { inside, outside })
    }

    /// Milliseconds of `build`, after `clean`; one more round before the first fills caches.
    fn alternate(&mut self, rounds: u32, clean: &str, build: &str) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        for round in 0..=rounds {
            for (meter, into) in [
                (&mut self.outside, &mut samples.outside),
                (&mut self.inside, &mut samples.inside),
            ] {
                meter.time(clean)?;
                std::thread::sleep(PAUSE);
                let start = Instant::now();
                meter.time(build)?;
                if round > 0 {
                    into.push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        Ok(samples)
    }
}

/// As `policies/example.yaml`, and what is built may run.
fn policy(project: &Path, toolchain: Option<&Path>) -> String {
    let project = project.display();
    let (more, env) = match toolchain.map(Path::display) {
        Some(path) => (
            format!(", {path}"),
            format!("env: {{ TOOLCHAIN: {path} }}\n"),
        ),
        None => <(String, String)>::default(),
    };
    format!(
        "version: 2
filesystem_policy:
  include_workdir: true
  read_execute: [/usr, /bin, /lib, /lib64{more}]
  read_write: [/tmp]
  read_write_execute: [{project}/build]
landlock: {{ compatibility: best_effort }}
process: {{ run_as_user: \"{USER}\", run_as_group: \"{USER}\" }}
network: {{ mode: direct }}
network_policies: {{}}
{env}"
    )
}

fn give_away(path: &Path) -> std::io::Result<()> {
    chown(path, Some(USER), Some(USER))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

fn write_c(folder: &Path) -> anyhow::Result<()> {
    fs::write(folder.join("Makefile"), MAKEFILE)?;
    for file in 0..C_FILES {
        let mut text =
            String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
        for function in 0..C_FUNCTIONS {
            writeln!(
                text,
                "int part{file}_{function}(const int *values, int count) {{\n\
                 int sum = {function};\n\
                 for (int at = 0; at < count; at++)\n\
                 if (values[at] % 7 == {file}) sum += values[at] * at; else sum ^= values[at] << 3;\n\
                 return sum;\n}}"
            )?;
        }
        if file == 0 {
            text.push_str("int main(void) { return part0_0(NULL, 0); }\n");
        }
        fs::write(folder.join(format!("part{file}.c")), text)?;
    }
    Ok(())
}

fn write_rust(folder: &Path) -> anyhow::Result<()> {
    let manifest = "[workspace]\nresolver = \"2\"\nmembers = [\"crate*\"]\n";
    fs::write(folder.join("Cargo.toml"), manifest)?;
    for number in 0..CRATES {
        let place: PathBuf = folder.join(format!("crate{number}"));
        fs::create_dir_all(place.join("src"))?;
        let manifest = format!(
            "[package]\nname = \"crate{number}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n"
        );
        fs::write(place.join("Cargo.toml"), manifest)?;
        if number < BUILD_SCRIPTS {
            fs::write(place.join("build.rs"), "fn main() {}\n")?;
        }
        let mut text = String::new();
        for function in 0..CRATE_FUNCTIONS {
            writeln!(
                text,
                "pub fn part_{function}(values: &[u32]) -> Vec<String> {{\n\
                 values.iter().filter(|value| *value % 7 == {function} % 7)\n\
                 .map(|value| format!(\"{{}} {{value}}\", {function})).collect()\n}}"
            )?;
        }
        fs::write(place.join("src/lib.rs"), text)?;
        if number == 0 {
            let main = "fn main() { println!(\"{}\", crate0::part_0(&[7]).len()); }\n";
            fs::write(place.join("src/main.rs"), main)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_builds_are_ones_that_clawd_takes() {
        for toolchain in [None, Some(Path::new("/opt/rust"))] {
            let text = policy(Path::new("/srv/project"), toolchain);
            assert!(clawd_policy::parse("bench", &text).is_ok(), "{text}");
        }
    }
}
