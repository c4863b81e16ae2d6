//! Judges one entry of `endpoints`.

use std::net::IpAddr;

use crate::{
    check::{network::missing, value::one_of},
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field},
    file::EndpointFile,
    host::HostPattern,
    limits::MAX_PORTS_PER_ENDPOINT,
    model::{Endpoint, NamedEndpoint, Protocol},
    node::Scalar,
    ports::{PortRange, PortSet},
    prefix::{Prefix, PrefixError},
    problem::{Position, Problems},
};

/// What an endpoint means.
pub(super) enum Destination {
    Address(Endpoint),
    Name(NamedEndpoint),
}

/// What `host` and `cidr` say.
#[derive(Clone)]
enum Host {
    Prefix(Prefix),
    Name(HostPattern),
}

/// Why a text names no addresses.
struct Refusal {
    kind: PolicyErrorKind,
    message: String,
    help: String,
}

/// What an endpoint means that leaves keys out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Omissions {
    /// What allows says all of it; without `protocol`, TCP.
    AreMistakes,
    /// Without addresses it means all; else as above.
    OfAddressesMeanAll,
    /// What denies is not narrowed by what it does not say: all addresses, all ports, both protocols.
    MeanAll,
}

/// Judges one endpoint; reports all of its mistakes. It is one for each protocol and family that it
/// means.
pub(super) fn endpoint(
    entry: At<EndpointFile>,
    omissions: Omissions,
    problems: &mut Problems,
) -> Vec<Destination> {
    let At { at, value: file } = entry;
    let all_left_out = matches!(
        file,
        EndpointFile {
            host: Field::Absent,
            cidr: Field::Absent,
            port: Field::Absent,
            ports: Field::Absent,
            protocol: Field::Absent,
        }
    );
    if omissions == Omissions::MeanAll && all_left_out {
        return Vec::from_iter(missing(
            at,
            "an endpoint says nothing of what is denied",
            "write cidr: 192.0.2.0/24, port: 25, or protocol: udp; for all there is, write \
             { cidr: 0.0.0.0/0 } and { cidr: \"::/0\" }",
            problems,
        ));
    }
    // Who connects to a sandbox has an address and no name.
    let takes_names = omissions != Omissions::OfAddressesMeanAll;
    let hosts = match (file.host, file.cidr) {
        (Field::Absent, Field::Absent) if omissions == Omissions::AreMistakes => {
            Vec::from_iter(missing(
                at,
                "an endpoint needs `host` or `cidr`",
                "write host: 192.0.2.1, or cidr: 192.0.2.0/24",
                problems,
            ))
        }
        (Field::Absent, Field::Absent) => Prefix::ALL.map(Host::Prefix).to_vec(),
        given => Vec::from_iter(host(at, given, takes_names, problems)),
    };
    let ports = match (file.port, file.ports) {
        (Field::Absent, Field::Absent) if omissions == Omissions::MeanAll => Some(PortSet::all()),
        given => ports(at, given, problems),
    };
    let protocols = match file.protocol {
        Field::Absent if omissions == Omissions::MeanAll => vec![Protocol::Tcp, Protocol::Udp],
        given => vec![protocol(given, problems)],
    };
    let Some(ports) = ports else {
        return Vec::new();
    };
    let pairs = hosts
        .iter()
        .flat_map(|host| protocols.iter().map(move |protocol| (host, *protocol)));
    let of = |(host, protocol): (&Host, Protocol)| {
        let ports = ports.clone();
        match host.clone() {
            Host::Prefix(prefix) => Destination::Address(Endpoint {
                prefix,
                protocol,
                ports,
            }),
            Host::Name(host) => Destination::Name(NamedEndpoint {
                host,
                protocol,
                ports,
            }),
        }
    };
    pairs.map(of).collect()
}

/// One of `host` and `cidr`.
fn host(
    at: Position,
    given: (Field<Scalar>, Field<Scalar>),
    takes_names: bool,
    problems: &mut Problems,
) -> Option<Host> {
    match given {
        (Field::Given(host), Field::Absent) => {
            let host_of = if takes_names {
                host_or_name
            } else {
                host_alone
            };
            let found = report(&host, host_of, problems);
            if let Some(Host::Name(_)) = found {
                let Refusal { message, help, .. } = a_name(&host.value.text);
                problems.not_enforced(host.at, message, help);
            }
            found
        }
        (Field::Absent, Field::Given(cidr)) => report(&cidr, cidr_prefix, problems),
        (Field::Given(_), Field::Given(_)) => missing(
            at,
            "an endpoint has both `host` and `cidr`",
            "keep one, or make two endpoints of it",
            problems,
        ),
        _ => None, // reported where it was read
    }
}

/// One of `port` and `ports`.
fn ports(
    at: Position,
    given: (Field<Scalar>, Field<Vec<At<Scalar>>>),
    problems: &mut Problems,
) -> Option<PortSet> {
    match given {
        (Field::Given(port), Field::Absent) => single_port(&port, problems),
        (Field::Absent, Field::Given(ports)) => port_list(&ports, problems),
        (Field::Absent, Field::Absent) => missing(
            at,
            "an endpoint needs `port` or `ports`",
            "write port: 443, or ports: [80, 443, 9000-9010]",
            problems,
        ),
        (Field::Given(_), Field::Given(_)) => missing(
            at,
            "an endpoint has both `port` and `ports`",
            "put all of them into `ports`",
            problems,
        ),
        _ => None,
    }
}

fn protocol(given: Field<Scalar>, problems: &mut Problems) -> Protocol {
    const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    given
        .given()
        .map(|word| one_of(&word, "a protocol", PROTOCOLS, &["rest"], problems))
        .unwrap_or_default()
}

// === addresses ===

