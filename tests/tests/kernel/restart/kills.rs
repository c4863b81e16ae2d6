//! clawd and its gate, killed at random moments of what they do: nothing gets through, nothing stays.
//!
//! On the host alone: `cargo xtask vm` leaves this out, because each of the hundreds of starts takes seconds
//! where it is emulated.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use clawd_tests::{Address, Api, Daemon, Random};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::watched::{Watched, signals};
use crate::{
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Push,
    Spawn,
    Stop,
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

/// What one deed asks of clawd; the answer does not come where clawd is killed.
fn begin(daemon: &Daemon, deed: Deed, policy: &str) -> thread::JoinHandle<anyhow::Result<Value>> {
    let (socket, policy) = (daemon.paths().socket.clone(), policy.to_owned());
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
        }
    })
}

fn names(daemon: &Daemon) -> Vec<String> {
    let mut api = Api::connect(&daemon.paths().socket).unwrap();
    let (_, list) = api.ask("GET", "/v1/sandboxes", None).unwrap();
    let names = list.as_array().expect("a list").iter();
    names
        .map(|sandbox| sandbox["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Sees to it that `other` runs, or does not, as the deed needs it.
fn prepare(daemon: &Daemon, deed: Deed) {
    let runs = names(daemon).iter().any(|name| name == "other");
    match deed {
        Deed::Spawn if runs => {
            begin(daemon, Deed::Stop, "").join().unwrap().unwrap();
        }
        // A start may fail where the gate has just been killed.
        Deed::Stop if !runs => eventually("the other sandbox starts", || {
            let said = begin(daemon, Deed::Spawn, "").join().unwrap().unwrap();
            said["event"] == "started"
        }),
        _ => {}
    }
}

/// How long a deed takes when nobody is killed; the longest of some.
fn duration(daemon: &Daemon, deed: Deed, policies: &[String; 2]) -> Duration {
    let once = |policy: &String| {
        prepare(daemon, deed);
        let begun = Instant::now();
        begin(daemon, deed, policy).join().unwrap().unwrap();
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
    let mut api = Api::connect(&daemon.paths().socket).unwrap();
    let (_, status) = api.ask("GET", "/v1/status", None).unwrap();
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
    fn happen(&self, daemon: &mut Daemon, policy: &str) -> bool {
        prepare(daemon, self.deed);
        let gate = gate_pid(daemon);
        let doing = begin(daemon, self.deed, policy);
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

#[test]
fn kills_at_random_moments_let_nothing_through_and_leave_nothing() {
    let mut random = Random::seeded();
    let mut world = World::start();
    let policies = policies(&world);
    let prober = world.prober("box", &policies[0]);
    let watched = Watched::start(&world, prober, &[]);

    let deeds = [Deed::Push, Deed::Spawn, Deed::Stop];
    let durations = deeds.map(|deed| duration(&world.daemon, deed, &policies));
    let begun = Instant::now();
    let (mut done, mut cut_off) = (0, 0);
    while done < KILLS && begun.elapsed() < BUDGET {
        let kill = Kill {
            deed: deeds[done % deeds.len()],
            victim: if done % 4 == 3 {
                Victim::Gate
            } else {
                Victim::Daemon
            },
            delay: durations[done % deeds.len()].mul_f64(random.fraction() * 1.2),
        };
        cut_off += usize::from(kill.happen(&mut world.daemon, &policies[random.below(2)]));
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
}
