//! The audit log on the disk: one file after the other, and a disk that is full.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use clawd_tests::{Address, Api, Daemon, FileSystem, PYTHON, Prober, sha256_of_file};
use serde_json::Value;

use crate::support::{direct, eventually, tcp};

/// Has the sandbox try ports that no rule lists: an audit record each.
fn deny(prober: &mut Prober, ports: std::ops::Range<u16>) {
    for port in ports {
        let answer = prober.ask(&tcp(Address::B, port));
        assert_eq!(answer["errno"], 1, "{answer}");
    }
}

fn seq(record: &Value) -> u64 {
    record["seq"].as_u64().expect("a number")
}

/// The files of the log, the oldest first.
pub(crate) fn files(daemon: &Daemon) -> Vec<PathBuf> {
    let entries = fs::read_dir(&daemon.paths().state_dir).unwrap().flatten();
    let is_full = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix("audit.jsonl.");
        number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_full).collect();
    files.sort();
    files.push(daemon.paths().state_dir.join("audit.jsonl"));
    files
}

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

/// What was read a moment ago is how it begins: a record of something else may have come since.
#[track_caller]
fn begins(records: &[Value], with: &[Value]) {
    assert_eq!(records.get(..with.len()), Some(with));
}

/// `clawctl logs -f` from the first record on, and the numbers that it has printed.
struct Follower {
    child: Child,
    printed: Arc<Mutex<Vec<u64>>>,
}

impl Follower {
    fn start(daemon: &Daemon, conditions: &[&str]) -> Self {
        let mut command = daemon.clawctl(["--json", "logs", "-f", "-n", "100000"]);
        command.args(conditions);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let print = Arc::clone(&printed);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let record: Value = serde_json::from_str(&line).expect("a record");
                print.lock().unwrap().push(seq(&record));
            }
        });
        Self { child, printed }
    }

    fn is_empty(&self) -> bool {
        self.printed.lock().unwrap().is_empty()
    }

    fn has(&self, seq: u64) -> bool {
        self.printed.lock().unwrap().last() >= Some(&seq)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

#[test]
fn audit_log_goes_on_in_new_files_and_is_read_and_followed_as_one() {
    let mut daemon = Daemon::prepare(None).unwrap();
    daemon.add_flags(&["--audit-max-bytes", "4096", "--audit-keep", "1000"]);
    daemon.launch().unwrap();
    let mut prober = Prober::start(&daemon, "box", &direct("")).unwrap();
    deny(&mut prober, 1..41);
    // Some files are full when it begins, and some more while it goes on.
    assert!(daemon.audit().len() > 40);
    let full_before = files(&daemon).len();
    assert!(full_before > 3, "{full_before}");
    let follower = Follower::start(&daemon, &[]);
    eventually("the follower has the past", || follower.has(40));
    deny(&mut prober, 41..81);
    let whole = daemon.audit();
    let last = seq(whole.last().expect("records"));
    assert_eq!(
        whole.iter().map(seq).collect::<Vec<_>>(),
        (1..=last).collect::<Vec<_>>()
    );
    let denials = |records: &[Value]| {
        let is_denial = |record: &&Value| record["action"] == "denied";
        let ports = records.iter().filter(is_denial);
        ports
            .filter_map(|record| record["dst_port"].as_u64())
            .collect::<Vec<_>>()
    };
    assert_eq!(denials(&whole), (1..81).collect::<Vec<_>>());
    eventually("the follower has all", || follower.has(last));
    let printed = follower.printed.lock().unwrap().clone();
    assert_eq!(printed, (1..=printed.len() as u64).collect::<Vec<_>>());

    let files = files(&daemon);
    assert!(files.len() > full_before, "{files:?}");
    let of_files: Vec<Value> = files.iter().flat_map(|file| records(file)).collect();
    begins(&of_files, &whole);
    for file in &files {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file:?}");
    }
    // What is far back is found for a sandbox too.
    let of_box = daemon.json(&["logs", "--sandbox", "box", "-n", "100000"]);
    assert_eq!(denials(&of_box), denials(&whole));
    assert!(of_box.iter().all(|record| record["sandbox"] == "box"));

    // The next daemon goes on with the numbers, and keeps fewer files if it is told to.
    drop(follower);
    daemon.kill9().unwrap();
    daemon.add_flags(&["--audit-keep", "2"]);
    daemon.launch().unwrap();
    deny(&mut prober, 81..121);
    let kept = daemon.audit();
    let first = seq(&kept[0]);
    assert!(first > 1);
    let last_now = seq(kept.last().expect("records"));
    assert_eq!(
        kept.iter().map(seq).collect::<Vec<_>>(),
        (first..=last_now).collect::<Vec<_>>()
    );
    assert_eq!(self::files(&daemon).len(), 3);
    assert_eq!(denials(&kept).last(), Some(&120));
    assert!(prober.end().unwrap().success());
}

