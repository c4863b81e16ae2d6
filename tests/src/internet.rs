//! An internet of documentation addresses, in network namespaces of its own.

mod nginx;
mod servers;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;

use crate::{leftovers::sweep_once, namespace::Namespace, scratch::Scratch};
use nginx::Nginx;
use servers::{TcpEcho, UdpEcho};

/// Port of the TCP echo server, on every address; one more is at the next port.
pub const TCP_ECHO: u16 = 7000;
/// Port of the UDP echo servers, on every address of [`Address::ALL`].
pub const UDP_ECHO: u16 = 7000;

/// Addresses of the test internet.
#[derive(Debug)]
pub struct Address;

impl Address {
    /// The host's own, on the link to the internet.
    pub const HOST_V4: &str = "192.0.2.1";
    /// As [`Address::HOST_V4`].
    pub const HOST_V6: &str = "2001:db8::1";
    /// A server.
    pub const A: &str = "192.0.2.10";
    /// Another server, beside the first.
    pub const B: &str = "192.0.2.11";
    /// A server in another network.
    pub const C: &str = "198.51.100.10";
    /// A server in a third network.
    pub const D: &str = "203.0.113.10";
    /// The first server by IPv6.
    pub const A6: &str = "2001:db8::10";
    /// The second by IPv6.
    pub const B6: &str = "2001:db8::11";
    /// A server in another IPv6 network.
    pub const C6: &str = "2001:db8:1::10";

    /// All servers' addresses.
    pub const ALL: [&str; 7] = [
        Self::A,
        Self::B,
        Self::C,
        Self::D,
        Self::A6,
        Self::B6,
        Self::C6,
    ];

    /// Forms with an IPv4 address inside, which the internet has too: if clawd let a connect to them
    /// through, it would succeed. NAT64, 6to4, Teredo, ISATAP.
    pub const EMBEDDED: [&str; 5] = [
        "64:ff9b::c000:20a",
        "64:ff9b:1::c000:20a",
        "2002:c000:20a::1",
        "2001:0:c000:20a::1",
        "2001:db8::200:5efe:c000:20a",
    ];
}

/// Something that a server saw: a TCP connection, a datagram, or an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// `tcp`, `udp` or `http`.
    pub kind: &'static str,
    /// The server's side; of datagrams and requests the address and port it listens on.
    pub local: SocketAddr,
    /// The other side.
    pub peer: SocketAddr,
}

/// What has arrived from the host, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// TCP segments, of both IP versions.
    pub tcp_segments: u64,
    /// UDP datagrams, of both, whether or not somebody listened.
    pub datagrams: u64,
}

/// Contacts in the order in which they came.
pub(crate) type Log = Arc<Mutex<Vec<Contact>>>;

pub(crate) fn note(log: &Log, contact: Contact) {
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(contact);
}

/// Two network namespaces, joined by a pair of interfaces: the host's, in which a daemon and so its
/// sandboxes run, and the internet's, with servers.
///
/// At every address of [`Address::ALL`]: nginx on ports 80, 443 (plain HTTP too) and 8080 with
/// `/small` and `/large`, TCP echo on 7000 and 7001, UDP echo on 7000. Dropping it ends all of it.
#[derive(Debug)]
pub struct Internet {
    log: Log,
    nginx: Nginx,
    servers: Mutex<Vec<TcpEcho>>,
    _datagrams: Vec<UdpEcho>,
    _scratch: Scratch,
    host: Arc<Namespace>,
    internet: Namespace,
}

impl Internet {
    /// Makes it and starts its servers; they listen when this returns.
    ///
    /// # Errors
    /// The kernel refuses something, or nginx is not installed.
    pub fn start() -> anyhow::Result<Self> {
        sweep_once();
        let host = Namespace::new()?;
        let internet = Namespace::new()?;
        join(&host, &internet)?;
        let scratch = Scratch::new()?;
        let log = Log::default();
        let nginx = Nginx::start(&internet, &scratch)?;
        let mut datagrams = Vec::new();
        for address in Address::ALL {
            let at = SocketAddr::new(address.parse()?, UDP_ECHO);
            datagrams.push(UdpEcho::start(&internet, at, &log)?);
        }
        let started = Self {
            log,
            nginx,
            servers: Mutex::default(),
            _datagrams: datagrams,
            _scratch: scratch,
            host: Arc::new(host),
            internet,
        };
        started.listen(TCP_ECHO)?;
        started.listen(TCP_ECHO + 1)?;
        Ok(started)
    }

