//! Kinds of sockets, and ways to make one go somewhere.

use std::{fs, io};

use clawd_tests::Address;
use serde_json::{Value, json};

use crate::support::{Denial, PYTHON_ENTRY, World, direct, group, tcp};

fn one() -> String {
    direct(&group("one", "{ host: 192.0.2.10, port: 7000 }", PYTHON_ENTRY))
}

fn ask(how: &str, addr: &str) -> Value {
    json!({ "do": how, "addr": addr, "port": 7000 })
}

#[test]
fn fast_open_is_refused_like_a_connect() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    let want = Denial::tcp("address_not_listed", Address::B, 7000);
    world.refuses(&mut prober, "box", &ask("fastopen", Address::B), &want);
    world.allows(&mut prober, &ask("fastopen", Address::A));
}

#[test]
fn nonblocking_connect_is_refused_at_once() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    let want = Denial::tcp("address_not_listed", Address::B, 7000);
    world.refuses(&mut prober, "box", &ask("nonblocking", Address::B), &want);
    assert_eq!(prober.ask(&ask("nonblocking", Address::A))["name"], "EINPROGRESS");
}

#[test]
fn mptcp_is_judged_like_tcp() {
    if !kernel_has_mptcp() {
        eprintln!("SKIPPED: this kernel has no MPTCP");
        return;
    }
    let world = World::start();
    let mut prober = world.prober("box", &one());
    let mptcp = |addr: &str| {
        let mut ask = tcp(addr, 7000);
        ask["protocol"] = json!(262);
        ask
    };
    let refused = world.internet.contacts().len();
    let answer = prober.ask(&mptcp(Address::B));
    assert_eq!(answer["errno"], 1, "{answer}");
    assert_eq!(world.internet.contacts().len(), refused);
    let denials = world.denials("box", 0);
    assert!(!denials.is_empty());
    for denial in denials {
        assert_eq!((&denial["reason"], &denial["dst_ip"]), (&json!("address_not_listed"), &json!(Address::B)));
    }
    world.allows(&mut prober, &mptcp(Address::A));
}

fn kernel_has_mptcp() -> bool {
    fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|text| text.trim() == "1")
}

#[test]
fn other_protocols_get_no_socket() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    for (family, kind, protocol, name) in [
        (4, "dgram", 136, "UDP-Lite"),
        (6, "dgram", 136, "UDP-Lite over IPv6"),
        (4, "raw", 255, "raw"),
        (4, "raw", 1, "raw ICMP"),
        (6, "raw", 58, "raw ICMPv6"),
        (4, "dgram", 1, "ping"),
        (6, "dgram", 58, "ping over IPv6"),
        (4, "stream", 132, "SCTP"),
        (4, "stream", 33, "DCCP"),
        (17, "raw", 768, "packet"),
        (44, "raw", 0, "XDP"),
        (40, "stream", 0, "vsock"),
        (16, "raw", 9, "netlink audit"),
        (38, "dgram", 0, "kernel cryptography"),
    ] {
        let answer = prober.ask(&json!({ "do": "make_socket", "family": family, "kind": kind, "protocol": protocol }));
        assert!(answer["errno"].as_i64() > Some(0), "{name}: {answer}");
    }
    for (family, kind) in [(4, "stream"), (4, "dgram"), (6, "stream"), (6, "dgram")] {
        let answer = prober.ask(&json!({ "do": "make_socket", "family": family, "kind": kind, "protocol": 0 }));
        assert_eq!(answer["ok"], "made", "{answer}");
    }
}

#[test]
fn udp_lite_is_refused_by_the_kernels_hook_and_reported() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    let outside = world.daemon.place().run(|| -> io::Result<()> {
        // Without clawd it is there; else the test would prove nothing.
        let output = std::process::Command::new("/usr/bin/python3")
            .args(["-c", "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)"])
            .output()?;
        if output.status.success() { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    });
    if outside.is_err() {
        eprintln!("SKIPPED: this kernel has no UDP-Lite");
        return;
    }
    let answer = prober.ask(&json!({ "do": "make_socket", "family": 4, "kind": "dgram", "protocol": 136 }));
    assert_eq!(answer["name"], "EPROTONOSUPPORT", "{answer}");
    let denials = world.denials("box", 0);
    let [denial] = denials.as_slice() else { panic!("one denial: {denials:?}") };
    assert_eq!(denial["reason"], "protocol_not_supported");
    assert_eq!(denial["activity"], "socket");
    assert_eq!(denial["protocol"], "udplite");
    assert_eq!(denial["socket_type"], "dgram");
}
