//! Known ways out: each is a program of `tests/escapes/` that runs in a sandbox and must not get out.
//!
//! A program does what its one argument asks for, in JSON, and prints a line of JSON for each step.

mod b01;
mod b03;
mod b04;
mod b07;
mod b11;
mod calls;
mod content;
mod n11;
mod n16;
mod reach;
mod s04;
mod s08;
mod storm;

use std::{path::Path, process::Output, thread, time::Duration};

use clawd_tests::{Address, Contact, PYTHON, Traffic, sha256_of_file};
use serde_json::{Value, json};

use crate::support::{World, eventually, text};

/// Where programs of these tests may connect to, if they are listed.
pub(crate) const ENDPOINTS: &str = "{ host: 192.0.2.10, ports: [80, 7000] }";
/// What curl fetches there.
pub(crate) const SMALL: &str = "http://192.0.2.10/small";
/// What it prints then.
pub(crate) const SMALL_CONTENT: &str = "small file\n";
/// The exit code of a curl that could not connect.
pub(crate) const NOT_CONNECTED: i64 = 7;

/// The trees of a policy, and the `binaries` that may connect to [`ENDPOINTS`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed<'a> {
    /// Besides `/usr`.
    pub(crate) read_execute: &'a [&'a Path],
    pub(crate) read_write: &'a [&'a Path],
    pub(crate) read_write_execute: &'a [&'a Path],
    /// Entries in YAML's flow style.
    pub(crate) binaries: &'a [&'a str],
}

// === impl Allowed ===

impl Allowed<'_> {
    /// The text of the policy.
    pub(crate) fn policy(&self) -> String {
        let list = |paths: &[&Path]| {
            let paths: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            paths.join(", ")
        };
        let executable = [&[Path::new("/usr")], self.read_execute].concat();
        format!(
            "version: 2\n\
             filesystem_policy:\n\
             \x20 read_execute: [{}]\n\
             \x20 read_write: [{}]\n\
             \x20 read_write_execute: [{}]\n\
             landlock: {{ compatibility: best_effort }}\n\
             network: {{ mode: direct }}\n\
             network_policies:\n\
             \x20 g: {{ endpoints: [{ENDPOINTS}], binaries: [{}] }}\n",
            list(&executable),
            list(self.read_write),
            list(self.read_write_execute),
            self.binaries.join(", ")
        )
    }
}

/// What the internet saw up to now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    contacts: Vec<Contact>,
    traffic: Traffic,
}

// === impl Seen ===

impl Seen {
    /// Once nothing is under way any more.
    pub(crate) fn now(world: &World) -> Self {
        let read = || world.internet.traffic().expect("counters");
        let mut before = read();
        loop {
            thread::sleep(Duration::from_millis(10));
            let traffic = read();
            if traffic == before {
                let contacts = world.internet.contacts();
                return Self { contacts, traffic };
            }
            before = traffic;
        }
    }
}

/// What came of a program in a sandbox.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) output: Output,
    /// What it told of its steps.
    pub(crate) steps: Vec<Value>,
    /// The sandbox's audit records.
    pub(crate) records: Vec<Value>,
    before: Seen,
    after: Seen,
}

/// A program as audit records tell of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) exe: &'a str,
    /// The file with its content; `None` where it was not hashed.
    pub(crate) content: Option<&'a Path>,
    /// The programs before it, nearest first.
    pub(crate) lineage: &'a [&'a str],
}

// === impl Who ===

impl<'a> Who<'a> {
    /// A file under its own path, executed by Python.
    pub(crate) fn by_python(exe: &'a str) -> Self {
        Self {
            exe,
            content: Some(Path::new(exe)),
            lineage: &[PYTHON],
        }
    }

    /// As [`Who::by_python`], of a file that was not hashed.
    pub(crate) fn unhashed(exe: &'a str) -> Self {
        Self {
            content: None,
            ..Self::by_python(exe)
        }
    }

    #[track_caller]
    fn is_told_by(&self, record: &Value) {
        let own = match self.content {
            Some(content) => ancestor(self.exe, content),
            None => json!({ "exe": self.exe, "sha256": null }),
        };
        assert_eq!(record["exe"], own["exe"], "{record}");
        assert_eq!(record["sha256"], own["sha256"], "{record}");
        let lineage: Vec<_> = self.lineage.iter().map(|exe| ancestor(exe, exe)).collect();
        assert_eq!(record["lineage"], Value::from(lineage), "{record}");
    }
}

/// A program in a record: links are not part of its path.
fn ancestor(exe: &str, content: impl AsRef<Path>) -> Value {
    let shown = Path::new(exe).canonicalize();
    let shown = shown.map_or_else(|_gone| exe.to_owned(), |path| path.display().to_string());
    json!({ "exe": shown, "sha256": sha256_of_file(content).expect("its content") })
}

// === impl Ran ===

impl Ran {
    /// Runs `script` under Debian's Python in sandbox `name`, asked for `ask`.
    pub(crate) fn script(
        world: &World,
        name: &str,
        policy: &str,
        script: &str,
        ask: &Value,
    ) -> Self {
        let ask = ask.to_string();
        Self::command(world, name, policy, &[PYTHON, "-I", "-c", script, &ask])
    }

