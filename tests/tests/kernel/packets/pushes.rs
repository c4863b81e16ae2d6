//! Flows that are open when another policy comes into force.

use std::{
    thread,
    time::{Duration, Instant},
};

use clawd_tests::{Address, PYTHON};
use serde_json::{Value, json};

use super::{dropped, push, python, reaching};
use crate::{
    programs::talking_place,
    support::{PYTHON_ENTRY, World, check_whose, direct_with, eventually, group},
};

#[test]
fn program_that_waits_on_a_forbidden_flow_is_told_at_once() {
    let world = World::start();
    for kind in ["stream", "dgram"] {
        let mut prober = world.prober(kind, &reaching(&[Address::A, Address::B], ""));
        for host in [Address::A, Address::B] {
            let open = json!({
                "do": "open_flow", "name": host, "kind": kind, "addr": host, "port": 7000,
                "timeout": 30
            });
            assert_eq!(prober.ask(&open)["ok"], "ping");
        }
        let waiting = thread::spawn(move || {
            let answer = prober.ask(&json!({ "do": "wait_on", "name": Address::A }));
            (answer, prober)
        });
        thread::sleep(Duration::from_millis(200));
        push(&world, kind, &reaching(&[Address::B], ""));
        let (answer, mut prober) = waiting.join().expect("it comes back");
        assert_eq!(answer["name"], "ECONNABORTED", "{kind}: {answer}");
        // The other flow still waits for its server.
        let answer = prober.ask(&json!({ "do": "wait_on", "name": Address::B, "timeout": 1 }));
        assert_eq!(answer["name"], "timeout", "{kind}: {answer}");
        let cut = dropped(&world, kind, "cut");
        let [(reason, ip, record)] = cut.as_slice() else {
            panic!("{kind}: {cut:?}")
        };
        assert_eq!(
            (reason.as_str(), ip.as_str()),
            ("policy_changed", Address::A)
        );
        assert_eq!(record["protocol"], protocol(kind));
        assert_eq!(record["policy_generation"], 2);
        // The kernel does not tell whose a datagram socket is.
        if kind == "stream" {
            let content = clawd_tests::sha256_of_file(clawd_tests::PYTHON).expect("its content");
            assert_eq!(record["sha256"], content);
        }
    }
}

#[test]
fn n15_flow_that_a_push_forbids_is_cut_and_one_that_it_allows_goes_on() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A, Address::B], ""));
    for kind in ["stream", "dgram"] {
        for host in [Address::A, Address::B] {
            let open = json!({
                "do": "open_flow", "name": format!("{kind} {host}"), "kind": kind,
                "addr": host, "port": 7000, "timeout": 2
            });
            assert_eq!(prober.ask(&open)["ok"], "ping");
        }
    }
    push(&world, "box", &reaching(&[Address::B], ""));
    let before = world.internet.contacts().len();
    let arrived = world.internet.traffic().expect("counters");
    for kind in ["stream", "dgram"] {
        let say = |host: &str| json!({ "do": "say_on", "name": format!("{kind} {host}") });
        let answer = prober.ask(&say(Address::A));
        // The packet is dropped, or the socket is cut already: then it is told so, and has no peer.
        let name = answer["name"].as_str().unwrap_or_default();
        let want: &[_] = match kind {
            "stream" => &["ECONNABORTED"],
            _ => &["EPERM", "ECONNABORTED", "EDESTADDRREQ"],
        };
        assert!(want.contains(&name), "{kind}: {answer}");
        let contacts = world.internet.contacts_at(Address::A, 7000);
        let of_kind = contacts
            .iter()
            .filter(|contact| contact.kind == protocol(kind));
        assert_eq!(of_kind.count(), 1, "{kind}: {contacts:?}");
    }
    assert_eq!(world.internet.traffic().expect("counters"), arrived);
    let answer = prober.ask(&json!({ "do": "say_on", "name": format!("dgram {}", Address::B) }));
    assert_eq!(answer["ok"], "ping", "{answer}");
    assert!(world.internet.contacts().len() > before);
    eventually("both are cut", || dropped(&world, "box", "cut").len() >= 2);
    let cut = dropped(&world, "box", "cut");
    assert_eq!(cut.len(), 2, "{cut:?}");
    let pid = world.pid_of("box", &mut prober);
    for protocol in ["tcp", "udp"] {
        let of_protocol = |(_, _, record): &&(_, _, Value)| record["protocol"] == protocol;
        let told = cut.iter().find(of_protocol);
        let (reason, ip, record) = told.unwrap_or_else(|| panic!("{protocol}: {cut:?}"));
        assert_eq!(
            (reason.as_str(), ip.as_str()),
            ("policy_changed", Address::A)
        );
        assert_eq!(record["dst_port"], 7000, "{record}");
        assert_eq!(record["policy_generation"], 2, "{record}");
        if protocol == "tcp" {
            check_whose(record, pid, PYTHON);
        } else {
            // The kernel does not tell whose a datagram socket is.
            assert_eq!(
                (&record["pid"], &record["exe"]),
                (&Value::Null, &Value::Null)
            );
        }
    }
}

