//! Headers that may lead elsewhere, and packets in pieces.

use std::{net::UdpSocket, process::Command, time::Duration};

use clawd_tests::Address;
use serde_json::{Value, json};

use super::{dropped, python, reaching};
use crate::support::{PYTHON_ENTRY, World, direct, eventually, group};

/// Datagrams with headers between IPv6's and UDP's: prints the size sent, or the errno, of each.
const EXTENDED: &str = "
import json, socket
found = {}
inet = lambda addr: socket.inet_pton(socket.AF_INET6, addr)
padding = bytes([0, 0, 1, 4, 0, 0, 0, 0])
# Segment routing (RFC 8754), one segment left; the home address of RFC 6275, 6.4.
segments = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + inet(FAR) + inet(NEAR)
home = bytes([0, 2, 2, 1, 0, 0, 0, 0]) + inet(FAR)

def attempt(name, call):
    talk = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        found[name] = call(talk)
    except OSError as error:
        found[name] = error.errno

def option(number, data):
    def call(talk):
        talk.setsockopt(socket.IPPROTO_IPV6, number, data)
        return talk.sendto(b'ping', (NEAR, 7000))
    return call

def ancillary(number, data):
    return lambda talk: talk.sendmsg([b'ping'], [(socket.IPPROTO_IPV6, number, data)], 0, (NEAR, 7000))

attempt('plain', lambda talk: talk.sendto(b'ping', (NEAR, 7000)))
attempt('segments', option(57, segments))
attempt('hop options', ancillary(54, padding))
attempt('destination options', ancillary(59, padding))
attempt('home address', ancillary(57, home))
print(json.dumps(found))
";

#[test]
fn header_that_may_route_elsewhere_is_dropped() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A6], ""));
    // Makes the program known to the sandbox.
    python(&mut prober, "print(1)");
    let script = format!(
        "FAR, NEAR = {:?}, {:?}\n{EXTENDED}",
        Address::C6,
        Address::A6
    );
    // Root in the sandbox's cgroup, with no filter of system calls: it may add what a sandbox's user
    // may not, and the packets are all that is left to judge.
    let cgroup = world.daemon.paths().cgroup_parent.join("box/cgroup.procs");
    let first = format!(
        "echo $$ > {} && exec /usr/bin/python3 -I -c \"$1\"",
        cgroup.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &first, "sh", &script]);
    let before = world.internet.traffic().expect("counters").datagrams;
    let output = world.daemon.place().output(command).expect("sh");
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(found["plain"], 4, "{found}");
    for name in ["segments", "hop options", "destination options"] {
        assert_eq!(found[name], 1, "{name}: {found}");
    }
    const EINVAL: i64 = 22;
    match found["home address"].as_i64() {
        Some(EINVAL) => eprintln!("SKIPPED: home address option: needs CONFIG_IPV6_MIP6"),
        other => assert_eq!(other, Some(1), "{found}"),
    }
    // The plain one, and its answer comes back to the host alone.
    assert_eq!(
        world.internet.traffic().expect("counters").datagrams,
        before + 1
    );
    eventually("the denials are in the log", || {
        let dropped = dropped(&world, "box", "send");
        dropped
            .iter()
            .filter(|(reason, ..)| reason == "header_not_plain")
            .count()
            >= 3
    });
}

#[test]
fn datagram_larger_than_a_packet_passes() {
    let world = World::start();
    let sink = world.internet.outside().run(|| {
        let sink = UdpSocket::bind("192.0.2.10:7600").expect("free");
        sink.set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a time");
        sink
    });
    let endpoint = format!("{{ host: {}, port: 7600, protocol: udp }}", Address::A);
    let mut prober = world.prober("box", &direct(&group("g", &endpoint, PYTHON_ENTRY)));
    let sent = python(
        &mut prober,
        &format!(
            "import json, socket\ntalk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
             print(json.dumps(talk.sendto(bytes(20000), ({:?}, 7600))))",
            Address::A
        ),
    );
    assert_eq!(sent, 20_000);
    let mut heard = vec![0; 30_000];
    assert_eq!(sink.recv(&mut heard).expect("it arrives whole"), 20_000);
    assert_eq!(dropped(&world, "box", "send").len(), 0);
}

/// Datagrams with IP options and routing headers that come as ancillary data, which no hook of a call and
/// no filter of system calls sees: prints the size sent, or the errno, of each.
const ANCILLARY: &str = "
import json, socket
found = {}
four = lambda addr: socket.inet_aton(addr)
six = lambda addr: socket.inet_pton(socket.AF_INET6, addr)

def attempt(name, family, near, *ancillary):
    with socket.socket(family, socket.SOCK_DGRAM) as talk:
        try:
            found[name] = talk.sendmsg([b'ping'], ancillary, 0, (near, 7000))
        except OSError as error:
            found[name] = error.errno

# RFC 791, 3.1: no operation; loose source route by way of another host, with one address.
padding = bytes([1, 1, 1, 1])
route = bytes([131, 7, 4]) + four(FAR) + bytes([0])
# The one routing header that may come this way (RFC 6275, 6.4).
home = bytes([0, 2, 2, 1, 0, 0, 0, 0]) + six(FAR6)
attempt('plain', socket.AF_INET, NEAR)
attempt('padding', socket.AF_INET, NEAR, (socket.IPPROTO_IP, socket.IP_RETOPTS, padding))
attempt('route', socket.AF_INET, NEAR, (socket.IPPROTO_IP, socket.IP_RETOPTS, route))
attempt('home', socket.AF_INET6, NEAR6, (socket.IPPROTO_IPV6, 57, home))
print(json.dumps(found))
";

#[test]
fn header_that_a_program_brings_as_ancillary_data_is_dropped() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A, Address::A6], ""));
    let script = format!(
        "NEAR, NEAR6, FAR, FAR6 = {:?}, {:?}, {:?}, {:?}\n{ANCILLARY}",
        Address::A,
        Address::A6,
        Address::C,
        Address::C6
    );
    let before = world.internet.traffic().expect("counters").datagrams;
    let found = python(&mut prober, &script);
    let has_home = found["home"] != 22;
    if !has_home {
        eprintln!("SKIPPED: routing header by ancillary data: needs CONFIG_IPV6_MIP6");
    }
    let home = if has_home { 1 } else { 22 };
    let want = json!({ "plain": 4, "padding": 1, "route": 1, "home": home });
    assert_eq!(found, want);
    let after = world.internet.traffic().expect("counters").datagrams;
    assert_eq!(after, before + 1, "the plain one alone");
    let sent = dropped(&world, "box", "send");
    let reasons: Vec<_> = sent.iter().map(|(reason, ..)| reason.as_str()).collect();
    // Newer kernels themselves refuse a source route to whoever has no capability, and tell nobody.
    let told = 1 + usize::from(has_home)..=2 + usize::from(has_home);
    assert!(told.contains(&reasons.len()), "{sent:?}");
    assert!(
        reasons.iter().all(|reason| *reason == "header_not_plain"),
        "{sent:?}"
    );
    for (_, _, record) in &sent {
        let exe = record["exe"].as_str().unwrap_or_default();
        assert!(exe.contains("python3"), "{record}");
    }
}
