//! Which records a reader of the log wants.

use std::{fmt, net::IpAddr, str::FromStr};

use clawd_common::verdict::Reason;

use crate::{
    record::{AuditRecord, Digest, Outcome},
    time::Timestamp,
};

/// Bytes of a path (`PATH_MAX`, with its terminating zero).
const PATH_BYTES: usize = 4095;

/// Conditions on a record; what is `None` is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// It happened then or later.
    pub since: Option<Timestamp>,
    /// It happened then or before.
    pub until: Option<Timestamp>,
    /// The executable.
    pub binary: Option<Binary>,
    /// Where to.
    pub destination: Option<Destination>,
    /// Why.
    pub reason: Option<ReasonName>,
    /// What became of it.
    pub action: Option<Outcome>,
}

/// How an executable is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binary {
    /// By its whole path.
    Path(String),
    /// By the last part of its path.
    Name(String),
    /// By its content.
    Sha256(Digest),
}

/// Addresses with a common prefix, and a port where only one is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// In canonical form, with zeros after the prefix.
    ip: IpAddr,
    /// At most 32 or 128.
    prefix_bits: u8,
    port: Option<u16>,
}

/// A [`Reason`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonName(pub Reason);

/// A text that names no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No [`Binary`].
    #[error("not a program; expected an absolute path, a file name or a SHA-256")]
    Binary,
    /// No [`Destination`].
    #[error(
        "not a destination; expected the form 192.0.2.1, 192.0.2.0/24, 192.0.2.1:443, 2001:db8::1 or \
         [2001:db8::/32]:443"
    )]
    Destination,
    /// Bits after the prefix.
    #[error("not a prefix of {prefix_bits} bits; expected {ip}/{prefix_bits}")]
    HostBits {
        /// What has no such bits.
        ip: IpAddr,
        /// Its prefix.
        prefix_bits: u8,
    },
    /// No [`ReasonName`].
    #[error("not a reason; expected one of {}", reasons())]
    Reason,
}

// === impl Filter ===

impl Filter {
    /// Whether `record` meets every condition. A record that has no such field does not.
    #[must_use]
    pub fn wants(&self, record: &AuditRecord) -> bool {
        fn holds<T>(condition: Option<&T>, is_met: impl FnOnce(&T) -> bool) -> bool {
            condition.is_none_or(is_met)
        }
        holds(self.since.as_ref(), |since| record.time >= *since)
            && holds(self.until.as_ref(), |until| record.time <= *until)
            && holds(self.binary.as_ref(), |binary| binary.is_of(record))
            && holds(self.destination.as_ref(), |to| {
                (record.dst_ip).is_some_and(|ip| to.contains(ip, record.dst_port))
            })
            && holds(self.reason.as_ref(), |name| record.reason == Some(name.0))
            && holds(self.action.as_ref(), |action| {
                record.action == Some(*action)
            })
    }
}

// === impl Binary ===

impl Binary {
    fn is_of(&self, record: &AuditRecord) -> bool {
        let exe = record.exe.as_deref();
        match self {
            Self::Path(path) => exe == Some(path),
            Self::Name(name) => exe.and_then(|exe| exe.rsplit('/').next()) == Some(name),
            Self::Sha256(digest) => record.sha256 == Some(*digest),
        }
    }
}

impl FromStr for Binary {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() || text.len() > PATH_BYTES {
            return Err(FilterError::Binary);
        }
        if let Ok(digest) = text.parse() {
            return Ok(Self::Sha256(digest));
        }
        match (text.starts_with('/'), text.contains('/')) {
            (true, _) => Ok(Self::Path(text.to_owned())),
            (false, false) => Ok(Self::Name(text.to_owned())),
            (false, true) => Err(FilterError::Binary),
        }
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(text) | Self::Name(text) => f.write_str(text),
            Self::Sha256(digest) => digest.fmt(f),
        }
    }
}

// === impl Destination ===

impl Destination {
    fn contains(&self, ip: IpAddr, port: Option<u16>) -> bool {
        prefix(ip, self.prefix_bits) == Some(self.ip) && (self.port.is_none() || port == self.port)
    }
}

/// `ip` with zeros after its first `bits`; `None` where it has fewer.
fn prefix(ip: IpAddr, bits: u8) -> Option<IpAddr> {
    let bits = u32::from(bits);
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
            Some(IpAddr::V4((ip.to_bits() & mask).into()))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128_u32.checked_sub(bits)?)
                .unwrap_or(0);
            Some(IpAddr::V6((ip.to_bits() & mask).into()))
        }
    }
}

