//! clawd and its gate, killed at random moments of what they do: nothing gets through, nothing stays, and
//! no record is lost that was told of.
//!
//! On the host alone: `cargo xtask vm` leaves this out, because each of the hundreds of starts takes seconds
//! where it is emulated.

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clawd_tests::{Address, Api, Daemon, Internet, Random};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::watched::{Watched, signals};
use crate::{
    audit_log::files,
    starts::{clean, remembered},
    support::{
        DEADLINE, PYTHON_ENTRY, World, closed, direct_with, eventually, group, processes, tcp,
    },
};

/// Moments at which something is killed.
const KILLS: usize = 200;
/// An emulated machine does not come that far in this time: what it misses it says.
const BUDGET: Duration = Duration::from_secs(120);
/// Fewer say nothing.
const KILLS_MIN: usize = 10;
/// The audit log goes on in a new file after so many bytes: some ten records.
const LOG_FILE_BYTES: &str = "8192";
/// Pushes that are refused, with a record each: enough that a file becomes full.
const REFUSALS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Push,
    Spawn,
    Stop,
    /// Have the audit log go on in a new file.
    Rotate,
}

/// What an operator was told of, which the audit log must have.
#[derive(Default)]
struct Told {
    asked: AtomicU32,
    /// Names of files of which the answer said that they were refused.
    refused: Mutex<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Daemon,
    Gate,
}

/// Policies that the sandbox is switched between: what is tried all the time both allow, or neither.
fn policies(world: &World) -> [String; 2] {
    let trees = format!("[/usr, {}]", signals(world).display());
    ["", ", { host: 198.51.100.10, ports: [1-1000] }"].map(|more| {
        let endpoints = format!("{{ host: 192.0.2.10, port: 7000 }}{more}");
        direct_with(&trees, "[]", &group("g", &endpoints, PYTHON_ENTRY))
    })
}

// === impl Told ===

impl Told {
    /// Asks for pushes that are refused.
    fn fill(&self, api: &mut Api) -> anyhow::Result<Value> {
        for _ in 0..REFUSALS {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            let file = format!("refused-{number}.yaml");
            let body = json!({ "policy": { "file": file, "text": "no policy" } });
            let (status, answer) = api.ask("POST", "/v1/sandboxes/box/policy", Some(&body))?;
            assert_eq!(status, 400, "{answer}");
            self.refused.lock().unwrap().push(file);
        }
        Ok(Value::Null)
    }

    /// Every line of every file is a record, but for one that a kill may have torn, they are numbered
    /// without a gap, and nothing is missing that an answer told of.
    fn is_in_the_log(&self, daemon: &Daemon, kills: usize) {
        let files = files(daemon);
        let texts = files.iter().map(|file| fs::read(file).unwrap());
        let (mut records, mut torn) = (Vec::<Value>::new(), 0);
        for text in texts {
            let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
            for line in lines {
                match serde_json::from_slice(line) {
                    Ok(record) => records.push(record),
                    Err(_) => torn += 1,
                }
            }
        }
        let (count, files) = (records.len(), files.len());
        eprintln!("{count} audit records in {files} files, {torn} torn lines");
        assert!(torn <= kills, "{torn} torn lines after {kills} kills");
        assert!(files > 4, "{files} files");
        let wrong = (1..).zip(&records).find(|(seq, record)| {
            let seq: &u64 = seq;
            record["seq"] != *seq
        });
        assert_eq!(wrong, None, "a number is missing or comes twice");
        let messages = records.iter().filter_map(|record| {
            let is_refusal = record["activity"] == "policy_refused";
            record["message"].as_str().filter(|_| is_refusal)
        });
        let logged: HashSet<&str> = messages
            .filter_map(|message| message.split(':').next())
            .collect();
        let told = self.refused.lock().unwrap();
        let missing: Vec<&String> = (told.iter())
            .filter(|file| !logged.contains(file.as_str()))
            .collect();
        assert!(missing.is_empty(), "{missing:?} of {}", told.len());
        assert!(told.len() >= REFUSALS);
    }
}

