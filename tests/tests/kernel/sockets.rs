//! Kinds of sockets, and ways to make one go somewhere.

use std::{fs, process::Command};

use clawd_tests::{Address, PYTHON};
use serde_json::{Value, json};

use crate::support::{Denial, PYTHON_ENTRY, World, check_whose, direct, group, tcp};

fn one() -> String {
    direct(&group(
        "one",
        "{ host: 192.0.2.10, port: 7000 }",
        PYTHON_ENTRY,
    ))
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
    assert_eq!(
        prober.ask(&ask("nonblocking", Address::A))["name"],
        "EINPROGRESS"
    );
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
        assert_eq!(
            (&denial["reason"], &denial["dst_ip"]),
            (&json!("address_not_listed"), &json!(Address::B))
        );
    }
    world.allows(&mut prober, &mptcp(Address::A));
}

#[test]
fn n6_fast_open_over_mptcp_is_refused_like_a_connect() {
    const EOPNOTSUPP: i64 = 95;
    if !kernel_has_mptcp() {
        eprintln!("SKIPPED: this kernel has no MPTCP");
        return;
    }
    let world = World::start();
    let mut prober = world.prober("box", &one());
    let pid = world.pid_of("box", &mut prober);
    let mut attempts = |addr: &str| {
        ["sendto", "sendmsg"].map(|call| {
            let mut ask = ask("fastopen", addr);
            ask["protocol"] = json!(262);
            ask["call"] = json!(call);
            prober.ask(&ask)
        })
    };
    let before = world.internet.traffic().expect("counters");
    let refused = attempts(Address::B);
    assert_eq!(world.internet.traffic().expect("counters"), before);
    let listed = attempts(Address::A);
    let denials = world.denials("box", 0);
    if listed[0]["errno"] == EOPNOTSUPP {
        // Then it goes nowhere, and is no attempt to be told.
        for answer in refused.iter().chain(&listed) {
            assert_eq!(answer["errno"], EOPNOTSUPP, "{answer}");
        }
        assert_eq!((denials, world.internet.contacts()), (vec![], vec![]));
        eprintln!("SKIPPED: MPTCP with TCP Fast Open: needs Linux 6.2");
        return;
    }
    for answer in &refused {
        assert_eq!(answer["errno"], 1, "{answer}");
    }
    // What it would have done.
    for answer in &listed {
        assert_eq!(answer["ok"], "ping", "{answer}");
    }
    assert_eq!(world.internet.contacts_at(Address::A, 7000).len(), 2);
    assert!(world.internet.contacts_at(Address::B, 7000).is_empty());
    assert!(denials.len() >= refused.len(), "{denials:?}");
    for denial in &denials {
        assert_eq!(denial["activity"], "connect", "{denial}");
        assert_eq!(denial["reason"], "address_not_listed", "{denial}");
        assert_eq!(denial["dst_ip"], Address::B, "{denial}");
        assert_eq!(denial["dst_port"], 7000, "{denial}");
        assert_eq!(denial["protocol"], "tcp", "{denial}");
        check_whose(denial, pid, PYTHON);
    }
}

fn kernel_has_mptcp() -> bool {
    fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|text| text.trim() == "1")
}

/// Family, type, protocol, and the protocol's name in audit records.
const OTHERS: [(u16, &str, u16, &str); 9] = [
    (2, "SOCK_DGRAM", 136, "udplite"),
    (10, "SOCK_DGRAM", 136, "udplite"),
    (2, "SOCK_RAW", 255, "raw"),
    (2, "SOCK_RAW", 1, "icmp"),
    (10, "SOCK_RAW", 58, "ipv6-icmp"),
    (2, "SOCK_STREAM", 132, "sctp"),
    (10, "SOCK_SEQPACKET", 132, "sctp"),
    (2, "SOCK_DGRAM", 1, "icmp"),
    (10, "SOCK_DGRAM", 58, "ipv6-icmp"),
];

/// Prints the error number of making each of [`OTHERS`], 0 for none.
fn script() -> String {
    let wanted: Vec<String> = OTHERS
        .iter()
        .map(|(family, kind, protocol, _)| format!("({family}, socket.{kind}, {protocol})"))
        .collect();
    format!(
        "import socket
def make(*what):
    try:
        socket.socket(*what).close()
        return 0
    except OSError as error:
        return error.errno
print([make(*what) for what in [{}]])",
        wanted.join(", ")
    )
}

