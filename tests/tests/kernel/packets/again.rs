//! Datagrams to the same peer again: decided once, told once, and lent to nobody.

use clawd_tests::Address;
use serde_json::json;

use super::{push, python, reaching};
use crate::support::{PYTHON_ENTRY, World, direct, group};

const PERL: &str = "/usr/bin/perl";

/// How many datagrams are sent to one peer.
const SENT: usize = 20;

/// Python sends to A again and again, then executes a shell of Perl's that does so once more with the same
/// socket; tells what Python heard, and Perl's errno.
fn script() -> String {
    format!(
        "
import json, os, socket
talk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
talk.settimeout(5)
heard = 0
for _ in range({SENT}):
    talk.sendto(b'ping', ({:?}, 7000))
    heard += talk.recv(64) == b'ping'
talk.set_inheritable(True)
perl = 'use Socket; open(my $s, q(+<&=), $ARGV[0]) or die; $! = 0; ' \
    'send($s, q(ping), 0, pack_sockaddr_in(7000, inet_aton($ARGV[2]))); print qq([$ARGV[1],), $!+0, q(])'
os.execv({PERL:?}, ['perl', '-e', perl, str(talk.fileno()), str(heard), {:?}])
",
        Address::A,
        Address::A
    )
}

#[test]
fn datagrams_to_the_same_peer_are_told_once_and_the_next_program_is_judged_by_itself() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A], ""));
    let told = python(&mut prober, &script());
    assert_eq!(told, json!([SENT, 1]), "heard by Python, EPERM for Perl");
    let reached = world.internet.contacts_at(Address::A, 7000).len();
    assert_eq!(reached, SENT);
    let of = |action: &str| {
        let mut records = world.daemon.audit();
        records.retain(|record| record["activity"] == "sendmsg" && record["action"] == action);
        records
    };
    assert_eq!(of("allowed").len(), 1, "{:?}", of("allowed"));
    let denied = of("denied");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["reason"], "binary_not_listed", "{denied:?}");
    assert_eq!(denied[0]["exe"], PERL, "{denied:?}");
    assert_eq!(denied[0]["pid"], of("allowed")[0]["pid"]);
}

#[test]
fn datagram_to_the_same_peer_after_a_push_is_decided_anew() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A], ""));
    let send = json!({ "do": "send_on", "name": "talk", "addr": Address::A, "port": 7000 });
    let keep = json!({ "do": "keep_socket", "name": "talk", "family": 4, "kind": "dgram" });
    assert!(prober.ask(&keep)["ok"].is_number());
    for _ in 0..3 {
        let answer = prober.ask(&send);
        assert_eq!(answer["ok"], "ping", "{answer}");
    }
    push(&world, "box", &reaching(&[], ""));
    let answer = prober.ask(&send);
    assert_eq!(answer["errno"], 1, "{answer}");
    assert_eq!(world.internet.contacts_at(Address::A, 7000).len(), 3);
    let denials = world.denials("box", 0);
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert_eq!(denials[0]["activity"], "sendmsg", "{denials:?}");
    // Back in force, it is allowed again.
    let endpoint = format!("{{ host: {}, port: 7000, protocol: udp }}", Address::A);
    push(&world, "box", &direct(&group("h", &endpoint, PYTHON_ENTRY)));
    assert_eq!(prober.ask(&send)["ok"], "ping");
}
