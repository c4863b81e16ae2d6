//! Servers that answer with what they were sent, and write down who was there.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use rustix::net::Shutdown;

use super::{Contact, Log, note};
use crate::namespace::Namespace;

/// How long a server of datagrams may need to see that it should end.
const TICK: Duration = Duration::from_millis(100);

/// A TCP server at one port of every address.
#[derive(Debug)]
pub(super) struct TcpEcho {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl TcpEcho {
    pub(super) fn start(place: &Namespace, port: u16, log: &Log) -> anyhow::Result<Self> {
        let listener = place
            .run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))
            .with_context(|| format!("cannot listen at TCP port {port}"))?;
        let (own, log) = (listener.try_clone()?, Arc::clone(log));
        let thread = thread::spawn(move || {
            while let Ok((stream, peer)) = own.accept() {
                if let Ok(local) = stream.local_addr() {
                    note(
                        &log,
                        Contact {
                            kind: "tcp",
                            local: canonical(local),
                            peer: canonical(peer),
                        },
                    );
                }
                thread::spawn(move || echo(stream));
            }
        });
        Ok(Self {
            listener,
            thread: Some(thread),
        })
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        let Some(received @ [_, ..]) = buffer.get(..length) else {
            return Ok(());
        };
        stream.write_all(received)?;
    }
}

/// Mapped IPv4 as IPv4: the servers listen for both with one socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        // Wakes the thread out of accept(2).
        if rustix::net::shutdown(&self.listener, Shutdown::Both).is_ok()
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a TCP server panicked");
        }
    }
}

/// A UDP server at one address: one at all of them would answer from another address than was asked.
#[derive(Debug)]
pub(super) struct UdpEcho {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    pub(super) fn start(place: &Namespace, at: SocketAddr, log: &Log) -> anyhow::Result<Self> {
        let socket = place
            .run(move || UdpSocket::bind(at))
            .with_context(|| format!("cannot listen at UDP {at}"))?;
        socket.set_read_timeout(Some(TICK))?;
        let (ends, log) = (Arc::new(AtomicBool::new(false)), Arc::clone(log));
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while !told.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                note(
                    &log,
                    Contact {
                        kind: "udp",
                        local: at,
                        peer,
                    },
                );
                // Whoever does not wait for the answer has lost it.
                drop(socket.send_to(buffer.get(..length).unwrap_or_default(), peer));
            }
        });
        Ok(Self {
            ends,
            thread: Some(thread),
        })
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a UDP server panicked");
        }
    }
}
