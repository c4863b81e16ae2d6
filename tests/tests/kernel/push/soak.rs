//! Many pushes while programs connect: each verdict is one that a policy of that moment gives, and
//! nothing piles up.
//!
//! On the host alone: `cargo xtask vm` leaves this out, because thousands of pushes take minutes where they
//! are emulated.

use std::{
    fs, panic,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{LpmTrie, Map, MapData};
use clawd_common::{
    decide::{AddressKey, MaskKey, MaskValue, RuleKey, RuleValue},
    record::{ProcessValue, SandboxValue},
};
use clawd_tests::{Address, Api, Daemon, Prober, Random};
use serde_json::{Value, json};

use crate::{
    starts::entries,
    support::{DEADLINE, PYTHON_ENTRY, World, direct, group, tcp},
};

/// Pushes of the test that runs always.
const FEW: usize = 2000;
/// Pushes of the one that is asked for (`cargo xtask soak`).
const MANY: usize = 100_000;
/// Pushes before anything is counted: clawd remembers that many policies that are gone.
const WARM_UP: usize = 1100;

/// Pushes between two looks at what memory there is: growth that goes on is a leak, growth that ends an
/// allocator's store.
const STRETCH: usize = 10_000;

/// A thread of clawd's without work ends after two seconds.
const IDLE: Duration = Duration::from_secs(4);

/// Where policies differ. A is in all of them, D in none.
const CHANGING: [&str; 5] = [
    Address::B,
    Address::C,
    Address::A6,
    Address::B6,
    Address::C6,
];

/// One of the policies: bit i says that `CHANGING[i]` is allowed.
type Mask = u8;

fn policy(mask: Mask, random: &mut Random) -> String {
    let chosen = (CHANGING.iter().enumerate()).filter(|(bit, _)| mask >> bit & 1 == 1);
    let mut endpoints = vec![format!("{{ host: {}, port: 7000 }}", Address::A)];
    endpoints.extend(chosen.map(|(_, host)| match random.below(3) {
        0 => format!("{{ host: \"{host}\", port: 7000 }}"),
        1 => format!("{{ host: \"{host}\", ports: [1, 6990-7010] }}"),
        _ => {
            let bits = if host.contains(':') { 128 } else { 32 };
            format!("{{ cidr: \"{host}/{bits}\", port: 7000 }}")
        }
    }));
    // Others, so that tables are of another size each time.
    endpoints.extend((0..random.below(8)).map(|number| {
        let port = 1 + random.below(60_000);
        format!("{{ host: 198.18.{number}.1, port: {port} }}")
    }));
    direct(&group("g", &endpoints.join(", "), PYTHON_ENTRY))
}

/// What has been pushed: the masks, and how many of them were begun and are in force for sure.
#[derive(Default)]
struct Pushed {
    masks: Vec<Mask>,
    in_force: usize,
    /// A verdict was wrong: no more is pushed.
    is_over: bool,
}

fn lock(pushed: &Mutex<Pushed>) -> MutexGuard<'_, Pushed> {
    pushed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether some policy between those two numbers says so of a host.
fn said(masks: &[Mask], bit: usize, allowed: bool) -> bool {
    masks.iter().any(|mask| (mask >> bit & 1 == 1) == allowed)
}

/// Ends the pushing when the probing ends, however it does.
struct Over<'a>(&'a Mutex<Pushed>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        lock(self.0).is_over = true;
    }
}