/// What one deed asks of clawd; the answer does not come where clawd is killed.
fn begin(
    daemon: &Daemon,
    deed: Deed,
    policy: &str,
    told: &Arc<Told>,
) -> thread::JoinHandle<anyhow::Result<Value>> {
    let (socket, policy) = (daemon.paths().socket.clone(), policy.to_owned());
    let told = Arc::clone(told);
    thread::spawn(move || {
        let mut api = Api::connect(&socket)?;
        match deed {
            Deed::Push => api.push("box", &policy),
            Deed::Spawn => {
                let begun = api.begin_run("other", closed(), &["sleep", "1000"])?;
                begun.hand_over()?;
                Ok(begun.outcome()?.unwrap_or(Value::Null))
            }
            Deed::Stop => {
                let request = json!({ "timeout_s": 0 });
                Ok(api
                    .ask("POST", "/v1/sandboxes/other/stop", Some(&request))?
                    .1)
            }
            Deed::Rotate => told.fill(&mut api),
        }
    })
}

/// What clawd answers, which it must: else with what it said.
#[track_caller]
fn answer(daemon: &Daemon, path: &str) -> Value {
    let answer =
        Api::connect(&daemon.paths().socket).and_then(|mut api| api.ask("GET", path, None));
    match answer {
        Ok((_, answer)) => answer,
        Err(error) => panic!(
            "clawd does not answer {path}: {error:#}; it said:\n{}",
            daemon.log()
        ),
    }
}

