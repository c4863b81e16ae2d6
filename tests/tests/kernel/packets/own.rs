//! A sandbox's own servers on loopback lend nothing to those of the host at the same place.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    thread,
};

use rustix::{
    fs::{Uid, fchown},
    io::ioctl_fionbio,
    net::{
        AddressFamily, RecvFlags, SocketType, accept, bind, listen, recv, socket,
        sockopt::{set_socket_reuseaddr, set_socket_reuseport},
    },
};
use serde_json::json;

use super::{NEVER, python, reaching};
use crate::support::{World, hear};

/// A listener of the host that shares its port with others of its user.
fn sharing(world: &World, port: u16, kind: SocketType) -> OwnedFd {
    world.internet.host().run(move || {
        let made = socket(AddressFamily::INET, kind, None).expect("a socket");
        fchown(&made, Some(Uid::from_raw(65534)), None).expect("given away");
        set_socket_reuseport(&made, true).expect("an option");
        bind(&made, &SocketAddr::from(([127, 0, 0, 1], port))).expect("free");
        if kind == SocketType::STREAM {
            listen(&made, 100).expect("listens");
        }
        ioctl_fionbio(&made, true).expect("an option");
        made
    })
}

/// A service of the host, at a port that it shares as those of mDNS do.
fn service(world: &World, at: &'static str) -> UdpSocket {
    world.internet.host().run(move || {
        let made = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
        set_socket_reuseaddr(&made, true).expect("an option");
        let at: SocketAddr = at.parse().expect("an address");
        bind(&made, &at).expect("free");
        let service = UdpSocket::from(made);
        service.set_read_timeout(Some(NEVER)).expect("a time");
        service
    })
}

fn heard(service: &UdpSocket) -> Vec<u8> {
    let mut heard = [0; 16];
    match hear(service, &mut heard) {
        Ok(length) => heard[..length].to_vec(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            Vec::new()
        }
    }
}

/// What every script begins with: a datagram socket of the sandbox's own, where the host has one.
const OWN: &str = "
import json, socket
def made(at=None):
    new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    new.settimeout(5)
    if at:
        new.bind(at)
    return new
def tell(do):
    try:
        print(json.dumps(do()))
    except OSError as error:
        print(json.dumps(error.errno))
";

#[test]
fn service_of_the_host_gets_nothing_that_was_meant_for_an_own_one() {
    let world = World::start();
    let service = service(&world, "0.0.0.0:7801");
    let mut prober = world.prober("box", &reaching(&[], ""));
    let connected = "
own, talk = made(('127.0.0.1', 7801)), made()
talk.connect(('127.0.0.1', 7801))
talk.send(b'own')
assert own.recv(9) == b'own'
own.close()
tell(lambda: talk.send(b'out'))
";
    let answered = "
own, talk = made(('127.0.0.1', 7801)), made(('127.0.0.1', 0))
own.sendto(b'own', talk.getsockname())
assert talk.recvfrom(9) == (b'own', ('127.0.0.1', 7801))
own.close()
tell(lambda: talk.sendto(b'out', ('127.0.0.1', 7801)))
";
    let broadcast = "
own, talk = made(('127.255.255.255', 7801)), made()
tell(lambda: talk.sendto(b'out', ('127.255.255.255', 7801)))
";
    for (what, script) in [
        ("connected", connected),
        ("answered", answered),
        ("broadcast", broadcast),
    ] {
        let errno = python(&mut prober, &format!("{OWN}{script}"));
        assert_eq!(errno, 1, "{what}");
        assert_eq!(heard(&service), b"", "{what}");
    }
}

/// Own servers at ports that the host shares, and clients of them: 1 is EPERM, 0 that something was sent.
const SHARING: &str = "
import ctypes, json, select, socket, struct
outcomes = set()
for port in range(7810, 7818):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        own = socket.socket(socket.AF_INET, kind)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(('127.0.0.1', port))
        if kind == socket.SOCK_STREAM:
            own.listen(100)
        for _ in range(10):
            talk = socket.socket(socket.AF_INET, kind)
            talk.setblocking(False)
            try:
                talk.connect(('127.0.0.1', port))
                talk.send(b'out')
                outcomes.add(0)
            except BlockingIOError:
                select.select([], [talk], [], 0.01)
            except OSError as error:
                outcomes.add(error.errno)
# A program that always chooses the first, which is the host's.
program = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0), 8)
choice = struct.pack('HxxxxxxP', 1, ctypes.addressof(program))
for option in (51, 52):
    try:
        own.setsockopt(socket.SOL_SOCKET, option, choice)
        outcomes.add('chosen')
    except OSError as error:
        outcomes.add(error.errno)
print(json.dumps(sorted(outcomes)))
";

#[test]
fn port_that_is_shared_with_the_host_lends_nothing() {
    let world = World::start();
    let shared = |kind| -> Vec<_> {
        let ports = 7810..7818;
        ports.map(|port| sharing(&world, port, kind)).collect()
    };
    let (tcp, udp) = (shared(SocketType::STREAM), shared(SocketType::DGRAM));
    let mut prober = world.prober("box", &reaching(&[], ""));
    let outcomes = python(&mut prober, SHARING);
    // Whom the kernel chooses is by chance: all clients may have met EPERM.
    assert!(
        [json!([0, 1]), json!([1])].contains(&outcomes),
        "{outcomes}"
    );
    thread::sleep(NEVER);
    for server in &tcp {
        assert!(accept(server).is_err(), "the host was reached");
    }
    for server in &udp {
        let got = recv(server, &mut [0_u8; 9][..], RecvFlags::empty());
        assert!(got.is_err(), "the host was reached");
    }
}
