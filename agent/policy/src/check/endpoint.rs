//! Judges one entry of `endpoints`.

use std::net::IpAddr;

use crate::{
    check::{network::missing, value::one_of},
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field},
    file::EndpointFile,
    limits::MAX_PORTS_PER_ENDPOINT,
    model::{Endpoint, Protocol},
    node::Scalar,
    prefix::{Prefix, PrefixError},
    problem::Problems,
};

/// Why a text names no addresses.
struct Refusal {
    kind: PolicyErrorKind,
    message: String,
    help: String,
}

/// Judges one endpoint; reports all of its mistakes.
pub(super) fn endpoint(entry: At<EndpointFile>, problems: &mut Problems) -> Option<Endpoint> {
    const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let At { at, value: file } = entry;
    let prefix = match (file.host, file.cidr) {
        (Field::Given(host), Field::Absent) => report(&host, host_prefix, problems),
        (Field::Absent, Field::Given(cidr)) => report(&cidr, cidr_prefix, problems),
        (Field::Absent, Field::Absent) => missing(
            at,
            "an endpoint needs `host` or `cidr`",
            "write host: 192.0.2.1, or cidr: 192.0.2.0/24",
            problems,
        ),
        (Field::Given(_), Field::Given(_)) => missing(
            at,
            "an endpoint has both `host` and `cidr`",
            "keep one, or make two endpoints of it",
            problems,
        ),
        _ => None, // reported where it was read
    };
    let ports = match (file.port, file.ports) {
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
    };
    let protocol = file
        .protocol
        .given()
        .map(|word| one_of(&word, "a protocol", PROTOCOLS, &["rest"], problems))
        .unwrap_or_default();
    Some(Endpoint {
        prefix: prefix?,
        protocol,
        ports: ports?,
    })
}

// === addresses ===

fn report(
    given: &At<Scalar>,
    parse: fn(&str) -> Result<Prefix, Refusal>,
    problems: &mut Problems,
) -> Option<Prefix> {
    let text = given.value.text.as_str();
    let reachable = parse(text).and_then(|prefix| match prefix.unreachable() {
        None => Ok(prefix),
        Some((why, help)) => Err(refusal(format!("{} {why}", quoted(text)), help)),
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

/// A literal address as a prefix of all its bits.
fn host_prefix(text: &str) -> Result<Prefix, Refusal> {
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
    Err(Refusal {
        kind: PolicyErrorKind::NotEnforced,
        message: format!(
            "host {} is a name, and names are not enforced by this version",
            quoted(text)
        ),
        help: "use an address, or `cidr` with a prefix".to_owned(),
    })
}

fn cidr_prefix(text: &str) -> Result<Prefix, Refusal> {
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

fn literal(ip: IpAddr, bits: u32) -> Result<Prefix, Refusal> {
    Prefix::new(ip, bits).map_err(|error| match error {
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

fn single_port(given: &At<Scalar>, problems: &mut Problems) -> Option<Vec<u16>> {
    let text = &given.value.text;
    let Some(port) = port_number(text) else {
        problems.value(
            given.at,
            format!("{} is not a port", quoted(text)),
            "write a decimal number from 1 to 65535; a range goes into `ports`",
        );
        return None;
    };
    Some(vec![port])
}

fn port_list(given: &At<Vec<At<Scalar>>>, problems: &mut Problems) -> Option<Vec<u16>> {
    if given.value.is_empty() {
        return missing(
            given.at,
            "`ports` has no entry",
            "list a port, such as [443]",
            problems,
        );
    }
    let mut ranges = Vec::new();
    let mut valid = true;
    for entry in &given.value {
        let text = &entry.value.text;
        let range = match text.split_once('-') {
            None => port_number(text).map(|port| (port, port)),
            Some((first, last)) => port_number(first.trim()).zip(port_number(last.trim())),
        };
        if let Some(range) = range.filter(|(first, last)| first <= last) {
            ranges.push(range);
            continue;
        }
        valid = false;
        problems.value(
            entry.at,
            format!("{} is not a port or a range of ports", quoted(text)),
            "write numbers from 1 to 65535, a range as first-last, such as 9000-9010",
        );
    }
    let ports = write_out(ranges);
    if ports.len() > MAX_PORTS_PER_ENDPOINT {
        problems.error(
            given.at,
            PolicyErrorKind::Limit,
            format!("an endpoint has more than {MAX_PORTS_PER_ENDPOINT} ports"),
            "list the ports that are needed",
        );
        return None;
    }
    valid.then_some(ports)
}

/// The ports of all ranges, ascending and each once; cut where there are too many of them.
fn write_out(mut ranges: Vec<(u16, u16)>) -> Vec<u16> {
    // Sorted first, so that each port is visited once however the ranges overlap.
    ranges.sort_unstable();
    let mut ports: Vec<u16> = Vec::new();
    for (first, last) in ranges {
        let from = ports
            .last()
            .map_or(first, |port| first.max(port.saturating_add(1)));
        let room = (MAX_PORTS_PER_ENDPOINT + 1).saturating_sub(ports.len());
        ports.extend((from..=last).take(room));
    }
    ports.dedup(); // 65535 has no successor
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::write_out;

    proptest! {
        #[test]
        fn write_out_is_the_union_of_the_ranges(
            ranges in prop::collection::vec((1..=u16::MAX, 0..30_u16), 0..12),
            edge in any::<bool>(),
        ) {
            let mut ranges: Vec<(u16, u16)> = ranges
                .into_iter()
                .map(|(first, more)| (first, first.saturating_add(more)))
                .collect();
            if edge {
                ranges.extend([(u16::MAX - 2, u16::MAX), (u16::MAX, u16::MAX), (u16::MAX - 1, u16::MAX)]);
            }
            let want: BTreeSet<u16> =
                ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(write_out(ranges), Vec::from_iter(want));
        }
    }
}
