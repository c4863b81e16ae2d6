//! S11: many execs while the gate is stopped, and executables of absurd size.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use clawd_tests::{Address, Prober};
use serde_json::{Value, json};

use crate::{
    programs::{
        CURL, ENDPOINT, SMALL, copy, fetch, fetch_is_denied, last_exec, last_seq, path_entry,
        records, talking_place, trees,
    },
    support::{PYTHON_ENTRY, World, direct_with, eventually, group, tcp, told_in_all},
};

/// Runs inside the sandbox.
const PROGRAM: &str = include_str!("../../../escapes/s11_exec_storm.py");

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What a program that only starts and ends may take while others storm.
const PROMPT: Duration = Duration::from_secs(1);

/// How long a program waits at least for a gate that does not answer.
const WAITS: Duration = Duration::from_secs(1);

/// The reason of an exec that no gate answered.
const UNSEEN: &str = "no_identity_not_hashed";

/// A storm in a sandbox, and its signals to and from the test.
struct Storm {
    ready: PathBuf,
    go: PathBuf,
    until: PathBuf,
    ask: Value,
}

impl Storm {
    /// Of these commands, once, or `forever`, which is until [`Storm::calm`].
    fn new(world: &World, name: &str, commands: &Value, forever: bool) -> Self {
        let place = talking_place(world);
        let [ready, go, until] =
            ["ready", "go", "until"].map(|signal| place.join(format!("{name}.{signal}")));
        let mut told = json!({ "commands": commands, "ready": ready, "go": go });
        if forever {
            told["until"] = json!(until);
        }
        let argv = json!(["/usr/bin/python3", "-I", "-c", PROGRAM, told.to_string()]);
        Self {
            ready,
            go,
            until,
            ask: json!({ "do": "run", "argv": argv }),
        }
    }

    /// Begins in `prober`; returns how each command ended.
    fn rage(&self, prober: &mut Prober) -> Vec<Value> {
        let answer = prober.ask(&self.ask);
        let told = answer["ok"]["out"].as_str().unwrap_or_default();
        serde_json::from_str(told).unwrap_or_else(|_| panic!("{answer}"))
    }

    fn begin(&self) {
        eventually("the storm can begin", || self.ready.exists());
        File::create(&self.go).unwrap();
    }

    fn calm(&self) {
        File::create(&self.until).unwrap();
    }
}

/// Executes from `folder`, writes to the talking place, and reaches A with these binaries.
fn policy(world: &World, folder: &Path, binaries: &[String]) -> String {
    let writable = format!("[{}]", talking_place(world).display());
    let groups = group("g", ENDPOINT, &binaries.join(", "));
    direct_with(&trees(&[folder]), &writable, &groups)
}

/// A folder of programs that only the host may write.
fn folder(world: &World) -> PathBuf {
    world.daemon.scratch().folder("programs", 0o755).unwrap()
}

/// A curl of `size_bytes`, nearly all of them holes.
fn sparse(path: &Path, more: &[u8], size_bytes: u64) -> PathBuf {
    let path = copy(CURL, path, more);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(size_bytes).unwrap();
    path
}