#[track_caller]
fn names(daemon: &Daemon) -> Vec<String> {
    let list = answer(daemon, "/v1/sandboxes");
    let names = list.as_array().expect("a list").iter();
    names
        .map(|sandbox| sandbox["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Sees to it that `other` runs, or does not, as the deed needs it.
fn prepare(daemon: &Daemon, deed: Deed, told: &Arc<Told>) {
    let runs = names(daemon).iter().any(|name| name == "other");
    match deed {
        Deed::Spawn if runs => {
            begin(daemon, Deed::Stop, "", told).join().unwrap().unwrap();
        }
        // A start may fail where the gate has just been killed.
        Deed::Stop if !runs => eventually("the other sandbox starts", || {
            let said = begin(daemon, Deed::Spawn, "", told)
                .join()
                .unwrap()
                .unwrap();
            said["event"] == "started"
        }),
        _ => {}
    }
}

/// How long a deed takes when nobody is killed; the longest of some.
fn duration(daemon: &Daemon, deed: Deed, policies: &[String; 2], told: &Arc<Told>) -> Duration {
    let once = |policy: &String| {
        prepare(daemon, deed, told);
        let begun = Instant::now();
        begin(daemon, deed, policy, told).join().unwrap().unwrap();
        begun.elapsed()
    };
    policies.iter().chain(policies).map(once).max().unwrap()
}

/// The gate's, once it answers: the one before may have been killed.
fn gate_pid(daemon: &Daemon) -> Option<Pid> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        let pid = answering_gate(daemon);
        if pid.is_some() {
            return pid;
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

fn answering_gate(daemon: &Daemon) -> Option<Pid> {
    let status = answer(daemon, "/v1/status");
    let pid = status["exec_gate"]["pid"].as_i64()?;
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Both or nothing: a sandbox that clawd knows has its processes, one that it does not has no cgroup.
#[track_caller]
fn whole(daemon: &Daemon, told: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let names = names(daemon);
        assert!(names.iter().any(|name| name == "box"), "{told}: {names:?}");
        let is_known = names.iter().any(|name| name == "other");
        let runs = processes(daemon, "other").len() >= 2;
        let has_cgroup = daemon.paths().cgroup_parent.join("other").exists();
        if is_known == runs && runs == has_cgroup {
            return;
        }
        // It may be on its way up or down, after its clawctl or its gate was killed.
        assert!(
            Instant::now() < deadline,
            "{told}: {names:?}, runs: {runs}, cgroup: {has_cgroup}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// Daemons and gates that name this daemon's folder in their arguments.
fn running(daemon: &Daemon) -> Vec<String> {
    let name = daemon.scratch().name();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
        .filter(|command| {
            let program = command.split('\0').next().unwrap_or_default();
            // The gate executes its daemon's own file.
            command.contains(name) && (program.ends_with("clawd") || program == "/proc/self/exe")
        })
        .collect()
}

/// One of them.
#[derive(Debug)]
struct Kill {
    deed: Deed,
    victim: Victim,
    delay: Duration,
}

impl Kill {
    /// Begins the deed, kills, and has the next daemon or gate come; tells whether the deed was cut off.
    fn happen(&self, daemon: &mut Daemon, policy: &str, told: &Arc<Told>) -> bool {
        prepare(daemon, self.deed, told);
        let gate = gate_pid(daemon);
        let doing = begin(daemon, self.deed, policy, told);
        thread::sleep(self.delay);
        match (self.victim, gate) {
            (Victim::Daemon, _) => {
                daemon.kill9().unwrap();
                daemon
                    .launch()
                    .unwrap_or_else(|error| panic!("{self:?}: {error:#}"));
            }
            (Victim::Gate, Some(gate)) => kill_process(gate, Signal::KILL).unwrap(),
            (Victim::Gate, None) => panic!("{self:?}: no gate"),
        }
        let is_cut_off = doing.join().unwrap().is_err();
        whole(daemon, &format!("{self:?}"));
        is_cut_off
    }
}

/// Ends everything: sandboxes first, then clawd.
fn leaves_nothing(daemon: &mut Daemon) {
    let stopped = daemon.clawctl(["stop", "--all"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    // Rules that a push replaced go behind its answer.
    clean(daemon);
    daemon.restart().unwrap();
    clean(daemon);
    assert_eq!(remembered(daemon), 0);
    assert_eq!(running(daemon).len(), 2, "clawd and its gate");
    daemon.finish().unwrap();
    eventually("clawd and its gate are gone", || running(daemon).is_empty());
}

/// As [`World::start`], with an audit log that goes on in a new file all the time, and keeps all.
fn world() -> World {
    let internet = Internet::start().expect("internet");
    let mut daemon = Daemon::prepare(Some(&internet)).expect("daemon");
    daemon.add_flags(&["--audit-max-bytes", LOG_FILE_BYTES, "--audit-keep", "10000"]);
    daemon.launch().expect("clawd");
    World { daemon, internet }
}

#[test]
fn kills_at_random_moments_let_nothing_through_and_leave_nothing() {
    let mut random = Random::seeded();
    let mut world = world();
    let told = Arc::default();
    let policies = policies(&world);
    let prober = world.prober("box", &policies[0]);
    let watched = Watched::start(&world, prober, &[]);

    let deeds = [Deed::Push, Deed::Spawn, Deed::Stop, Deed::Rotate];
    let durations = deeds.map(|deed| duration(&world.daemon, deed, &policies, &told));
    let begun = Instant::now();
    let (mut done, mut cut_off) = (0, 0);
    while done < KILLS && begun.elapsed() < BUDGET {
        let kill = Kill {
            deed: deeds[done % deeds.len()],
            victim: if done % 5 == 4 {
                Victim::Gate
            } else {
                Victim::Daemon
            },
            delay: durations[done % deeds.len()].mul_f64(random.fraction() * 1.2),
        };
        cut_off += usize::from(kill.happen(&mut world.daemon, &policies[random.below(2)], &told));
        done += 1;
    }
    if done < KILLS {
        eprintln!("ONLY {done} of {KILLS} kills fit into {BUDGET:?} on this machine");
    }
    eprintln!(
        "{done} kills, {cut_off} deeds cut off, {:?}",
        begun.elapsed()
    );
    assert!(done >= KILLS_MIN, "{done} kills in {BUDGET:?}");
    assert!(
        cut_off >= done / 20,
        "{cut_off} of {done} deeds were cut off"
    );
    let (rounds, mut prober) = watched.end(&world);
    assert!(rounds > done as u64, "{rounds} rounds");
    // It is still judged, by a policy that a push can change once there is a gate again.
    assert!(gate_pid(&world.daemon).is_some());
    Api::connect(&world.daemon.paths().socket)
        .unwrap()
        .push("box", &policies[0])
        .unwrap();
    world.allows(&mut prober, &tcp(Address::A, 7000));
    assert_eq!(prober.ask(&tcp(Address::B, 7000))["name"], "EPERM");
    leaves_nothing(&mut world.daemon);
    told.is_in_the_log(&world.daemon, done + 1);
}