#[test]
fn audit_log_that_cannot_go_on_in_a_new_file_goes_on_in_the_old_and_says_so() {
    let mut daemon = Daemon::prepare(None).unwrap();
    daemon.add_flags(&["--audit-max-bytes", "4096"]);
    // What cannot be removed is where the next file should be made.
    let state_dir = daemon.scratch().folder("state", 0o700).unwrap();
    assert_eq!(state_dir, daemon.paths().state_dir);
    let obstacle = state_dir.join("audit.jsonl.new");
    fs::create_dir(&obstacle).unwrap();
    daemon.launch().unwrap();
    let told = || {
        let status = daemon.status();
        let told = status["problems"].to_string();
        let is_told = told.contains("goes on in the same file");
        assert!(!is_told || status["health"] == "degraded", "{status}");
        is_told
    };
    assert!(!told());
    let mut prober = Prober::start(&daemon, "box", &direct("")).unwrap();
    deny(&mut prober, 1..31);
    let whole = daemon.audit();
    assert!(told());
    assert_eq!(files(&daemon).len(), 1);
    begins(&records(&files(&daemon)[0]), &whole);
    fs::remove_dir(&obstacle).unwrap();
    deny(&mut prober, 31..61);
    let whole = daemon.audit();
    assert!(!told());
    assert!(files(&daemon).len() > 1);
    let last = whole.len() as u64;
    assert_eq!(
        whole.iter().map(seq).collect::<Vec<_>>(),
        (1..=last).collect::<Vec<_>>()
    );
    assert!(prober.end().unwrap().success());
}

#[test]
fn logs_are_asked_for_by_conditions() {
    let daemon = Daemon::start(None).unwrap();
    let mut prober = Prober::start(&daemon, "box", &direct("")).unwrap();
    deny(&mut prober, 1..6);
    let ports = |conditions: &[&str]| -> Vec<u64> {
        let words = ["logs"].iter().chain(conditions).copied();
        let records = daemon.json(&words.collect::<Vec<_>>());
        let ports = records.iter().map(|record| record["dst_port"].as_u64());
        ports.map(Option::unwrap_or_default).collect()
    };
    let b = Address::B;
    let (none, all): ([u64; 0], _) = ([], [1, 2, 3, 4, 5]);
    let exe = Path::new(PYTHON).canonicalize().unwrap();
    let exe = exe.to_str().unwrap();
    let name = exe.rsplit('/').next().unwrap();
    let sha256 = sha256_of_file(Path::new(exe)).unwrap();
    let to = format!("--destination={b}");
    let denied = ["--action=denied", &to];
    let and = |more: &[&str]| ports(&[&denied[..], more].concat());
    assert_eq!(and(&[]), all);
    assert_eq!(and(&["--sandbox=box"]), all);
    assert_eq!(and(&["--sandbox=other"]), none);
    assert_eq!(and(&["--reason=address_not_listed"]), all);
    assert_eq!(and(&["--reason=port_not_listed"]), none);
    for program in [exe, name, &sha256] {
        assert_eq!(and(&["--binary", program]), all, "{program}");
    }
    assert_eq!(and(&["--binary=curl"]), none);
    assert_eq!(and(&["--since=1h"]), all);
    assert_eq!(and(&["--until=1h"]), none);
    assert_eq!(and(&["--since=9999-01-01T00:00:00Z"]), none);
    assert_eq!(and(&["--until=9999-01-01T00:00:00Z"]), all);
    assert_eq!(ports(&["--action=allowed", &to]), none);
    assert_eq!(ports(&["--destination=192.0.2.0/24:3"]), [3]);
    assert_eq!(ports(&["--destination=203.0.113.0/24"]), none);
    // The newest of those that are wanted, however many came after them.
    assert_eq!(and(&["-n", "2"]), [4, 5]);
    assert_eq!(ports(&["-n", "1", "--destination=192.0.2.0/24:2"]), [2]);

    // What comes is asked the same, until the time that was said.
    let follower = Follower::start(&daemon, &["--destination=192.0.2.0/24:7"]);
    deny(&mut prober, 6..9);
    eventually("what is followed comes", || !follower.is_empty());
    let printed = follower.printed.lock().unwrap().clone();
    let seventh = &daemon.json(&["logs", "--destination=192.0.2.0/24:7"])[0];
    assert_eq!(printed, [seq(seventh)]);
    let words = ["logs", "-f", "-n", "0", "--until", "1s"];
    assert_eq!(daemon.json(&words), Vec::<Value>::new());

    let mut api = Api::connect(&daemon.paths().socket).unwrap();
    let (status, said) = api.ask("GET", "/v1/logs?reason=%20", None).unwrap();
    assert_eq!(status, 400, "{said}");
    assert!(said.to_string().contains("port_not_listed"), "{said}");
    assert!(prober.end().unwrap().success());
}

