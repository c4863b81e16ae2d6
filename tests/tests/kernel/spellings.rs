//! One destination has many spellings, and some that never are one.

use std::{
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
    process::Command,
};

use clawd_tests::{Address, PYTHON, UDP_ECHO};
use serde_json::{Value, json};

use crate::support::{
    DEADLINE, Denial, PYTHON_ENTRY, World, closed, direct, eventually, group, hear, tcp,
};

/// Everything of both families, for Python: what is refused under it is refused for what it is.
fn wide() -> String {
    let all = "{ cidr: 0.0.0.0/0, ports: [7000-7001] }, { cidr: \"::/0\", ports: [7000-7001] }";
    let udp = "{ cidr: 0.0.0.0/0, port: 7000, protocol: udp }, { cidr: \"::/0\", port: 7000, protocol: udp }";
    direct(&group("wide", &format!("{all}, {udp}"), PYTHON_ENTRY))
}

fn one() -> String {
    let endpoints =
        "{ host: 192.0.2.10, port: 7000 }, { host: 192.0.2.10, port: 7000, protocol: udp }";
    direct(&group("one", endpoints, PYTHON_ENTRY))
}

fn with(mut ask: Value, key: &str, value: impl Into<Value>) -> Value {
    ask[key] = value.into();
    ask
}

#[test]
fn mapped_ipv4_is_judged_as_ipv4() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    world.allows(&mut prober, &tcp("::ffff:192.0.2.10", 7000));
    let ask = tcp("::ffff:192.0.2.11", 7000);
    world.refuses(
        &mut prober,
        "box",
        &ask,
        &Denial::tcp("address_not_listed", Address::B, 7000),
    );
    // A rule for all of IPv6 does not hold IPv4 by another name.
    let six = direct(&group(
        "six",
        "{ cidr: \"::/0\", port: 7000 }",
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("six", &six);
    let ask = tcp("::ffff:192.0.2.10", 7000);
    world.refuses(
        &mut prober,
        "six",
        &ask,
        &Denial::tcp("address_not_listed", Address::A, 7000),
    );
}

#[test]
fn datagrams_are_judged_one_by_one() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    for how in ["udp_sendto", "udp_sendmsg", "udp_connect"] {
        let activity = if how == "udp_connect" {
            "connect"
        } else {
            "sendmsg"
        };
        let ask = |addr: &str| json!({ "do": how, "addr": addr, "port": UDP_ECHO });
        world.allows(&mut prober, &ask(Address::A));
        let want = Denial {
            activity,
            ..Denial::sendmsg("address_not_listed", Address::B, UDP_ECHO)
        };
        world.refuses(&mut prober, "box", &ask(Address::B), &want);
        world.allows(&mut prober, &with(ask("::ffff:192.0.2.10"), "family", 6));
        let mapped = with(ask("::ffff:192.0.2.11"), "family", 6);
        world.refuses(&mut prober, "box", &mapped, &want);
        // The IPv4 address in an IPv4 sockaddr, on an IPv6 socket.
        world.allows(&mut prober, &with(ask(Address::A), "v4_on_v6", true));
        world.refuses(
            &mut prober,
            "box",
            &with(ask(Address::B), "v4_on_v6", true),
            &want,
        );
    }
}

#[test]
fn second_datagram_of_one_call_is_judged_too() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    let ask =
        json!({ "do": "udp_sendmmsg", "first": Address::A, "addr": Address::B, "port": UDP_ECHO });
    let answer = prober.ask(&ask);
    if answer["name"]
        .as_str()
        .is_some_and(|name| name.contains("ImportError") || name.contains("ModuleNotFound"))
    {
        eprintln!("SKIPPED: this Python has no ctypes, so it cannot call sendmmsg(2)");
        return;
    }
    // The first went out; the kernel keeps the second's error to itself.
    assert_eq!(answer["ok"], 1, "{answer}");
    assert!(world.internet.contacts_at(Address::B, UDP_ECHO).is_empty());
    let denials = world.denials("box", 0);
    let [denial] = denials.as_slice() else {
        panic!("one denial: {denials:?}")
    };
    assert_eq!(denial["dst_ip"], Address::B);
}

#[test]
fn unspecified_address_is_judged_as_loopback() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    for (address, as_ip) in [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("::ffff:0.0.0.0", "127.0.0.1"),
    ] {
        let ask = tcp(address, 7000);
        world.refuses(
            &mut prober,
            "box",
            &ask,
            &Denial::tcp("address_not_listed", as_ip, 7000),
        );
    }
    let mut prober = world.prober("wide", &wide());
    // Allowed by the rule, and nobody listens there.
    for address in ["0.0.0.0", "::"] {
        assert_eq!(
            prober.ask(&tcp(address, 7000))["name"],
            "ECONNREFUSED",
            "{address}"
        );
    }
}

const MAPPED_HOST: &str = "::ffff:192.0.2.1";

/// Port 7000 of these hosts, for Python.
fn at(hosts: &[&str]) -> String {
    let endpoints = hosts.iter().flat_map(|host| {
        ["tcp", "udp"]
            .map(|protocol| format!("{{ host: {host}, port: 7000, protocol: {protocol} }}"))
    });
    let endpoints: Vec<_> = endpoints.collect();
    direct(&group("g", &endpoints.join(", "), PYTHON_ENTRY))
}