fn protocol(kind: &str) -> &'static str {
    if kind == "stream" { "tcp" } else { "udp" }
}

/// Fetches over one connection until a file is there; prints how many bytes came.
const FETCHES: &str = "
import json, os, socket
flow = socket.create_connection((HOST, 80))
flow.settimeout(30)
seen = 0
while not os.path.exists(UNTIL):
    flow.sendall(b'GET /large HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')
    head = b''
    while b'\\r\\n\\r\\n' not in head:
        head += flow.recv(1)
    length = [line for line in head.lower().split(b'\\r\\n') if line.startswith(b'content-length')]
    left = int(length[0].split(b':')[1])
    while left:
        got = len(flow.recv(min(left, 65536)))
        if not got:
            raise SystemExit('cut after %d bytes' % seen)
        left, seen = left - got, seen + got
print(json.dumps(seen))
";

#[test]
fn flows_that_both_policies_allow_never_notice() {
    const PUSHES: u32 = 20;
    let world = World::start();
    let signals = world
        .daemon
        .scratch()
        .folder("signals", 0o755)
        .expect("a folder");
    let until = signals.join("end");
    let script = format!("HOST, UNTIL = {:?}, {until:?}\n{FETCHES}", Address::A);
    let policy = |more: u32| {
        let endpoints = format!(
            "{{ host: {}, port: 80 }}, {{ host: 198.51.100.{more}, port: 1 }}",
            Address::A
        );
        let trees = format!("[/usr, {}]", signals.display());
        direct_with(&trees, "[]", &group("g", &endpoints, PYTHON_ENTRY))
    };
    let mut prober = world.prober("box", &policy(1));
    thread::scope(|scope| {
        let flow = scope.spawn(|| python(&mut prober, &script));
        for more in 2..PUSHES {
            push(&world, "box", &policy(more));
        }
        std::fs::write(&until, "").expect("a signal");
        let seen = flow.join().expect("the flow ends");
        assert!(seen.as_u64() > Some(100_000), "{seen}");
    });
    assert_eq!(dropped(&world, "box", "send").len(), 0);
    assert_eq!(dropped(&world, "box", "receive").len(), 0);
}

/// Puts sandbox `box` under the policy of sandbox `other`, as a daemon leaves it that is killed between
/// its word of a push and the look at open flows.
fn left_half_way(world: &mut World) {
    world.daemon.kill9().expect("it runs");
    let state = |name: &str| {
        world
            .daemon
            .paths()
            .state_dir
            .join(format!("sandboxes/{name}.json"))
    };
    let read = |name: &str| -> Value {
        let text = std::fs::read(state(name)).expect("a state");
        serde_json::from_slice(&text).expect("JSON")
    };
    let (mut of_box, of_other) = (read("box"), read("other"));
    of_box["policy"] = of_other["policy"].clone();
    std::fs::write(state("box"), of_box.to_string()).expect("a state");
    world.daemon.launch().expect("it takes over");
}

#[test]
fn n15_flow_that_no_push_looked_at_is_cut_by_its_next_packet() {
    let mut world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A, Address::B], ""));
    let mut other = world.prober("other", &reaching(&[Address::B], ""));
    python(&mut other, "print(1)");
    for host in [Address::A, Address::B] {
        let open =
            json!({ "do": "open_flow", "name": host, "addr": host, "port": 7000, "timeout": 30 });
        assert_eq!(prober.ask(&open)["ok"], "ping");
    }
    left_half_way(&mut world);
    assert_eq!(dropped(&world, "box", "cut").len(), 0);
    let arrived = world.internet.traffic().expect("counters").tcp_segments;
    let answer = prober.ask(&json!({ "do": "say_on", "name": Address::A }));
    assert_eq!(answer["name"], "ECONNABORTED", "{answer}");
    assert!(answer["ms"].as_f64() < Some(5000.0), "{answer}");
    assert_eq!(
        world.internet.traffic().expect("counters").tcp_segments,
        arrived
    );
    let cut = dropped(&world, "box", "cut");
    let [(reason, ip, record)] = cut.as_slice() else {
        panic!("{cut:?}")
    };
    assert_eq!(
        (reason.as_str(), ip.as_str()),
        ("policy_changed", Address::A)
    );
    assert_eq!(record["protocol"], "tcp");
    let pid = world.pid_of("box", &mut prober);
    check_whose(record, pid, PYTHON);
    let sent = dropped(&world, "box", "send");
    assert!(!sent.is_empty());
    for (reason, ip, record) in &sent {
        assert_eq!(
            (reason.as_str(), ip.as_str()),
            ("policy_changed", Address::A),
            "{record}"
        );
        check_whose(record, pid, PYTHON);
    }
    let answer = prober.ask(&json!({ "do": "say_on", "name": Address::B }));
    assert_eq!(answer["ok"], "ping", "{answer}");
}

