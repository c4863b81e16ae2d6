//! Programs that agents are made of, as they come from Debian, at work inside a sandbox.
//!
//! On the host alone: `cargo xtask vm` leaves these out, because programs this large take minutes each where
//! they are emulated.
//!
//! Each runs under a policy like `policies/example.yaml` with the least that it needs besides; README
//! has the same table. What must work is checked by its output, and beside it stands one thing that
//! must not work.

mod bash;
mod c;
mod curl;
mod git;
pub(crate) mod host;
mod perl;
mod python;
mod ssh;

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Output,
};

use clawd_tests::{Address, Forge};

use crate::support::{Denial, World, code, text};

/// Who the sandboxes run as: the usual account without rights, as in `policies/example.yaml`.
const USER: u32 = 65534;
/// The name of the sandbox.
const BOX: &str = "box";

/// What a program needs beside the project's folder and the system's programs.
pub(crate) struct Needs {
    /// What README calls it.
    program: &'static str,
    /// One more folder in `read_execute`.
    executes: &'static str,
    /// A folder in `read_write_execute`.
    builds: &'static str,
    /// The entries of `binaries`, for what it does on the network.
    binaries: &'static str,
}

/// README's table.
const TABLE: &[&Needs] = &[
    &bash::NEEDS,
    &python::NEEDS,
    &perl::NEEDS,
    &curl::NEEDS,
    &ssh::NEEDS,
    &git::OVER_SSH,
    &git::OVER_HTTP,
    &c::NEEDS,
    &host::node::NEEDS,
    &host::pip::NEEDS,
    &host::npm::NEEDS,
    &host::cargo::NEEDS,
];

/// A project's folder, and the internet with a forge.
pub(crate) struct Lab {
    forge: Option<Forge>,
    project: PathBuf,
    world: World,
}

impl Lab {
    /// With no forge.
    pub(crate) fn start() -> Self {
        let world = World::start();
        let project = world.daemon.scratch().folder("project", 0o755).unwrap();
        give(&project);
        Self {
            forge: None,
            project,
            world,
        }
    }

    /// With a forge.
    pub(crate) fn with_forge() -> Self {
        let mut lab = Self::start();
        lab.forge = Some(Forge::start(&lab.world.internet).unwrap());
        lab
    }

    pub(crate) fn forge(&self) -> &Forge {
        self.forge.as_ref().expect("started with a forge")
    }

    pub(crate) fn project(&self) -> &Path {
        &self.project
    }

    /// Makes a folder of the project.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.project.join(name);
        fs::create_dir_all(&folder).unwrap();
        give(&folder);
        folder
    }

    /// Writes a file of the project, which belongs to the sandbox's user.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project.join(name);
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder);
        }
        fs::write(&path, content).unwrap();
        give(&path);
        path
    }

    /// `policies/example.yaml` with what the program needs, and these endpoints for its binaries. Of
    /// each program the system's own is meant, whatever the host has in `/usr/local`.
    fn policy(&self, needs: &Needs, endpoints: &str) -> String {
        let project = self.project.display();
        let executes = match needs.executes {
            "" => String::new(),
            _toolchain => format!(", {}", host::cargo::toolchain().display()),
        };
        let builds = needs.builds.replace("PROJECT", &project.to_string());
        let rule = |endpoints, binaries| {
            format!("\n  forge: {{ endpoints: [{endpoints}], binaries: [{binaries}] }}")
        };
        // Where the program itself needs no network, another one has the rule.
        let groups = match (endpoints, needs.binaries) {
            ("", _) => " {}".to_owned(),
            (endpoints, "") => rule(endpoints, "{ path: /usr/bin/curl }"),
            (endpoints, binaries) => rule(endpoints, binaries),
        };
        format!(
            "version: 2\n\
             filesystem_policy:\n  include_workdir: true\n  read_write: [/tmp]\n  \
             read_execute: [/usr, /bin, /lib, /lib64{executes}]\n  read_write_execute: [{builds}]\n\
             landlock: {{ compatibility: best_effort }}\n\
             process: {{ run_as_user: \"{USER}\", run_as_group: \"{USER}\", seccomp: default }}\n\
             network: {{ mode: direct }}\n\
             env: {{ TERM: dumb, PATH: \"/usr/bin:/bin\" }}\n\
             network_policies:{groups}\n"
        )
    }

    /// Runs a command in the project's folder to its end.
    pub(crate) fn run(&self, needs: &Needs, endpoints: &str, argv: &[&str]) -> Output {
        let policy = self.policy(needs, endpoints);
        let mut command = self.world.daemon.run_command(&policy, Some(BOX), argv);
        command.current_dir(&self.project).output().unwrap()
    }

    /// Runs a command that succeeds, and returns what it printed.
    #[track_caller]
    pub(crate) fn works(&self, needs: &Needs, endpoints: &str, argv: &[&str]) -> String {
        let output = self.run(needs, endpoints, argv);
        assert_eq!(code(&output), 0, "{argv:?}: {}", told(&output));
        text(&output.stdout)
    }

    /// Runs a command that fails because of one connect that is refused; nothing arrives, and the
    /// audit log has `denial`. Returns what it printed.
    #[track_caller]
    pub(crate) fn is_refused(
        &self,
        needs: &Needs,
        endpoints: &str,
        argv: &[&str],
        denial: &Denial<'_>,
    ) -> String {
        let output = self
            .world
            .refused(BOX, denial, || self.run(needs, endpoints, argv));
        assert!(
            ![0, 125, 126, 127].contains(&code(&output)),
            "{argv:?}: {}",
            told(&output)
        );
        told(&output)
    }
}

/// Everything that a command printed.
fn told(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Gives a file to the sandbox's user.
fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
}

/// The forge's port on the first server, as an endpoint.
fn at_forge(port: u16) -> String {
    format!("{{ host: {}, port: {port} }}", Address::A)
}

/// A connect of `exe` to the second server, where no rule leads.
fn elsewhere(exe: &str, port: u16) -> Denial<'_> {
    Denial {
        exe: Path::new(exe),
        ..Denial::tcp("address_not_listed", Address::B, port)
    }
}

/// A connect of `exe`, which no rule lists, to the first server.
fn not_listed(exe: &str, port: u16) -> Denial<'_> {
    Denial {
        exe: Path::new(exe),
        ..Denial::tcp("binary_not_listed", Address::A, port)
    }
}

/// README says what the programs were given here, no more and no less.
#[test]
fn readme_table_is_what_the_programs_were_given() {
    const README: &str = include_str!("../../../README.md");
    let cell = |text: &str| match text {
        "" => "none".to_owned(),
        text => format!("`{text}`"),
    };
    let key = |name: &str, folder: &str| match folder {
        "" => None,
        folder => Some(format!("{name}: [{folder}]")),
    };
    let (_, after) = README
        .split_once("| program | more keys |")
        .expect("the table");
    let rows: Vec<&str> = after
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(rows.len(), TABLE.len(), "{rows:#?}");
    for (row, needs) in rows.iter().zip(TABLE) {
        let keys = [
            key("read_execute", needs.executes),
            key("read_write_execute", needs.builds),
        ];
        let keys: Vec<String> = keys.into_iter().flatten().collect();
        let start = format!(
            "| {} | {} | {} |",
            needs.program,
            cell(&keys.join(", ")),
            cell(needs.binaries)
        );
        assert!(
            row.starts_with(&start),
            "README has {row}, expected {start}"
        );
    }
}