/// The address and what comes after `/`.
fn network(text: &str) -> Result<(IpAddr, u8), FilterError> {
    let (ip, bits) = match text.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().map_err(|_unreadable| FilterError::Destination)?;
    let most: u8 = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), plain_number);
    let bits = bits.filter(|bits| *bits <= most);
    let bits = bits.ok_or(FilterError::Destination)?;
    // Records have mapped addresses in their form as IPv4.
    match (ip, ip.to_canonical(), bits.checked_sub(96)) {
        (IpAddr::V6(_), mapped @ IpAddr::V4(_), Some(bits)) => Ok((mapped, bits)),
        _ => Ok((ip, bits)),
    }
}

/// Digits and nothing else.
fn plain_number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

impl FromStr for Destination {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (of, port) = match (text.strip_prefix('['), text.rsplit_once(':')) {
            (Some(rest), _) => {
                let (of, port) = rest.split_once(']').ok_or(FilterError::Destination)?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or(FilterError::Destination)?),
                };
                (of, port)
            }
            // One colon: more are an address without a port.
            (None, Some((of, port))) if !of.contains(':') => (of, Some(port)),
            (None, _) => (text, None),
        };
        let port = match port {
            Some(port) => Some(plain_number(port).ok_or(FilterError::Destination)?),
            None => None,
        };
        let (ip, prefix_bits) = network(of)?;
        match prefix(ip, prefix_bits) {
            Some(whole) if whole == ip => Ok(Self {
                ip,
                prefix_bits,
                port,
            }),
            Some(ip) => Err(FilterError::HostBits { ip, prefix_bits }),
            None => Err(FilterError::Destination),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, bits) = (self.ip, self.prefix_bits);
        match (ip, self.port) {
            (_, None) => write!(f, "{ip}/{bits}"),
            (IpAddr::V4(_), Some(port)) => write!(f, "{ip}/{bits}:{port}"),
            (IpAddr::V6(_), Some(port)) => write!(f, "[{ip}/{bits}]:{port}"),
        }
    }
}

// === impl ReasonName ===

impl FromStr for ReasonName {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let named = Reason::ALL.iter().find(|reason| reason.name() == text);
        named.copied().map(Self).ok_or(FilterError::Reason)
    }
}

impl fmt::Display for ReasonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