/// Connects until `done`, and holds each outcome against the policies that were in force or on their
/// way at the time. Returns how many outcomes there were of each kind: allowed, denied, cut.
fn probe(
    prober: &mut Prober,
    pushed: &Mutex<Pushed>,
    seed: &mut Random,
    done: &dyn Fn() -> bool,
) -> [u64; 3] {
    let mut counts = [0; 3];
    while !done() {
        let on_flow = prober.ask(&json!({ "do": "say_on", "name": "flow" }));
        assert_eq!(
            on_flow["ok"], "ping",
            "a flow that all policies allow: {on_flow}"
        );
        assert_eq!(prober.ask(&tcp(Address::A, 7000))["ok"], "ping");
        assert_eq!(prober.ask(&tcp(Address::D, 7000))["name"], "EPERM");
        let bit = seed.below(CHANGING.len());
        let from = lock(pushed).in_force;
        let answer = prober.ask(&tcp(CHANGING[bit], 7000));
        let masks = lock(pushed).masks[from..].to_vec();
        let (may, may_not) = (said(&masks, bit, true), said(&masks, bit, false));
        let shown = answer["name"].as_str().unwrap_or("ok");
        let kind = match shown {
            "ok" => 0,
            "EPERM" => 1,
            // It was open when a push forbade it.
            "ECONNABORTED" => 2,
            _ => panic!("{answer} under {masks:?}, bit {bit}"),
        };
        let is_right = [may, may_not, may && may_not][kind];
        assert!(is_right, "{answer} under {masks:?}, bit {bit}");
        counts[kind] += 1;
        // Not more than there are ports for: each connect leaves one in TIME_WAIT for a minute.
        thread::sleep(Duration::from_millis(4));
    }
    counts
}

/// What may pile up.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    addresses: usize,
    rules: usize,
    masks: usize,
    processes: usize,
    sandboxes: usize,
    descriptors: [usize; 2],
}

impl Held {
    /// Whether this is as much as `before`; of descriptors it may be fewer, as connections end.
    fn is_no_more_than(&self, before: &Self) -> bool {
        let descriptors = self.descriptors.iter().zip(before.descriptors);
        let tables = Self {
            descriptors: before.descriptors,
            ..*self
        };
        tables == *before && { descriptors }.all(|(now, before)| *now <= before)
    }
}

fn pids(daemon: &Daemon) -> [u32; 2] {
    let gate = daemon.gate_pid().expect("a gate");
    [daemon.pid().expect("clawd runs"), gate]
}

fn held(daemon: &Daemon) -> Held {
    let process = daemon.pid().expect("clawd runs");
    let pins = daemon.paths().bpffs.display();
    let data = MapData::from_pin(format!("/proc/{process}/root{pins}/map_ADDRESS")).unwrap();
    let addresses: LpmTrie<_, AddressKey, u32> = Map::from_map_data(data)
        .and_then(LpmTrie::try_from)
        .unwrap();
    let descriptors = |pid: u32| {
        let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
        folder.count()
    };
    Held {
        addresses: addresses.keys().count(),
        rules: entries::<RuleKey, RuleValue>(daemon, "RULE"),
        masks: entries::<MaskKey, MaskValue>(daemon, "MASK"),
        processes: entries::<u32, ProcessValue>(daemon, "PROCESS"),
        sandboxes: entries::<u64, SandboxValue>(daemon, "SANDBOX"),
        descriptors: pids(daemon).map(descriptors),
    }
}

/// Memory of its own that a process has, in KiB.
fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|text| text.parse().ok()).expect("a number")
}

/// That of clawd and of its gate, once the threads that pushes had are gone.
fn idle_memory_kib(daemon: &Daemon) -> [u64; 2] {
    let pids = pids(daemon);
    thread::sleep(IDLE);
    pids.map(memory_kib)
}

