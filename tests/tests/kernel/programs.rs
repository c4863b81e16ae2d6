//! Programs for sandboxes: copies with contents of their own, and one that goes on beside the prober.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use clawd_tests::{Prober, Traffic};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use serde_json::{Value, json};

use crate::support::{DEADLINE, World, processes};

pub(crate) const CURL: &str = "/usr/bin/curl";
/// What the tests' web server has at A.
pub(crate) const SMALL: &str = "http://192.0.2.10/small";
/// The web server and the echo server at A.
pub(crate) const ENDPOINT: &str = "{ host: 192.0.2.10, ports: [80, 7000] }";

/// The prober's program, which any copy of Python can run.
const PROBE: &str = include_str!("../../src/probe.py");

/// A copy of `from` at `path`; with `more` at its end it runs the same and is another content.
pub(crate) fn copy(from: &str, path: &Path, more: &[u8]) -> PathBuf {
    fs::copy(from, path).unwrap();
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(more).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_path_buf()
}

/// Puts another copy in the place of `path`, as an update would: a new file, renamed over it.
pub(crate) fn replace(from: &str, path: &Path, more: &[u8]) {
    let new = copy(from, &path.with_extension("new"), more);
    fs::rename(new, path).unwrap();
}

/// `[/usr, ...]`.
pub(crate) fn trees(folders: &[&Path]) -> String {
    let folders = folders
        .iter()
        .map(|folder| format!(", {}", folder.display()));
    format!("[/usr{}]", folders.collect::<String>())
}

/// A `binaries` entry for a path.
pub(crate) fn path_entry(path: impl AsRef<Path>) -> String {
    format!("{{ path: \"{}\" }}", path.as_ref().display())
}

/// A `binaries` entry for a content.
pub(crate) fn sha256_entry(sha256: &str) -> String {
    format!("{{ sha256: {sha256} }}")
}

/// Asks a prober to have `program` fetch a file from A; returns curl's exit code.
#[track_caller]
pub(crate) fn fetch(prober: &mut Prober, program: impl AsRef<Path>) -> i64 {
    let argv = json!([program.as_ref(), "-sS", SMALL]);
    let answer = prober.ask(&json!({ "do": "run", "argv": argv }));
    let code = answer["ok"]["code"].as_i64();
    let code = code.unwrap_or_else(|| panic!("not executed: {answer}"));
    let out = &answer["ok"]["out"];
    assert_eq!(code == 0, out == "small file\n", "{answer}");
    code
}

/// The records of one activity, and of one sandbox where one is named.
pub(crate) fn records(world: &World, sandbox: Option<&str>, activity: &str) -> Vec<Value> {
    let is_wanted = |record: &Value| {
        record["activity"] == activity && sandbox.is_none_or(|sandbox| record["sandbox"] == sandbox)
    };
    world.daemon.audit().into_iter().filter(is_wanted).collect()
}

/// The last exec record of `program` in a sandbox.
#[track_caller]
pub(crate) fn last_exec(world: &World, sandbox: &str, program: &Path) -> Value {
    let program = program.display().to_string();
    let records = records(world, Some(sandbox), "exec");
    let found = records.iter().rfind(|record| record["exe"] == program);
    found
        .cloned()
        .unwrap_or_else(|| panic!("no exec of {program}: {records:?}"))
}

/// The number of the last audit record.
pub(crate) fn last_seq(world: &World) -> u64 {
    let last = world.daemon.audit().pop();
    last.and_then(|record| record["seq"].as_u64()).unwrap_or(0)
}

/// What the internet has seen, once nothing is under way any more.
pub(crate) fn seen(world: &World) -> (usize, Traffic) {
    /// Longer than the 40 ms after which the kernel sends an acknowledgement that it has held back.
    const QUIET: Duration = Duration::from_millis(100);
    let mut before = world.internet.traffic().unwrap();
    loop {
        thread::sleep(QUIET);
        let now = world.internet.traffic().unwrap();
        if now == before {
            return (world.internet.contacts().len(), now);
        }
        before = now;
    }
}