/// A daemon whose state is on a small disk of its own.
struct OnSmallDisk {
    disk: FileSystem,
    daemon: Daemon,
}

impl OnSmallDisk {
    fn start() -> Self {
        const SIZE_BYTES: u64 = 1 << 20;
        let mut daemon = Daemon::prepare(None).unwrap();
        let disk = FileSystem::mount_small(daemon.scratch(), "state", SIZE_BYTES).unwrap();
        assert_eq!(daemon.paths().state_dir, disk.path());
        daemon.launch().unwrap();
        Self { disk, daemon }
    }

    /// Takes all space that is left.
    fn fill(&self) -> PathBuf {
        let path = self.disk.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
        path
    }

    /// How many records `status` says are lost.
    fn lost(&self) -> Option<u64> {
        let status = self.daemon.status();
        let problems = status["problems"].as_array().expect("a list").iter();
        let told = problems.filter_map(Value::as_str);
        let count = told
            .filter(|told| told.contains("audit records could not be written"))
            .find_map(|told| told.split(' ').next()?.parse().ok());
        assert!(
            count.is_none() || status["health"] == "degraded",
            "{status}"
        );
        count
    }
}

impl Drop for OnSmallDisk {
    fn drop(&mut self) {
        // While its state is there.
        if let Err(error) = self.daemon.finish() {
            eprintln!("the daemon did not end in order: {error:#}");
        }
    }
}

#[test]
fn audit_log_on_a_full_disk_counts_what_is_lost_and_goes_on_when_there_is_space() {
    let world = OnSmallDisk::start();
    let mut prober = Prober::start(&world.daemon, "box", &direct("")).unwrap();
    deny(&mut prober, 1..11);
    let whole = world.daemon.audit();
    begins(&records_of(&world), &whole);
    assert_eq!(world.lost(), None);

    let filler = world.fill();
    // The last block of the log has some space left.
    let mut port = 11;
    eventually("records are lost", || {
        deny(&mut prober, port..port + 10);
        port += 10;
        world.daemon.audit();
        world.lost() > Some(5)
    });
    // What is in the log can be read.
    let full = world.daemon.audit();

    fs::remove_file(filler).unwrap();
    deny(&mut prober, 60_000..60_010);
    let after = world.daemon.audit();
    let ports: Vec<u64> = after
        .iter()
        .filter_map(|record| record["dst_port"].as_u64())
        .filter(|port| *port >= 60_000)
        .collect();
    assert_eq!(ports, (60_000..60_010).collect::<Vec<_>>());
    begins(&after, &full);
    // Where no line is damaged.
    begins(&records_of(&world), &after);
    let gaps = after
        .windows(2)
        .map(|pair| seq(&pair[1]) - seq(&pair[0]) - 1);
    let lost = gaps.sum::<u64>();
    assert_eq!(Some(lost), world.lost(), "a gap for each that is counted");
    assert!(lost > 5);
    assert!(prober.end().unwrap().success());
}

fn records_of(world: &OnSmallDisk) -> Vec<Value> {
    records(&world.daemon.paths().state_dir.join("audit.jsonl"))
}
