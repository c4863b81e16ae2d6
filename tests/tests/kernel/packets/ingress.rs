//! Who may come in: nobody whom `ingress` does not list, and whoever was asked.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use clawd_tests::{Address, PYTHON};
use serde_json::json;

use super::{NEVER, dropped, push, python, reaching};
use crate::support::{DEADLINE, World, check_whose, eventually};

#[test]
fn connection_from_outside_needs_an_ingress_entry() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[], ""));
    let port = prober.ask(&json!({ "do": "serve", "addr": "0.0.0.0" }))["ok"].clone();
    let port = u16::try_from(port.as_u64().expect("a port")).expect("a port");
    let at = SocketAddr::new(Address::HOST_V4.parse().expect("an address"), port);
    let visit = move || {
        TcpStream::connect_timeout(&at, NEVER).and_then(|mut talk| {
            talk.write_all(b"ping")?;
            let mut heard = [0; 4];
            talk.read_exact(&mut heard).map(|()| heard)
        })
    };
    let error = world
        .internet
        .outside()
        .run(visit)
        .expect_err("nobody may come");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    eventually("the denial is in the log", || {
        dropped(&world, "box", "receive")
            .iter()
            .any(|(reason, ip, record)| {
                reason == "ingress_not_listed"
                    && ip == Address::A
                    && record["local_port"] == port
                    && record["exe"]
                        .as_str()
                        .is_some_and(|exe| exe.contains("python3"))
            })
    });
    // From the same host, too.
    let error = world
        .internet
        .host()
        .run(visit)
        .expect_err("nobody may come");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");

    push(
        &world,
        "box",
        &reaching(&[], &format!("ingress: [{{ port: {port} }}]\n")),
    );
    assert_eq!(
        world.internet.outside().run(visit).expect("listed"),
        *b"ping"
    );
    assert_eq!(world.internet.host().run(visit).expect("listed"), *b"ping");
    eventually("what came in is in the log", || {
        world.daemon.audit().iter().any(|record| {
            record["activity"] == "receive"
                && record["action"] == "allowed"
                && record["reason"] == "ingress_rule"
                && record["local_port"] == port
        })
    });

    let narrow = format!("ingress: [{{ port: {port}, host: {} }}]\n", Address::B);
    push(&world, "box", &reaching(&[], &narrow));
    let error = world
        .internet
        .outside()
        .run(visit)
        .expect_err("not from there");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

/// What comes of a visit from outside to a port of the host's, and where it came from.
fn visit(world: &World, host: &str, port: u16, timeout: Duration) -> (IpAddr, io::Result<[u8; 4]>) {
    let at = SocketAddr::new(host.parse().expect("an address"), port);
    world.internet.outside().run(move || {
        // The kernel takes the same address for both, and this sends nothing.
        let any = if at.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let route = UdpSocket::bind(any);
        let route = route.and_then(|route| route.connect(at).and_then(|()| route.local_addr()));
        let heard = TcpStream::connect_timeout(&at, timeout).and_then(|mut talk| {
            talk.set_read_timeout(Some(timeout))?;
            talk.write_all(b"ping")?;
            let mut heard = [0; 4];
            talk.read_exact(&mut heard).map(|()| heard)
        });
        (route.expect("a route").ip(), heard)
    })
}