    /// Runs `argv`, which should print lines of JSON, in sandbox `name`.
    #[track_caller]
    pub(crate) fn command(world: &World, name: &str, policy: &str, argv: &[&str]) -> Self {
        let before = Seen::now(world);
        let mut command = world.daemon.run_command(policy, Some(name), argv);
        let output = command.output().expect("clawctl");
        let after = Seen::now(world);
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
        };
        let steps = text(&output.stdout).lines().map(parse).collect();
        let is_its = |record: &Value| record["sandbox"] == name;
        let records = world.daemon.audit().into_iter().filter(is_its).collect();
        Self {
            output,
            steps,
            records,
            before,
            after,
        }
    }

    /// What it told of step `name`.
    #[track_caller]
    pub(crate) fn step(&self, name: &str) -> &Value {
        let mut steps = self.steps.iter().filter(|step| step["step"] == name);
        let step = steps.next();
        step.unwrap_or_else(|| panic!("no step {name}: {:?} {:?}", self.steps, self.output))
    }

    /// Nothing of it left the host.
    #[track_caller]
    pub(crate) fn reached_nobody(&self) {
        assert_eq!(
            self.after, self.before,
            "the internet saw it: {:?}",
            self.steps
        );
    }

    /// So many connections reached this port, and no other. To be asked before the next program runs.
    #[track_caller]
    pub(crate) fn reached(&self, world: &World, port: u16, count: usize) {
        // Servers tell of a connection a little after its client has gone on.
        let before = &self.before.contacts;
        let contacts = || world.internet.contacts();
        eventually("the servers saw it", || {
            contacts().len() >= before.len() + count
        });
        // Contacts are in order within each server alone, so what was there before is taken out.
        let mut new = contacts();
        for old in before {
            let at = new.iter().position(|contact| contact == old);
            new.remove(at.expect("contacts stay"));
        }
        let at = |contact: &Contact| {
            contact.local.ip().to_string() == Address::A && contact.local.port() == port
        };
        let as_wanted = new.len() == count && new.iter().all(at);
        assert!(
            as_wanted,
            "{count} at {port}: {new:?} {:?} {:?}",
            self.steps,
            self.denials()
        );
    }

    /// Its denials, refused system calls excepted.
    pub(crate) fn denials(&self) -> Vec<&Value> {
        let is_denial =
            |record: &&Value| record["action"] == "denied" && record["activity"] != "syscall";
        self.records.iter().filter(is_denial).collect()
    }

    /// The records of system calls that it was refused.
    pub(crate) fn refused_calls(&self) -> Vec<&Value> {
        let is_call = |record: &&Value| record["activity"] == "syscall";
        self.records.iter().filter(is_call).collect()
    }

    /// It was refused these system calls, in this order, and no others; each record says why.
    #[track_caller]
    pub(crate) fn refused(&self, calls: &[&str]) {
        let records = self.refused_calls();
        let told: Vec<_> = records.iter().map(|record| &record["syscall"]).collect();
        assert_eq!(told, calls, "{records:?} of {:?}", self.steps);
        for record in records {
            assert_eq!(record["action"], "denied", "{record}");
            assert_eq!(record["reason"], "syscall_denied", "{record}");
            assert_eq!(record["class"]["uid"], 1003, "{record}");
        }
    }

    /// The one denial: a connect to `port` that failed for `reason`.
    #[track_caller]
    pub(crate) fn denied(&self, reason: &str, who: &Who<'_>, port: u16) -> &Value {
        self.refused(&[]);
        self.denied_besides_calls(reason, who, port)
    }

    /// As [`Ran::denied`], of a program that was refused system calls too.
    #[track_caller]
    pub(crate) fn denied_besides_calls(&self, reason: &str, who: &Who<'_>, port: u16) -> &Value {
        let denials = self.denials();
        let [denial] = denials.as_slice() else {
            panic!("one denial: {denials:?} of {:?}", self.steps)
        };
        assert_eq!(denial["reason"], reason, "{denial}");
        assert_eq!(denial["activity"], "connect", "{denial}");
        assert_eq!(denial["protocol"], "tcp", "{denial}");
        assert_eq!(denial["dst_ip"], Address::A, "{denial}");
        assert_eq!(denial["dst_port"], port, "{denial}");
        assert_eq!(denial["rule"], Value::Null, "{denial}");
        assert_eq!(denial["class"]["uid"], 4001, "{denial}");
        who.is_told_by(denial);
        denial
    }

    /// The one exec record of this program, with `reason`.
    #[track_caller]
    pub(crate) fn executed(&self, reason: &str, who: &Who<'_>) -> &Value {
        let shown = Path::new(who.exe).canonicalize();
        let shown = shown.map_or_else(
            |_gone| who.exe.to_owned(),
            |path| path.display().to_string(),
        );
        let is_it = |record: &&Value| record["activity"] == "exec" && record["exe"] == shown;
        let execs: Vec<_> = self.records.iter().filter(is_it).collect();
        let [exec] = execs.as_slice() else {
            panic!("one exec of {shown}: {:?}", self.records)
        };
        assert_eq!(exec["reason"], reason, "{exec}");
        who.is_told_by(exec);
        exec
    }

    /// Nothing was refused.
    #[track_caller]
    pub(crate) fn undisputed(&self) {
        self.refused(&[]);
        self.undisputed_besides_calls();
    }

    /// Nothing but system calls was refused.
    #[track_caller]
    pub(crate) fn undisputed_besides_calls(&self) {
        assert!(
            self.denials().is_empty(),
            "{:?} {:?}",
            self.denials(),
            self.steps
        );
    }
}