/// An attempt with a socket that is bound to an address or a device.
fn spelled(how: &str, address: &str, (to, place): (&str, &str)) -> Value {
    with(
        json!({ "do": how, "addr": address, "port": 7000 }),
        to,
        place,
    )
}

#[test]
fn unspecified_address_of_a_bound_socket_is_refused_as_what_the_kernel_makes_of_it() {
    let world = World::start();
    // Where loopback is listed, a wrong guess would be allowed, and nothing would come of it.
    let mut prober = world.prober("box", &at(&["127.0.0.1", "::1"]));
    for (address, place, judged) in [
        ("0.0.0.0", ("bind", Address::HOST_V4), Address::HOST_V4),
        ("0.0.0.0", ("device", "up0"), "0.0.0.0"),
        ("::ffff:0.0.0.0", ("bind", MAPPED_HOST), Address::HOST_V4),
        ("::ffff:0.0.0.0", ("device", "up0"), "0.0.0.0"),
    ] {
        let want = Denial::tcp("address_not_listed", judged, 7000);
        let ask = spelled("tcp", address, place);
        world.refuses(&mut prober, "box", &ask, &want);
        let want = Denial {
            protocol: "udp",
            ..want
        };
        let ask = spelled("udp_connect", address, place);
        world.refuses(&mut prober, "box", &ask, &want);
        let want = Denial::sendmsg("address_not_listed", judged, 7000);
        let ask = spelled("udp_sendto", address, place);
        world.refuses(&mut prober, "box", &ask, &want);
    }
    // IPv4's loopback, by a socket that only looks like one of IPv6.
    let mut prober = world.prober("six", &at(&["::1"]));
    let want = Denial::tcp("address_not_listed", "127.0.0.1", 7000);
    let ask = spelled("tcp", "::", ("bind", MAPPED_HOST));
    world.refuses(&mut prober, "six", &ask, &want);
}

#[test]
fn unspecified_address_of_a_bound_socket_reaches_what_is_listed() {
    let world = World::start();
    let [host, loopback] = world.internet.host().run(|| {
        let at = |host: &str| TcpListener::bind((host, 7000)).expect("free");
        [at(Address::HOST_V4), at("127.0.0.1")]
    });
    for (listed, address, place, server) in [
        (
            Address::HOST_V4,
            "0.0.0.0",
            ("bind", Address::HOST_V4),
            &host,
        ),
        (
            Address::HOST_V4,
            "::ffff:0.0.0.0",
            ("bind", MAPPED_HOST),
            &host,
        ),
        ("127.0.0.1", "::", ("bind", MAPPED_HOST), &loopback),
        ("127.0.0.1", "0.0.0.0", ("bind", "127.0.0.1"), &loopback),
        ("127.0.0.1", "0.0.0.0", ("device", "lo"), &loopback),
    ] {
        let mut prober = world.prober("box", &at(&[listed]));
        let ask = with(spelled("tcp", address, place), "talk", false);
        let answer = prober.ask(&ask);
        assert_eq!(answer["ok"], "connected", "{ask}: {answer}");
        server.accept().expect("a connection");
        prober.end().expect("its end");
    }
}

#[test]
fn loopback_is_free_in_a_network_of_its_own() {
    let world = World::start();
    let mut prober = world.prober("box", closed());
    for (addr, to) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("127.0.0.1", "0.0.0.0"),
        ("::1", "::"),
    ] {
        let answer = prober.ask(&json!({ "do": "listen", "addr": addr, "to": to }));
        assert_eq!(answer["ok"], "ping", "{to}: {answer}");
    }
    let want = Denial::tcp("address_not_listed", Address::A, 7000);
    world.refuses(&mut prober, "box", &tcp(Address::A, 7000), &want);
}