/// Does `attempt`, proves that the internet saw nothing of it and that there is one denial with this
/// reason; returns what came of it, and the denial.
#[track_caller]
pub(crate) fn denied<T>(
    world: &World,
    sandbox: &str,
    reason: &str,
    attempt: impl FnOnce() -> T,
) -> (T, Value) {
    let (seq, before) = (last_seq(world), seen(world));
    let result = attempt();
    assert_eq!(seen(world), before, "the internet saw it");
    let mut denials = world.denials(sandbox, seq);
    assert_eq!(denials.len(), 1, "one denial: {denials:?}");
    let denial = denials.remove(0);
    assert_eq!(denial["reason"], reason, "{denial}");
    assert_eq!(denial["activity"], "connect", "{denial}");
    assert_eq!(denial["dst_ip"], "192.0.2.10", "{denial}");
    (result, denial)
}

/// A program fetches a file and is refused, by the kernel and at once.
#[track_caller]
pub(crate) fn fetch_is_denied(
    world: &World,
    (sandbox, prober): (&str, &mut Prober),
    program: &Path,
    reason: &str,
) -> Value {
    let (code, denial) = denied(world, sandbox, reason, || fetch(prober, program));
    // CURLE_COULDNT_CONNECT
    assert_eq!(code, 7, "{denial}");
    assert_eq!(denial["dst_port"], 80, "{denial}");
    denial
}

/// A folder that the sandbox may write and the host reads: where [`Beside`] talks.
pub(crate) fn talking_place(world: &World) -> PathBuf {
    world.daemon.scratch().folder("talk", 0o777).unwrap()
}

/// A Python with the prober's program that goes on beside the one that started it, and is talked to
/// through two pipes in [`talking_place`].
pub(crate) struct Beside {
    input: File,
    output: File,
}

impl Beside {
    /// Has `prober` start `python`, by way of a shell that ends.
    #[track_caller]
    pub(crate) fn start(world: &World, prober: &mut Prober, python: &Path) -> Self {
        let beside = Self::begin(world, prober, python);
        beside.ready()
    }

    /// As [`Beside::start`], but does not wait until it runs.
    #[track_caller]
    pub(crate) fn begin(world: &World, prober: &mut Prober, python: &Path) -> Self {
        let name = python.file_name().unwrap().to_string_lossy();
        let place = talking_place(world);
        let pipe = |end: &str| {
            let path = place.join(format!("{name}.{end}"));
            mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
            // With both directions it waits for nobody.
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
            let mut options = File::options();
            let file = options
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(&path);
            (path, file.unwrap())
        };
        let ((from, input), (to, output)) = (pipe("in"), pipe("out"));
        let script = "\"$1\" -I -c \"$2\" <\"$3\" >\"$4\" 2>/dev/null &";
        let ask =
            json!({ "do": "run", "argv": ["sh", "-c", script, "sh", python, PROBE, from, to] });
        let answer = prober.ask(&ask);
        assert_eq!(answer["ok"]["code"], 0, "{answer}");
        Self { input, output }
    }

    /// Waits until it runs.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Self {
        assert_eq!(self.hear(), "ready");
        self
    }

    /// As [`Prober::ask`].
    #[track_caller]
    pub(crate) fn ask(&mut self, what: &Value) -> Value {
        self.tell(what);
        self.hear()
    }

    /// The first half of [`Beside::ask`].
    pub(crate) fn tell(&mut self, what: &Value) {
        writeln!(self.input, "{what}").unwrap();
    }

    /// The second half.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Value {
        let deadline = Instant::now() + DEADLINE;
        let mut line = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            match self.output.read(&mut byte) {
                Ok(1) => line.extend(byte),
                _ => {
                    assert!(Instant::now() < deadline, "the program says nothing");
                    thread::sleep(Duration::from_millis(2));
                }
            }
        }
        serde_json::from_slice(&line).unwrap()
    }
}

/// Processes of the sandbox that wait in an exec: in uninterruptible sleep, and not for a child.
pub(crate) fn waiting_in_exec(world: &World, sandbox: &str) -> usize {
    let pids = processes(&world.daemon, sandbox);
    let field = |pid: &u32, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim().to_owned()).unwrap_or_default()
    };
    let parents: Vec<String> = pids.iter().map(|pid| field(pid, "PPid:")).collect();
    let waits =
        |pid: &&u32| field(pid, "State:").starts_with('D') && !parents.contains(&pid.to_string());
    pids.iter().filter(waits).count()
}