/// How long each of these programs takes in the sandbox, from its start to its end.
fn times<'a>(prober: &mut Prober, programs: impl IntoIterator<Item = &'a Path>) -> Vec<Duration> {
    let each = programs.into_iter().map(|program| {
        let answer = prober.ask(&json!({ "do": "run", "argv": [program] }));
        assert_eq!(answer["ok"]["code"], 0, "{answer}");
        Duration::from_secs_f64(answer["ms"].as_f64().unwrap() / 1000.0)
    });
    each.collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Programs of the host's own, with contents that no other has.
fn small(folder: &Path, name: &str, count: usize) -> Vec<PathBuf> {
    let one = |number: usize| {
        let name = format!("{name}{number}");
        copy("/usr/bin/true", &folder.join(&name), name.as_bytes())
    };
    (0..count).map(one).collect()
}

/// How long the host itself takes to execute the file a few times.
fn hosts_own_execs(program: &Path) -> Duration {
    let begun = Instant::now();
    for _ in 0..5 {
        let mut own = Command::new(program);
        let status = own.arg("--version").stdout(Stdio::null()).status();
        assert!(status.unwrap().success());
    }
    begun.elapsed()
}

/// Each program of a storm was refused for want of an identity, unless the next gate had identified
/// it before it asked; on a slow machine that may be all of them. None had an identity at its exec.
fn judged_by_what_was_known(world: &World, (seq, tool): (u64, &Path), ended: &[Value]) {
    let count = |code: i64| ended.iter().filter(|end| end["code"] == code).count();
    let (fetched, refused) = (count(0), count(7));
    assert_eq!(fetched + refused, ended.len(), "{ended:?}");
    assert_eq!(world.internet.contacts_at(Address::A, 80).len(), fetched);
    let refused_count = u64::try_from(refused).unwrap();
    eventually("every refusal is told", || {
        told_in_all(&world.denials("storm", seq)) >= refused_count
    });
    let denials = world.denials("storm", seq);
    assert_eq!(told_in_all(&denials), refused_count, "{denials:?}");
    for denial in &denials {
        assert_eq!(denial["reason"], "no_identity", "{denial}");
        assert_eq!(denial["exe"], json!(tool), "{denial}");
        assert_eq!(denial["dst_port"], 80, "{denial}");
    }
    let identified = records(world, Some("storm"), "process_identified");
    let execs = records(world, Some("storm"), "exec");
    let allowed = records(world, Some("storm"), "connect");
    // A record that counts several names no process.
    for record in allowed
        .iter()
        .filter(|record| record["action"] == "allowed" && record["count"].is_null())
    {
        let is_its = |told: &&Value| told["pid"] == record["pid"] && told["exe"] == json!(tool);
        let mut told = identified.iter().chain(&execs);
        assert!(
            told.any(|told| is_its(&told) && told["reason"] != UNSEEN),
            "{record}"
        );
    }
    let unseen = execs.iter().filter(|exec| exec["reason"] == UNSEEN);
    assert!(unseen.count() >= refused.max(1), "{execs:?}");
}

#[test]
fn stopped_gate_holds_up_a_storm_for_two_seconds_and_nobody_else() {
    const EXECS: usize = 40;
    let world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"tool");
    let policy = policy(
        &world,
        &folder,
        &[path_entry(&tool), PYTHON_ENTRY.to_owned()],
    );
    let mut prober = world.prober("storm", &policy);
    let mut other = world.prober("other", &policy);
    let commands = vec![json!([tool, "-sS", SMALL]); EXECS];
    let storm = Storm::new(&world, "storm", &json!(commands), false);
    let idle = hosts_own_execs(&tool);
    let seq = last_seq(&world);
    let ended = thread::scope(|scope| {
        let raging = scope.spawn(|| storm.rage(&mut prober));
        eventually("the storm can begin", || storm.ready.exists());
        let gate = world.daemon.stop_gate().unwrap();
        let begun = Instant::now();
        storm.begin();
        // The host executes the same file, and who has executed already goes on.
        let stopped = hosts_own_execs(&tool);
        assert!(stopped < idle * 10 + PROMPT, "{stopped:?}, idle {idle:?}");
        for _ in 0..5 {
            let answer = other.ask(&tcp(Address::A, 7000));
            assert_eq!(answer["ok"], "ping", "{answer}");
            let answer = other.ask(&tcp(Address::B, 7000));
            assert_eq!(answer["errno"], 1, "{answer}");
            assert!(answer["ms"].as_f64() < Some(1000.0), "{answer}");
        }
        assert_eq!(world.daemon.ps().len(), 2);
        // Nothing of the storm has come out while it waits, which a slow machine may be too late to see.
        let come_out = world.internet.contacts_at(Address::A, 80);
        assert!(
            come_out.is_empty() || begun.elapsed() >= WAITS,
            "{come_out:?}"
        );
        let ended = raging.join().unwrap();
        drop(gate);
        ended
    });
    assert_eq!(ended.len(), EXECS);
    for end in &ended {
        // It waited for the gate, and for nothing after the gate's end.
        let ms = end["ms"].as_f64().unwrap();
        assert!(
            (WAITS.as_secs_f64() * 1000.0..20_000.0).contains(&ms),
            "{ended:?}"
        );
    }
    judged_by_what_was_known(&world, (seq, &tool), &ended);
    assert!(
        world
            .denials("other", seq)
            .iter()
            .all(|denial| denial["reason"] == "address_not_listed")
    );

    eventually("another gate is there", || {
        world.daemon.gate_restarts() == 1
    });
    let restarted = records(&world, None, "gate_restarted");
    assert_eq!(restarted.len(), 1, "{restarted:?}");
    assert_eq!(
        restarted[0]["message"],
        "the exec gate was started again: it did not answer for two seconds"
    );
    for prober in [&mut prober, &mut other] {
        assert_eq!(fetch(prober, &tool), 0);
    }
    assert_eq!(last_exec(&world, "storm", &tool)["reason"], "identified");
}