#[test]
fn n13_listener_that_was_never_bound_is_reached_by_nobody_outside() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[], ""));
    let pid = world.pid_of("box", &mut prober);
    let mut serve = |family: u8| {
        let port = prober.ask(&json!({ "do": "serve", "family": family }))["ok"].clone();
        u16::try_from(port.as_u64().expect("a port")).expect("a port")
    };
    let [four, six] = [4, 6].map(&mut serve);
    // The last one listens for both families.
    let places = [
        (Address::HOST_V4, four),
        (Address::HOST_V6, six),
        (Address::HOST_V4, six),
    ];
    for (host, port) in places {
        let (from, heard) = visit(&world, host, port, NEVER);
        let error = heard.expect_err("nobody may come");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{host} {port}: {error}");
        eventually("the denial is in the log", || {
            let denials = dropped(&world, "box", "receive");
            let of_visit = denials
                .iter()
                .filter(|(_, ip, record)| *ip == from.to_string() && record["local_port"] == port);
            let of_visit: Vec<_> = of_visit.collect();
            for (reason, _, record) in &of_visit {
                assert_eq!(reason, "ingress_not_listed", "{record}");
                assert_eq!(record["protocol"], "tcp", "{record}");
                check_whose(record, pid, PYTHON);
            }
            !of_visit.is_empty()
        });
    }
    // It was the policy: who is listed comes in.
    let entries = [four, six].map(|port| format!("{{ port: {port} }}"));
    let listed = format!("ingress: [{}]\n", entries.join(", "));
    push(&world, "box", &reaching(&[], &listed));
    for (host, port) in places {
        let (_, heard) = visit(&world, host, port, DEADLINE);
        assert_eq!(heard.expect("listed"), *b"ping", "{host} {port}");
    }
}

/// A UDP echo server of the sandbox's, which answers with the same socket.
const UDP_SERVER: &str = "
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('0.0.0.0', 7777))
print('1', flush=True)
while True:
    heard, peer = server.recvfrom(64)
    try:
        server.sendto(heard, peer)
    except OSError:
        pass
";

#[test]
fn datagram_from_outside_needs_an_ingress_entry_and_may_then_be_answered() {
    let world = World::start();
    let policy = reaching(&[], "");
    let argv = ["/usr/bin/python3", "-I", "-c", UDP_SERVER];
    let mut command = world.daemon.run_command(&policy, Some("box"), &argv);
    let mut server = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("clawctl");
    let mut ready = [0];
    let out = server.stdout.as_mut().expect("piped");
    out.read_exact(&mut ready).expect("it says that it listens");
    let ask = || {
        world.internet.outside().run(|| {
            let talk = UdpSocket::bind("192.0.2.10:0")?;
            talk.set_read_timeout(Some(NEVER))?;
            talk.send_to(b"ping", "192.0.2.1:7777")?;
            let mut heard = [0; 4];
            talk.recv(&mut heard).map(|_| heard)
        })
    };
    let error = ask().expect_err("nobody may ask");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    eventually("the denial is in the log", || {
        dropped(&world, "box", "receive")
            .iter()
            .any(|(reason, ..)| reason == "ingress_not_listed")
    });
    push(
        &world,
        "box",
        &reaching(&[], "ingress: [{ port: 7777, protocol: udp }]\n"),
    );
    assert_eq!(ask().expect("it may ask now"), *b"ping");
    assert_eq!(
        world
            .denials("box", 0)
            .iter()
            .filter(|record| record["activity"] == "sendmsg")
            .count(),
        0
    );
    drop(server.kill().and_then(|()| server.wait()));
}

#[test]
fn one_datagram_socket_hears_from_all_that_it_asked_and_from_nobody_else() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A, Address::C, Address::D], ""));
    let heard = python(
        &mut prober,
        &format!(
            "
import json, socket
talk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
talk.settimeout(5)
for peer in ({:?}, {:?}, {:?}):
    talk.sendto(b'ping', (peer, 7000))
print(json.dumps(sorted(talk.recvfrom(64)[1][0] for _ in range(3))))
",
            Address::A,
            Address::C,
            Address::D
        ),
    );
    assert_eq!(heard, json!([Address::A, Address::C, Address::D]));
    let mut prober = world.prober("other", &reaching(&[Address::A], ""));
    let port = prober.ask(&json!({
        "do": "open_flow", "name": "talk", "kind": "dgram", "addr": Address::A, "port": 7000
    }));
    assert_eq!(port["ok"], "ping", "{port}");
}
