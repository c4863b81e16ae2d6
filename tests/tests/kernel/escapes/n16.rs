//! N16: who connects is who it is at that moment, whatever it executes next or at the same time.

use clawd_tests::{Address, PYTHON};
use serde_json::{Value, json};

use crate::support::{World, direct, eventually, group};

const PERL: &str = "/usr/bin/perl";
/// How often a program connects while it becomes another.
const ROUNDS: u32 = 40;

/// Threads of Python's connect while another one executes Perl. Tells which errnos there were, and of how
/// many attempts.
const RACE: &str = "
import json, os, socket, threading, time
codes = []
for _ in range(ROUNDS):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        def connect():
            while True:
                with socket.socket() as talk:
                    talk.setblocking(False)
                    os.write(write, bytes([talk.connect_ex((HOST, 7000))]))
                time.sleep(0.001)
        for _ in range(2):
            threading.Thread(target=connect, daemon=True).start()
        time.sleep(0.02)
        os.execv(PERL, ['perl', '-e', 'exit 0'])
    os.close(write)
    with os.fdopen(read, 'rb') as answers:
        codes += answers.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError('Perl did not end as it should')
print(json.dumps([sorted(set(codes)), len(codes)]))
";

/// Python connects, and executes Perl, which keeps the socket: it writes to it, then connects it itself.
/// Tells the three errnos.
const KEPT: &str = "
import os, socket
talk = socket.socket()
first = talk.connect_ex((HOST, 7000))
talk.set_inheritable(True)
perl = 'use Socket; $SIG{PIPE} = q(IGNORE); open(my $s, q(+<&=), $ARGV[0]) or die; ' \\
    '$! = 0; syswrite($s, q(ping)); my $write = $! + 0; ' \\
    '$! = 0; connect($s, pack_sockaddr_in(7000, inet_aton($ARGV[2]))); print qq([$ARGV[1],$write,), $! + 0, q(])'
os.execv(PERL, ['perl', '-e', perl, str(talk.fileno()), str(first), HOST])
";

/// A sandbox in which Perl may reach A, and Python nobody, runs a script of Python's.
fn run(world: &World, script: &str) -> Value {
    let endpoint = format!("{{ host: {}, port: 7000 }}", Address::A);
    let policy = direct(&group("g", &endpoint, &format!("{{ path: {PERL} }}")));
    let mut prober = world.prober("box", &policy);
    let head = format!(
        "HOST, PERL, ROUNDS = {:?}, {PERL:?}, {ROUNDS}\n",
        Address::A
    );
    let argv = json!(["/usr/bin/python3", "-I", "-c", head + script]);
    let answer = prober.ask(&json!({ "do": "run", "argv": argv }));
    let out = answer["ok"]["out"].as_str().unwrap_or_default();
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Every denial is Python's, for want of a rule; returns how many there were.
fn denials_of_python(world: &World) -> u64 {
    let denials = world.denials("box", 0);
    let told = denials.iter().map(|record| {
        assert_eq!(record["reason"], "binary_not_listed", "{record}");
        assert_eq!(record["dst_ip"], Address::A, "{record}");
        // A count stands for many, whose line of executables is the same.
        if record["count"].is_null() {
            let exe = std::path::Path::new(PYTHON).canonicalize().expect("there");
            assert_eq!(record["exe"], exe.display().to_string(), "{record}");
        }
        record["count"].as_u64().unwrap_or(1)
    });
    told.sum()
}

#[test]
fn n16_connect_of_a_thread_while_another_executes_a_listed_program_is_refused() {
    let world = World::start();
    let told = run(&world, RACE);
    assert_eq!(told[0], json!([1]), "nothing but EPERM: {told}");
    let attempts = told[1].as_u64().expect("a count");
    // A slow machine may not come to one in each round.
    assert!(attempts > u64::from(ROUNDS) / 4, "{told}");
    assert!(world.internet.contacts_at(Address::A, 7000).is_empty());
    // One that was killed by the exec was judged, and could not say so.
    eventually("all are counted", || denials_of_python(&world) >= attempts);
}

#[test]
fn n16_listed_program_has_nothing_of_what_was_refused_before_it() {
    const EPERM: i32 = 1;
    const EPIPE: i32 = 32;
    let world = World::start();
    let told = run(&world, KEPT);
    assert_eq!(told, json!([EPERM, EPIPE, 0]));
    // Its own.
    eventually("it is seen", || {
        world.internet.contacts_at(Address::A, 7000).len() == 1
    });
    assert_eq!(denials_of_python(&world), 1);
}