#[test]
fn executable_too_large_to_be_hashed_runs_at_once_without_identity_and_delays_nobody() {
    let world = World::start();
    let folder = folder(&world);
    let huge = sparse(&folder.join("huge"), b"huge", 1024 * GIB);
    let large = sparse(&folder.join("large"), b"large", GIB + 1);
    let policy = policy(&world, &folder, &[path_entry(&huge), path_entry(&large)]);
    let mut prober = world.prober("storm", &policy);
    let mut other = world.prober("other", &policy);
    for program in [&huge, &large] {
        fetch_is_denied(&world, ("storm", &mut prober), program, "no_identity");
        let answer = prober.ask(&json!({ "do": "run", "argv": [program, "--version"] }));
        // Less than the five seconds after which the gate gives a file up.
        assert!(answer["ms"].as_f64() < Some(4000.0), "{answer}");
        let exec = last_exec(&world, "storm", program);
        assert_eq!(exec["reason"], "no_identity_too_large", "{exec}");
        assert_eq!(exec["sha256"], Value::Null, "{exec}");
    }
    assert_eq!(world.daemon.pins(), Vec::<Value>::new());

    let programs = |name| small(&folder, name, 30);
    let idle = median(times(
        &mut other,
        programs("idle").iter().map(PathBuf::as_path),
    ));
    let attacked = programs("attacked");
    let commands: Vec<Value> = [&huge, &large]
        .into_iter()
        .cycle()
        .take(16)
        .map(|program| json!([program, "--version"]))
        .collect();
    let storm = Storm::new(&world, "storm", &json!(commands), true);
    let busy = thread::scope(|scope| {
        let raging = scope.spawn(|| storm.rage(&mut prober));
        storm.begin();
        let busy = times(&mut other, attacked.iter().map(PathBuf::as_path));
        storm.calm();
        let ended = raging.join().unwrap();
        assert!(ended.iter().all(|end| end["code"] == 0), "{ended:?}");
        median(busy)
    });
    assert!(
        busy < idle * 10 + Duration::from_millis(300),
        "{busy:?}, idle {idle:?}"
    );
    assert_eq!(world.daemon.gate_restarts(), 0);
}

#[test]
fn large_executables_of_two_sandboxes_delay_no_third_one() {
    let world = World::start();
    let folder = folder(&world);
    let large: Vec<PathBuf> = (0..3)
        .map(|number| {
            let name = format!("large{number}");
            sparse(&folder.join(&name), name.as_bytes(), 900 * MIB)
        })
        .collect();
    let policy = policy(&world, &folder, &[PYTHON_ENTRY.to_owned()]);
    let [mut first, mut second] = ["first", "second"].map(|name| world.prober(name, &policy));
    let mut third = world.prober("third", &policy);
    let programs = small(&folder, "small", 30);
    let before = small(&folder, "before", 5);
    let idle = median(times(&mut third, before.iter().map(PathBuf::as_path)));
    let commands: Vec<Value> = large
        .iter()
        .map(|large| json!([large, "--version"]))
        .collect();
    let commands = json!(commands);
    let storms = ["first", "second"].map(|name| Storm::new(&world, name, &commands, false));
    let (busy, ended) = thread::scope(|scope| {
        let [one, two] = &storms;
        let raging = [
            scope.spawn(|| one.rage(&mut first)),
            scope.spawn(|| two.rage(&mut second)),
        ];
        storms.iter().for_each(Storm::begin);
        let mut busy = Vec::new();
        for program in &programs {
            busy.extend(times(&mut third, [program.as_path()]));
            if raging.iter().all(|raging| raging.is_finished()) {
                break;
            }
        }
        let ended: Vec<Value> = raging
            .into_iter()
            .flat_map(|raging| raging.join().unwrap())
            .collect();
        assert!(ended.iter().all(|end| end["code"] == 0), "{ended:?}");
        (busy, ended)
    });
    assert!(busy.len() >= 5, "the storm was over too soon: {busy:?}");
    // Whoever waits for a large one waits for most of it, on a slow machine as on a fast one.
    let large_ms = ended.iter().filter_map(|end| end["ms"].as_f64());
    let longest = Duration::from_secs_f64(large_ms.fold(0.0, f64::max) / 1000.0);
    let slowest = busy.iter().max().unwrap();
    assert!(
        *slowest < PROMPT.max(longest / 2),
        "{busy:?}, idle {idle:?}, the storms {ended:?}"
    );
    for program in &large {
        let exec = last_exec(&world, "first", program);
        let reason = exec["reason"].as_str().unwrap();
        assert!(
            ["identified", "no_identity_deadline"].contains(&reason),
            "{exec}"
        );
    }
    assert_eq!(
        last_exec(&world, "third", &programs[0])["reason"],
        "identified"
    );
    assert_eq!(world.daemon.gate_restarts(), 0);
}
