//! Ways to run another content under a listed one's identity.

mod caller;
mod copies;
mod mappings;
mod replaced;
mod writers;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use clawd_tests::{Address, Contact, PYTHON, Prober, Traffic};
use serde_json::{Value, json};

use crate::support::{World, eventually};

/// What connect says to a program that may not.
const EPERM: i64 = 1;
/// What exec says of a file that somebody has open for writing.
const ETXTBSY: i64 = 26;

/// What a sandbox may do in a folder, as `filesystem_policy` calls it.
const EXECUTE: &str = "read_execute";
const WRITE: &str = "read_write";
const WRITE_AND_EXECUTE: &str = "read_write_execute";

/// A policy with both ports of the callers for these `binaries`, and `folder` under this list.
fn policy(list: &str, folder: &Path, binaries: &str) -> String {
    let folder = folder.display();
    let trees = match list {
        EXECUTE => format!("read_execute: [/usr, {folder}]"),
        list => format!("read_execute: [/usr], {list}: [{folder}]"),
    };
    format!(
        "version: 2\n\
         filesystem_policy: {{ {trees} }}\n\
         landlock: {{ compatibility: best_effort }}\n\
         network: {{ mode: direct }}\n\
         network_policies:\n  \
           g: {{ endpoints: [{{ host: {}, ports: [{}, {}] }}], binaries: [{binaries}] }}\n",
        Address::A,
        caller::LISTED_PORT,
        caller::OTHER_PORT,
    )
}

/// A folder that everybody may write to.
fn writable(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    path
}

/// A script of `tests/escapes/` in a sandbox, which prints values and waits for a line after each.
struct Script {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it and `clawctl` say besides: warnings, since the policies are meant to be unwise.
    said: PathBuf,
}

impl Script {
    #[track_caller]
    fn start(world: &World, name: &str, policy: &str, source: &str, arguments: &[&str]) -> Self {
        let mut argv = vec![PYTHON, "-I", "-c", source];
        argv.extend(arguments);
        let said = world.daemon.scratch().path(&format!("{name}.said"));
        let mut command = world.daemon.run_command(policy, Some(name), &argv);
        let mut child = command
            .stderr(File::create(&said).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            input: child.stdin.take(),
            child,
            output,
            said,
        }
    }

    /// The next value that it prints.
    #[track_caller]
    fn value(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it has ended: {:?}", self.child.wait());
        serde_json::from_str(&line).unwrap()
    }

    /// Lets it go on to its next value.
    #[track_caller]
    fn go_on(&mut self) -> Value {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
        self.value()
    }

    /// Lets it go on to its end.
    #[track_caller]
    fn end(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // The daemon's own end kills the sandbox; here only clawctl must not stay.
        drop(self.child.kill().and_then(|()| self.child.wait()));
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.said).unwrap_or_default());
        }
    }
}

/// What executing a program in a prober's sandbox came to, as the scripts tell it.
fn execute(prober: &mut Prober, program: &Path) -> Value {
    let answer = prober.ask(&json!({ "do": "run", "argv": [program] }));
    match answer.get("ok") {
        Some(done) => json!({ "code": done["code"] }),
        None => json!({ "errno": answer["errno"] }),
    }
}

/// The connections that the listed program, or the other one, made so far.
fn contacts(world: &World, port: u16) -> usize {
    world.internet.contacts_at(Address::A, port).len()
}

/// Does what must reach the listed program's port, once.
#[track_caller]
fn reaches<T>(world: &World, attempt: impl FnOnce() -> T) -> T {
    let want = contacts(world, caller::LISTED_PORT) + 1;
    let result = attempt();
    eventually("the server sees it", || {
        contacts(world, caller::LISTED_PORT) >= want
    });
    assert_eq!(contacts(world, caller::LISTED_PORT), want);
    result
}

/// What the internet has seen, once nothing was under way for this long.
fn seen(world: &World, quiet: Duration) -> (Vec<Contact>, Traffic) {
    let mut before = world.internet.traffic().unwrap();
    let mut since = Instant::now();
    while since.elapsed() < quiet {
        thread::sleep(Duration::from_millis(5));
        let now = world.internet.traffic().unwrap();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    (world.internet.contacts(), before)
}

/// Does what the internet must see nothing of. Returns with the result the sandbox's records of it.
#[track_caller]
fn unseen<T>(world: &World, sandbox: &str, attempt: impl FnOnce() -> T) -> (T, Vec<Value>) {
    // The server may take its time to close what was connected before, an emulated one more of it.
    let before = seen(world, Duration::from_millis(500));
    let last = world.daemon.audit().last().map_or(0, sequence);
    let result = attempt();
    let after = seen(world, Duration::from_millis(10));
    assert_eq!(after, before, "the internet saw it");
    let mut records = world.daemon.audit();
    records.retain(|record| sequence(record) > last && record["sandbox"] == sandbox);
    (result, records)
}

fn sequence(record: &Value) -> u64 {
    record["seq"].as_u64().unwrap()
}

/// The one record of this activity that tells of `program`.
#[track_caller]
fn only<'a>(records: &'a [Value], activity: &str, program: &Path) -> &'a Value {
    let path = program.to_str().unwrap();
    let is_it = |record: &&Value| record["activity"] == activity && record["exe"] == path;
    let found: Vec<&Value> = records.iter().filter(is_it).collect();
    let [record] = found.as_slice() else {
        panic!("one {activity} of {path}: {records:#?}")
    };
    record
}

/// The one refused connect of `program`, which has the other content, for `reason`.
#[track_caller]
fn denial<'a>(records: &'a [Value], reason: &str, program: &Path) -> &'a Value {
    let denials = records.iter().filter(|record| record["action"] == "denied");
    assert_eq!(denials.count(), 1, "{records:#?}");
    let denial = only(records, "connect", program);
    assert_eq!(denial["action"], "denied", "{denial}");
    assert_eq!(denial["reason"], reason, "{denial}");
    assert_eq!(denial["dst_ip"], Address::A, "{denial}");
    assert_eq!(denial["dst_port"], caller::OTHER_PORT, "{denial}");
    denial
}