fn report(
    given: &At<Scalar>,
    parse: fn(&str) -> Result<Host, Refusal>,
    problems: &mut Problems,
) -> Option<Host> {
    let text = given.value.text.as_str();
    let reachable = parse(text).and_then(|host| match &host {
        Host::Prefix(prefix) => match prefix.unreachable() {
            None => Ok(host),
            Some((why, help)) => Err(refusal(format!("{} {why}", quoted(text)), help)),
        },
        Host::Name(_) => Ok(host),
    });
    reachable
        .map_err(|refusal| {
            problems.error(given.at, refusal.kind, refusal.message, refusal.help);
        })
        .ok()
}

fn refusal(message: String, help: impl Into<String>) -> Refusal {
    Refusal {
        kind: PolicyErrorKind::Value,
        message,
        help: help.into(),
    }
}

/// A literal address as a prefix of all its bits, or names.
fn host_or_name(text: &str) -> Result<Host, Refusal> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return literal(ip, if ip.is_ipv4() { 32 } else { 128 });
    }
    let ip_like = text.contains(':') || text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if text.contains('/') {
        return Err(refusal(
            format!("host {} is not an address", quoted(text)),
            "a prefix goes into `cidr`; a URL is not read: write the address alone",
        ));
    }
    if ip_like || text.contains(['%', '[', ']']) || text.contains(char::is_whitespace) {
        return Err(refusal(
            format!("host {} is not an address", quoted(text)),
            "write four decimal numbers (192.0.2.1) or IPv6 without brackets and zone \
             (2001:db8::1); the port goes into `port`",
        ));
    }
    match HostPattern::parse(text) {
        Ok(pattern) => Ok(Host::Name(pattern)),
        Err(error) => Err(refusal(
            format!("host {} {error}", quoted(text)),
            error.help(),
        )),
    }
}

/// As [`host_or_name`] where no name can be meant.
fn host_alone(text: &str) -> Result<Host, Refusal> {
    match host_or_name(text)? {
        Host::Name(_) => Err(a_name(text)),
        host @ Host::Prefix(_) => Ok(host),
    }
}

/// What is said of a name.
fn a_name(text: &str) -> Refusal {
    Refusal {
        kind: PolicyErrorKind::NotEnforced,
        message: format!(
            "host {} is a name, and names are not enforced by this version",
            quoted(text)
        ),
        help: "use an address, or `cidr` with a prefix".to_owned(),
    }
}

fn cidr_prefix(text: &str) -> Result<Host, Refusal> {
    let malformed = || {
        refusal(
            format!("cidr {} is not a prefix", quoted(text)),
            "write address/length, such as 192.0.2.0/24 or 2001:db8::/32",
        )
    };
    let Some((address, length)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) => refusal(
                format!("cidr {} has no length", quoted(text)),
                format!("write `host: {ip}` for the one address"),
            ),
            Err(_) => malformed(),
        });
    };
    let ip: IpAddr = address.parse().ok().ok_or_else(malformed)?;
    literal(ip, decimal(length).ok_or_else(malformed)?)
}

fn literal(ip: IpAddr, bits: u32) -> Result<Host, Refusal> {
    let prefix = Prefix::new(ip, bits);
    prefix.map(Host::Prefix).map_err(|error| match error {
        PrefixError::TooLong { bits, max } => refusal(
            format!("prefix length {bits} is more than the {max} bits of the address"),
            format!("write a length from 0 to {max}"),
        ),
        PrefixError::HostBits { corrected } => refusal(
            format!("`{ip}/{bits}` has bits set behind its first {bits}"),
            format!("write {corrected} for the whole prefix, or `host: {ip}` for the one address"),
        ),
    })
}

/// A decimal number in its only spelling: no sign, no leading zeros.
fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    (digits && !leading_zero)
        .then(|| text.parse().ok())
        .flatten()
}

// === ports ===

/// A port from 1 on: 0 asks the kernel for any.
fn port_number(text: &str) -> Option<u16> {
    let port = u16::try_from(decimal(text)?).ok()?;
    (port != 0).then_some(port)
}

fn single_port(given: &At<Scalar>, problems: &mut Problems) -> Option<PortSet> {
    let text = &given.value.text;
    let Some(port) = port_number(text) else {
        problems.value(
            given.at,
            format!("{} is not a port", quoted(text)),
            "write a decimal number from 1 to 65535; a range goes into `ports`",
        );
        return None;
    };
    Some(PortSet::single(port))
}

fn port_list(given: &At<Vec<At<Scalar>>>, problems: &mut Problems) -> Option<PortSet> {
    if given.value.is_empty() {
        return missing(
            given.at,
            "`ports` has no entry",
            "list a port, such as [443]",
            problems,
        );
    }
    if given.value.len() > MAX_PORTS_PER_ENDPOINT {
        problems.error(
            given.at,
            PolicyErrorKind::Limit,
            format!(
                "`ports` has {} entries, the limit is {MAX_PORTS_PER_ENDPOINT}",
                given.value.len()
            ),
            "list ranges in place of ports",
        );
        return None;
    }
    let mut ranges = Vec::new();
    let mut valid = true;
    for entry in &given.value {
        let text = &entry.value.text;
        let range = match text.split_once('-') {
            None => port_number(text).map(|port| (port, port)),
            Some((first, last)) => port_number(first.trim()).zip(port_number(last.trim())),
        };
        if let Some((first, last)) = range.filter(|(first, last)| first <= last) {
            ranges.push(PortRange { first, last });
            continue;
        }
        valid = false;
        problems.value(
            entry.at,
            format!("{} is not a port or a range of ports", quoted(text)),
            "write numbers from 1 to 65535, a range as first-last, such as 9000-9010",
        );
    }
    valid.then(|| ranges.into_iter().collect())
}