#[test]
fn loopback_of_the_host_needs_a_rule() {
    let world = World::start();
    let servers = world.internet.host().run(|| {
        ["127.0.0.1:7000", "127.0.0.2:7000"].map(|at| TcpListener::bind(at).expect("free"))
    });
    for server in &servers {
        server.set_nonblocking(true).expect("an ordinary socket");
    }
    let nobody_came = |server: &TcpListener| {
        let error = server.accept().expect_err("nobody may come");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    };
    let mut prober = world.prober("closed", &one());
    let before = world.denials("closed", 0).len();
    let answer = prober.ask(&tcp("127.0.0.1", 7000));
    assert_eq!(answer["name"], "EPERM", "{answer}");
    assert_eq!(world.denials("closed", 0).len(), before + 1);
    servers.iter().for_each(nobody_came);
    let policy = direct(&group(
        "loopback",
        "{ host: 127.0.0.1, port: 7000 }",
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("open", &policy);
    let silent = json!({ "do": "tcp", "addr": "127.0.0.1", "port": 7000, "talk": false });
    assert_eq!(prober.ask(&silent)["ok"], "connected");
    let [first, second] = &servers;
    eventually("the listed server is reached", || first.accept().is_ok());
    assert_eq!(prober.ask(&tcp("127.0.0.2", 7000))["name"], "EPERM");
    nobody_came(second);
}

#[test]
fn loopback_server_of_the_same_sandbox_needs_none() {
    let world = World::start();
    let mut prober = world.prober("box", &one());
    for (addr, to) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("127.0.0.1", "0.0.0.0"),
        ("0.0.0.0", "127.0.0.9"),
    ] {
        let answer = prober.ask(&json!({ "do": "listen", "addr": addr, "to": to }));
        assert_eq!(answer["ok"], "ping", "{to}: {answer}");
    }
    // Another sandbox's is another's.
    let mut other = world.prober("other", &one());
    let port = prober.ask(&json!({ "do": "serve", "addr": "127.0.0.1" }))["ok"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .expect("a port");
    world.refuses(
        &mut other,
        "other",
        &tcp("127.0.0.1", port),
        &Denial::tcp("address_not_listed", "127.0.0.1", port),
    );
    assert_eq!(prober.ask(&tcp("127.0.0.1", port))["ok"], "ping");
}

#[test]
fn embedded_ipv4_is_refused_whatever_is_listed() {
    let world = World::start();
    let mut prober = world.prober("box", &wide());
    // The rule is as wide as it can be, and the test's internet has the addresses.
    world.allows(&mut prober, &tcp(Address::C6, 7000));
    for address in Address::EMBEDDED
        .iter()
        .chain(&["::192.0.2.10", "::ffff:0:192.0.2.10"])
    {
        let want = Denial::tcp("embedded_address", address, 7000);
        world.refuses(&mut prober, "box", &tcp(address, 7000), &want);
    }
}

#[test]
fn embedded_ipv4_could_be_reached_without_clawd() {
    let world = World::start();
    for address in Address::EMBEDDED {
        let at = std::net::SocketAddr::new(address.parse().unwrap(), 7000);
        let reached = world
            .internet
            .host()
            .run(move || std::net::TcpStream::connect(at).map(drop));
        assert!(reached.is_ok(), "{address}: {reached:?}");
    }
}

#[test]
fn n21_group_addresses_are_refused_whatever_is_listed() {
    let world = World::start();
    let mut prober = world.prober("box", &wide());
    for (address, reason) in [
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("ff02::1", "multicast"),
        ("ff0e::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("fe80::1", "link_local_without_scope"),
    ] {
        let ask = json!({ "do": "udp_sendto", "addr": address, "port": UDP_ECHO });
        world.refuses(
            &mut prober,
            "box",
            &ask,
            &Denial::sendmsg(reason, address, UDP_ECHO),
        );
        let ask = tcp(address, 7000);
        world.refuses(
            &mut prober,
            "box",
            &ask,
            &Denial::tcp(reason, address, 7000),
        );
    }
}

/// All hosts of the internet, and the groups that each is in.
const EVERYBODY: [(&str, &str); 3] = [
    ("224.0.0.1", "multicast"),
    ("ff02::1", "multicast"),
    ("255.255.255.255", "broadcast"),
];

/// A datagram to them, as the host may send it.
const HOST_SAYS: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
talk = socket.socket(family, socket.SOCK_DGRAM)
talk.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
talk.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'up0')
talk.sendto(b'host', (sys.argv[1], int(sys.argv[2])))
";

#[test]
fn n21_members_of_a_group_hear_nothing_of_a_sandbox() {
    /// By IPv6 at the next: a socket of both families hears no IPv4 group that it did not join.
    const PORT: u16 = 7900;
    let world = World::start();
    let member = |any: &'static str, port: u16| {
        world.internet.outside().run(move || {
            let member = UdpSocket::bind((any, port)).expect("free");
            member.set_read_timeout(Some(DEADLINE)).expect("a time");
            member
        })
    };
    let members = [member("0.0.0.0", PORT), member("::", PORT + 1)];
    let all = |prefix: &str| {
        let ports = format!("[{PORT}-{}]", PORT + 1);
        format!("{{ cidr: \"{prefix}\", ports: {ports}, protocol: udp }}")
    };
    let endpoints = ["0.0.0.0/0", "::/0"].map(all).join(", ");
    let mut prober = world.prober("box", &direct(&group("g", &endpoints, PYTHON_ENTRY)));
    for (address, reason) in EVERYBODY {
        let is_v6 = address.contains(':');
        let port = PORT + u16::from(is_v6);
        let ask = json!({
            "do": "udp_sendto", "addr": address, "port": port, "device": "up0", "broadcast": true
        });
        let want = Denial::sendmsg(reason, address, port);
        world.refuses(&mut prober, "box", &ask, &want);
        let mut command = Command::new(PYTHON);
        command.args(["-I", "-c", HOST_SAYS, address, &port.to_string()]);
        let output = world.internet.host().output(command).expect("Python");
        assert!(output.status.success(), "{output:?}");
        // What the sandbox had sent would come first.
        let mut heard = [0; 9];
        let length = hear(&members[usize::from(is_v6)], &mut heard);
        let length = length.unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!(&heard[..length], b"host", "{address}");
    }
}