    /// Starts one more TCP echo server at `port` of every address.
    ///
    /// # Errors
    /// The port is taken.
    pub fn listen(&self, port: u16) -> anyhow::Result<()> {
        let server = TcpEcho::start(&self.internet, port, &self.log)?;
        self.servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(server);
        Ok(())
    }

    /// The host's namespace.
    #[must_use]
    pub fn host(&self) -> &Arc<Namespace> {
        &self.host
    }

    /// The internet's namespace.
    #[must_use]
    pub fn outside(&self) -> &Namespace {
        &self.internet
    }

    /// Everything that the servers saw so far.
    #[must_use]
    pub fn contacts(&self) -> Vec<Contact> {
        let mut contacts = self
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        contacts.extend(self.nginx.requests());
        contacts
    }

    /// The contacts at this address and port.
    ///
    /// # Panics
    /// If the address is none.
    #[must_use]
    pub fn contacts_at(&self, address: &str, port: u16) -> Vec<Contact> {
        let at = SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port);
        self.contacts()
            .into_iter()
            .filter(|contact| contact.local == at)
            .collect()
    }

    /// What has arrived from the host, whether or not a server took it.
    ///
    /// # Errors
    /// The kernel's counters cannot be read.
    pub fn traffic(&self) -> anyhow::Result<Traffic> {
        let read = || {
            let v4 = fs::read_to_string("/proc/thread-self/net/snmp")?;
            let v6 = fs::read_to_string("/proc/thread-self/net/snmp6")?;
            Ok::<_, std::io::Error>((v4, v6))
        };
        let (v4, v6) = self
            .internet
            .run(read)
            .context("cannot read the counters")?;
        let v4 = |group: &str, name: &str| {
            counter_v4(&v4, group, name).with_context(|| format!("no counter {name}"))
        };
        let v6 = |name: &str| counter_v6(&v6, name).with_context(|| format!("no counter {name}"));
        Ok(Traffic {
            tcp_segments: v4("Tcp:", "InSegs")?,
            datagrams: v4("Udp:", "InDatagrams")?
                + v4("Udp:", "NoPorts")?
                + v6("Udp6InDatagrams")?
                + v6("Udp6NoPorts")?,
        })
    }
}

/// `/proc/net/snmp` has two lines a group: names, then numbers.
fn counter_v4(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter(|line| line.split(' ').next() == Some(group));
    let position = lines.next()?.split(' ').position(|word| word == name)?;
    lines.next()?.split(' ').nth(position)?.parse().ok()
}

fn counter_v6(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Joins the namespaces and gives out the addresses.
fn join(host: &Namespace, internet: &Namespace) -> anyhow::Result<()> {
    host.ip(&[format!(
        "link add up0 type veth peer name net0 netns {}",
        internet.path().display()
    )])?;
    let mut outside = vec!["link set net0 up".to_owned()];
    for address in Address::ALL {
        // On the link where the host has an address too, elsewhere behind it.
        let length = if address.starts_with("192.0.2.") {
            24
        } else if address.starts_with("2001:db8::") {
            64
        } else {
            32
        };
        let options = if address.contains(':') { " nodad" } else { "" };
        let length = if address == Address::C6 { 128 } else { length };
        outside.push(format!("addr add {address}/{length} dev net0{options}"));
    }
    for address in Address::EMBEDDED {
        outside.push(format!("addr add {address}/128 dev net0 nodad"));
    }
    internet.ip(&outside)?;
    host.ip(&[
        "link set up0 up",
        "addr add 192.0.2.1/24 dev up0",
        "addr add 2001:db8::1/64 dev up0 nodad",
        "route add default via 192.0.2.10",
        "-6 route add default via 2001:db8::10",
    ])
}