/// Connects again and again from many threads; each keeps its count of attempts in a file of its own.
/// Prints how often each outcome came.
const CONNECTS: &str = "
import collections, errno, json, os, socket, threading
outcomes = collections.Counter()
def work(number):
    count, file = 0, os.open(f'{PLACE}/{number}', os.O_CREAT | os.O_WRONLY)
    while not os.path.exists(PLACE + '/end'):
        try:
            with socket.socket() as talk:
                talk.settimeout(60)
                talk.connect((HOST, 7000))
            outcomes['ok'] += 1
        except OSError as error:
            outcomes[errno.errorcode.get(error.errno, 'timeout')] += 1
        count += 1
        os.pwrite(file, b'%12d' % count, 0)
threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(dict(outcomes)))
";

#[test]
fn connect_that_a_push_overtakes_never_hangs() {
    const ROUNDS: u32 = 25;
    /// An emulated machine does not come that far in this time.
    const ROUNDS_FOR: Duration = Duration::from_secs(40);
    const ROUNDS_MIN: u32 = 3;
    const THREADS: usize = 8;
    /// While it is forbidden a connect that nobody is told of hangs for minutes, or until the program's own
    /// time-out, which is none of the outcomes that there may be.
    const AT_MOST: Duration = Duration::from_secs(100);
    let world = World::start();
    let place = talking_place(&world);
    let (host, shown) = (Address::A, place.display());
    let script = format!("HOST, PLACE, THREADS = {host:?}, \"{shown}\", {THREADS}\n{CONNECTS}");
    let policy = |hosts: &[&str]| {
        let listed = reaching(hosts, "");
        listed.replace("read_write: []", &format!("read_write: [{shown}]"))
    };
    let counts = || -> Vec<u64> {
        let count = |number: usize| std::fs::read_to_string(place.join(number.to_string()));
        let counts = (0..THREADS).map(|number| count(number).ok()?.trim().parse().ok());
        counts.map(Option::unwrap_or_default).collect()
    };
    // Two more attempts of each: the first may have ended before the push.
    let all_go_on = |what: &str| {
        let (before, begun) = (counts(), Instant::now());
        let is_further = || {
            let now = counts();
            now.iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + 2)
        };
        while !is_further() {
            assert!(
                begun.elapsed() < AT_MOST,
                "{what}: {before:?}, {:?}",
                counts()
            );
            thread::sleep(Duration::from_millis(5));
        }
    };
    let mut prober = world.prober("box", &policy(&[Address::A]));
    let outcomes = thread::scope(|scope| {
        let connects = scope.spawn(|| python(&mut prober, &script));
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let begun = Instant::now();
            for round in 0..ROUNDS {
                if round >= ROUNDS_MIN && begun.elapsed() > ROUNDS_FOR {
                    break;
                }
                push(&world, "box", &policy(&[Address::B]));
                all_go_on("while it is forbidden");
                push(&world, "box", &policy(&[Address::A, Address::B]));
                all_go_on("while it is allowed");
            }
        }));
        std::fs::write(place.join("end"), "").expect("a signal");
        let outcomes = connects.join().expect("they end");
        if let Err(panic) = rounds {
            std::panic::resume_unwind(panic);
        }
        outcomes
    });
    let of = outcomes.as_object().expect("an object");
    let known = ["ok", "EPERM", "ECONNABORTED"];
    assert!(
        of.keys().all(|outcome| known.contains(&outcome.as_str())),
        "{outcomes}"
    );
    assert!(
        outcomes["ok"].as_u64() > Some(100) && outcomes["EPERM"].as_u64() > Some(100),
        "{outcomes}"
    );
}