fn reasons() -> String {
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use clawd_common::verdict::Reason;
    use proptest::{option, prelude::*, sample::select};

    use super::{Binary, Destination, Filter, ReasonName, prefix};
    use crate::record::{AuditRecord, Digest, Outcome, tests::any_record};

    fn record() -> AuditRecord {
        let text = r#"{"time":"2026-01-01T00:00:10.000000000Z","seq":4,
            "class":{"name":"Network Activity","uid":4001},"sandbox":"agent",
            "policy_generation":1,"pid":77,"exe":"/usr/bin/curl",
            "sha256":"abababababababababababababababababababababababababababababababab",
            "lineage":[],"action":"denied","reason":"port_not_listed","rule":null,"dst_name":null,
            "dst_ip":"192.0.2.10","dst_port":443,"protocol":"tcp","activity":"connect"}"#;
        serde_json::from_str(text).expect("a record")
    }

    fn to(text: &str) -> Filter {
        Filter {
            destination: Some(text.parse().expect("a destination")),
            ..Filter::default()
        }
    }

    fn of(text: &str) -> Filter {
        Filter {
            binary: Some(text.parse().expect("a program")),
            ..Filter::default()
        }
    }

    #[test]
    fn filter_wants_what_meets_each_condition_and_nothing_else() {
        let at = |text: &str| Some(format!("2026-01-01T00:00:{text}Z").parse().expect("a time"));
        let since = |text| Filter {
            since: at(text),
            ..Filter::default()
        };
        let until = |text| Filter {
            until: at(text),
            ..Filter::default()
        };
        let reason = |reason| Filter {
            reason: Some(ReasonName(reason)),
            ..Filter::default()
        };
        let action = |action| Filter {
            action: Some(action),
            ..Filter::default()
        };
        let digest = Digest([0xab; 32]).to_string();
        for (filter, wanted) in [
            (Filter::default(), true),
            (since("10.000000000"), true),
            (since("10.000000001"), false),
            (until("10.000000000"), true),
            (until("09.999999999"), false),
            (of("/usr/bin/curl"), true),
            (of("/bin/curl"), false),
            (of("curl"), true),
            (of("url"), false),
            (of(&digest), true),
            (of(&digest.replace('a', "c")), false),
            (to("192.0.2.10"), true),
            (to("192.0.2.11"), false),
            (to("192.0.2.0/24:443"), true),
            (to("192.0.2.0/24:80"), false),
            (to("0.0.0.0/0"), true),
            (to("::/0"), false),
            (to("::ffff:192.0.2.10"), true),
            (to("[::ffff:192.0.2.0/120]:443"), true),
            (reason(Reason::PortNotListed), true),
            (reason(Reason::AddressNotListed), false),
            (action(Outcome::Denied), true),
            (action(Outcome::Allowed), false),
        ] {
            assert_eq!(filter.wants(&record()), wanted, "{filter:?}");
        }
        let bare = AuditRecord {
            exe: None,
            sha256: None,
            dst_ip: None,
            reason: None,
            action: None,
            ..record()
        };
        for filter in [
            of("curl"),
            of(&digest),
            to("0.0.0.0/0"),
            to("::/0"),
            reason(Reason::PortNotListed),
            action(Outcome::Denied),
        ] {
            assert!(!filter.wants(&bare), "{filter:?}");
        }
    }

    #[test]
    fn filter_of_another_form_is_refused() {
        for text in [
            "",
            "host",
            "192.0.2.1/33",
            "192.0.2.1/",
            "192.0.2.1/+8",
            "192.0.2.1/24",
            "192.0.2.1:65536",
            "192.0.2.1:",
            "192.0.2.1:+80",
            "2001:db8::1/32",
            "[2001:db8::1",
            "[2001:db8::1]443",
            "[2001:db8::1]:",
            "2001:db8::/129",
            "/24",
            ":443",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text:?}");
        }
        for text in ["", "bin/curl", "./curl", &"x".repeat(4096)] {
            assert!(text.parse::<Binary>().is_err(), "{text:?}");
        }
        assert!("nonsense".parse::<ReasonName>().is_err());
        let said = "192.0.2.1/24"
            .parse::<Destination>()
            .expect_err("host bits");
        assert!(said.to_string().contains("192.0.2.0/24"), "{said}");
    }

    proptest! {
        #[test]
        fn destination_written_is_the_one_read(
            ip in any::<std::net::IpAddr>(), bits in 0..=128_u8, port in any::<Option<u16>>()
        ) {
            let ip = ip.to_canonical();
            let bits = if ip.is_ipv4() { bits / 4 } else { bits };
            let ip = prefix(ip, bits).expect("in range");
            let to = Destination { ip, prefix_bits: bits, port };
            prop_assert_eq!(to.to_string().parse(), Ok(to));
        }

        #[test]
        fn destination_contains_what_begins_alike(
            one in any::<u32>(), other in any::<u32>(), bits in 0..=32_u8
        ) {
            let ip = |bits: u32| std::net::IpAddr::V4(bits.into());
            let net = prefix(ip(one), bits).expect("in range");
            let to = Destination { ip: net, prefix_bits: bits, port: None };
            let alike = (one ^ other).leading_zeros() >= u32::from(bits);
            prop_assert_eq!(to.contains(ip(other), None), alike);
            prop_assert!(to.contains(ip(one), Some(1)));
        }

        #[test]
        fn condition_of_any_text_does_not_panic_and_is_written_as_it_is_read(
            text in "[0-9a-f.:/\\[\\]]{0,40}|.{0,40}"
        ) {
            if let Ok(to) = text.parse::<Destination>() {
                prop_assert_eq!(to.to_string().parse(), Ok(to));
            }
            if let Ok(binary) = text.parse::<Binary>() {
                prop_assert_eq!(binary.to_string().parse(), Ok(binary));
            }
            if let Ok(reason) = text.parse::<ReasonName>() {
                prop_assert_eq!(reason.to_string(), text);
            }
        }

        #[test]
        fn filter_with_more_conditions_wants_no_more(
            record in any_record(),
            reason in option::of(select(Reason::ALL)),
            action in option::of(select(vec![Outcome::Allowed, Outcome::Denied])),
        ) {
            let both = Filter {
                reason: reason.map(ReasonName),
                action,
                ..Filter::default()
            };
            let one = Filter { action: None, ..both.clone() };
            let other = Filter { reason: None, ..both.clone() };
            prop_assert_eq!(both.wants(&record), one.wants(&record) && other.wants(&record));
            prop_assert!(Filter::default().wants(&record));
        }
    }
}