#[test]
fn other_protocols_get_no_socket() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    let answer =
        prober.ask(&json!({ "do": "run", "argv": ["/usr/bin/python3", "-I", "-c", script()] }));
    let errors: Vec<i32> = serde_json::from_str(answer["ok"]["out"].as_str().unwrap()).unwrap();
    assert_eq!(errors.len(), OTHERS.len(), "{answer}");
    assert!(errors.iter().all(|error| *error > 0), "{answer}");
    for (family, kind, protocol, name) in [
        (17, "raw", 768, "packet"),
        (44, "raw", 0, "XDP"),
        (40, "stream", 0, "vsock"),
        (16, "raw", 9, "netlink audit"),
        (38, "dgram", 0, "kernel cryptography"),
    ] {
        let answer = prober.ask(
            &json!({ "do": "make_socket", "family": family, "kind": kind, "protocol": protocol }),
        );
        assert!(answer["errno"].as_i64() > Some(0), "{name}: {answer}");
    }
    for (family, kind) in [(4, "stream"), (4, "dgram"), (6, "stream"), (6, "dgram")] {
        let answer = prober
            .ask(&json!({ "do": "make_socket", "family": family, "kind": kind, "protocol": 0 }));
        assert_eq!(answer["ok"], "made", "{answer}");
    }
}

#[test]
fn other_protocols_are_refused_by_the_hook_without_seccomp() {
    let world = World::start();
    let _prober = world.prober("box", &one());
    // Root on the host's network: who cannot make a socket here has no such protocol in its kernel.
    let host = errors_of(&world, "true");
    let cgroup = world.daemon.paths().cgroup_parent.join("box/cgroup.procs");
    let inside = errors_of(&world, &format!("echo $$ > {}", cgroup.display()));
    let mut want = Vec::new();
    for ((other, host), inside) in OTHERS.iter().zip(host).zip(inside) {
        if host == 0 {
            assert_eq!(inside, EPROTONOSUPPORT, "{other:?}");
            want.push(other.3);
        } else {
            eprintln!("SKIPPED: this kernel makes no socket {other:?} (error {host})");
        }
    }
    assert!(want.contains(&"raw"), "{want:?}");
    let denials = world.denials("box", 0);
    let got: Vec<_> = denials
        .iter()
        .filter_map(|denial| denial["protocol"].as_str())
        .collect();
    assert_eq!(got, want);
    for denial in &denials {
        assert_eq!(
            (&denial["reason"], &denial["activity"]),
            (&json!("protocol_not_supported"), &json!("socket"))
        );
    }
}

const EPROTONOSUPPORT: i32 = 93;

/// What [`script`] prints when a shell starts it after `first`.
fn errors_of(world: &World, first: &str) -> Vec<i32> {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("{first} && exec /usr/bin/python3 -I -c \"$1\""),
        "sh",
        &script(),
    ]);
    let output = world.daemon.place().output(command).expect("sh");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// What only raw calls can try: prints one JSON object of results.
const CALLS: &str = "
import ctypes, json, platform, socket, struct
found = {}
talk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
talk.settimeout(5)
talk.connect((ADDRESS, 7000))
tos = [(socket.IPPROTO_IP, socket.IP_TOS, struct.pack('i', 4))]
def attempt(name, call):
    try:
        found[name] = call()
    except OSError as error:
        found[name] = error.errno
attempt('ancillary', lambda: talk.sendmsg([b'ping'], tos))
attempt('echo', lambda: talk.recv(64).decode())
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for name, level, option in (('rthdr', 41, 57), ('hopopts', 41, 54), ('ip_options', 0, 4)):
    which = six if level else talk
    attempt(name, lambda: which.setsockopt(level, option, bytes(24)))
libc = ctypes.CDLL(None, use_errno=True)
number = 277 if platform.machine() == 'aarch64' else 317
# SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, no program: EFAULT where it may.
result = libc.syscall(number, 1, 8, None)
found['listener'] = ctypes.get_errno() if result else 0
result = libc.syscall(number, 1, 0, None)
found['filter'] = ctypes.get_errno() if result else 0
print(json.dumps(found))
";

#[test]
fn datagrams_with_ancillary_data_are_judged_by_their_peer_and_routes_are_refused() {
    let world = World::start();
    let policy = direct(&group(
        "g",
        &format!("{{ host: {}, port: 7000, protocol: udp }}", Address::A),
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("box", &policy);
    let script = format!("ADDRESS = {:?}\n{CALLS}", Address::A);
    let answer =
        prober.ask(&json!({ "do": "run", "argv": ["/usr/bin/python3", "-I", "-c", script] }));
    let out = answer["ok"]["out"].as_str().unwrap_or_default();
    let found: serde_json::Value = serde_json::from_str(out).unwrap_or_else(|_| panic!("{answer}"));
    // ECN and QUIC set the type of service this way, on sockets that are connected.
    assert_eq!(found["ancillary"], 4, "{found}");
    assert_eq!(found["echo"], "ping", "{found}");
    for refused in ["rthdr", "hopopts", "ip_options", "listener"] {
        assert_eq!(found[refused], 1, "{refused}: {found}");
    }
    // A program may still confine itself: the filter is refused only for not being there.
    assert_eq!(found["filter"], 14, "{found}");
}