/// Waits until what is held is `want`: what a push replaces goes behind its answer.
#[track_caller]
fn settles(daemon: &Daemon, want: &Held) {
    let deadline = Instant::now() + DEADLINE;
    while !held(daemon).is_no_more_than(want) {
        assert!(
            Instant::now() < deadline,
            "{:?} is not {want:?}",
            held(daemon)
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// The held, once it stays the same.
fn settled(daemon: &Daemon) -> Held {
    loop {
        let before = held(daemon);
        thread::sleep(Duration::from_millis(500));
        if held(daemon) == before {
            return before;
        }
    }
}

/// Pushes generated policies, `count` of them, with a word to `each` before every one.
fn push_all(
    api: &mut Api,
    pushed: &Mutex<Pushed>,
    random: &mut Random,
    count: usize,
    each: &dyn Fn(usize),
) {
    for number in 0..count {
        each(number);
        if lock(pushed).is_over {
            return;
        }
        let mask = Mask::try_from(random.below(1 << CHANGING.len())).expect("a byte");
        let text = policy(mask, random);
        lock(pushed).masks.push(mask);
        api.push("box", &text).expect("a push");
        let mut pushed = lock(pushed);
        pushed.in_force = pushed.masks.len() - 1;
    }
}

fn soak(count: usize) {
    let mut random = Random::seeded();
    let world = World::start();
    let reference = policy(0, &mut random);
    let mut prober = world.prober("box", &reference);
    let flow = json!({ "do": "open_flow", "name": "flow", "addr": Address::A, "port": 7000 });
    assert_eq!(prober.ask(&flow)["ok"], "ping");
    let mut api = Api::connect(&world.daemon.paths().socket).unwrap();
    let pushed = Mutex::new(Pushed {
        masks: vec![0],
        in_force: 0,
        is_over: false,
    });
    push_all(&mut api, &pushed, &mut random, WARM_UP, &|_| ());
    api.push("box", &reference).unwrap();
    let before = settled(&world.daemon);
    let memory = idle_memory_kib(&world.daemon);
    *lock(&pushed) = Pushed {
        masks: vec![0],
        in_force: 0,
        is_over: false,
    };

    let begun = Instant::now();
    let [clawd, gate] = pids(&world.daemon);
    let look = move |number: usize| {
        if number > 0 && number.is_multiple_of(STRETCH) {
            let kib = [clawd, gate].map(memory_kib);
            eprintln!("{number} pushes: memory of clawd and gate {kib:?} KiB");
        }
    };
    let counts = thread::scope(|scope| {
        let mut seed = random.clone();
        let _over = Over(&pushed);
        let pushing = scope.spawn(|| push_all(&mut api, &pushed, &mut random, count, &look));
        let counts = probe(&mut prober, &pushed, &mut seed, &|| pushing.is_finished());
        pushing
            .join()
            .unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        counts
    });
    let elapsed = begun.elapsed();
    Api::connect(&world.daemon.paths().socket)
        .unwrap()
        .push("box", &reference)
        .unwrap();
    settles(&world.daemon, &before);
    let after = idle_memory_kib(&world.daemon);
    eprintln!(
        "{count} pushes in {elapsed:?}; connects allowed, denied, cut: {counts:?}; memory of clawd and gate \
         before {memory:?} KiB, after {after:?} KiB; {before:?}"
    );
    let rounds = counts.iter().sum::<u64>();
    assert!(rounds > 100 && counts[0] > 0 && counts[1] > 0, "{counts:?}");
    assert!(world.internet.contacts_at(Address::D, 7000).is_empty());
    for (before, after) in memory.iter().zip(after) {
        assert!(
            after < before + MEMORY_KIB,
            "{before} KiB became {after} KiB"
        );
    }
    let ps: Vec<Value> = world.daemon.ps();
    let pushes = u64::try_from(count + WARM_UP).unwrap() + 3;
    assert_eq!(ps[0]["policy_generation"], pushes, "{ps:?}");
}

/// What an allocator may keep more of; a leak of 100 bytes a push would show in the many.
const MEMORY_KIB: u64 = 4096;

#[test]
fn thousands_of_switches_under_load_give_no_wrong_verdict_and_leave_nothing() {
    soak(FEW);
}

#[test]
#[ignore = "takes long; `cargo xtask soak` runs it"]
fn hundred_thousand_switches_under_load_give_no_wrong_verdict_and_leave_nothing() {
    soak(MANY);
}
