//! Address prefixes that a rule may name, and those that no rule can allow.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use clawd_common::addr::{Addr, FAMILY_V4, FAMILY_V6};

/// An address prefix of one family, its host bits zero.
///
/// Ordered so that a prefix comes before every longer one inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: Addr,
    bits: u32,
}

/// Why two numbers are no [`Prefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The length is more than the family has bits.
    #[error("prefix length {bits} is more than the {max} bits of the address")]
    TooLong {
        /// The length asked for.
        bits: u32,
        /// The bits of the family.
        max: u32,
    },
    /// The address has bits set behind the prefix.
    #[error("the address has bits set behind the first {}, the prefix is {corrected}", corrected.bits)]
    HostBits {
        /// The same prefix with those bits cleared.
        corrected: Prefix,
    },
}

// === impl Prefix ===

impl Prefix {
    /// All addresses, of either family.
    pub const ALL: [Self; 2] = [
        Self {
            addr: Addr {
                family: FAMILY_V4,
                octets: [0; 16],
            },
            bits: 0,
        },
        Self {
            addr: Addr {
                family: FAMILY_V6,
                octets: [0; 16],
            },
            bits: 0,
        },
    ];

    /// The first `bits` bits of `ip`, taken literally: a prefix is no destination, so `0.0.0.0/8`
    /// must not turn into loopback as the address `0.0.0.0` does.
    ///
    /// # Errors
    /// [`PrefixError`] unless `ip` has exactly zeros behind its first `bits` bits.
    pub fn new(ip: IpAddr, bits: u32) -> Result<Self, PrefixError> {
        let (family, octets, max) = match ip {
            IpAddr::V4(ip) => (FAMILY_V4, u128::from(u32::from(ip)) << 96, 32),
            IpAddr::V6(ip) => (FAMILY_V6, u128::from(ip), 128),
        };
        if bits > max {
            return Err(PrefixError::TooLong { bits, max });
        }
        // A shift by 128 overflows: that is the prefix of no bits.
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let prefix = Self {
            addr: Addr {
                family,
                octets: (octets & mask).to_be_bytes(),
            },
            bits,
        };
        if octets & !mask != 0 {
            return Err(PrefixError::HostBits { corrected: prefix });
        }
        Ok(prefix)
    }

    /// The lowest address.
    #[must_use]
    pub const fn addr(&self) -> Addr {
        self.addr
    }

    /// How many bits are fixed, from 0 to 32 or 128.
    #[must_use]
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// Whether every address of `other` is in this prefix.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.addr.covers(self.bits, &other.addr)
    }

    /// The lowest address as the standard library's type.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        let value = u128::from_be_bytes(self.addr.octets);
        if self.addr.family == FAMILY_V4 {
            let [a, b, c, d, ..] = self.addr.octets;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            IpAddr::V6(Ipv6Addr::from(value))
        }
    }

    /// Why no rule can allow any address of the prefix, with what to write in its place; `None` if
    /// some address of it can be reached.
    #[must_use]
    pub(crate) fn unreachable(&self) -> Option<(&'static str, String)> {
        if self.addr.family == FAMILY_V4 {
            return self.unreachable_v4();
        }
        let IpAddr::V6(ip) = self.ip() else {
            return None;
        };
        let v6 = |bits, text: &str| -> bool {
            text.parse()
                .is_ok_and(|ip| Self::new(IpAddr::V6(ip), bits).is_ok_and(|p| p.contains(self)))
        };
        if v6(96, "::ffff:0:0") {
            let help = ip.to_ipv4_mapped().map_or_else(String::new, |v4| {
                let bits = self.bits.saturating_sub(96);
                format!("write it as IPv4: {}", host_or_cidr(v4, bits))
            });
            return Some(("is IPv4 written as IPv6, which is judged as IPv4", help));
        }
        if self.bits == 128 && ip.is_unspecified() {
            return Some(("reaches loopback", "write ::1".to_owned()));
        }
        let holds_loopback = self.addr.covers(self.bits, &loopback_v6());
        let third = u128::from(ip) >> 32 & 0xfdff_ffff;
        let embeds = (v6(96, "::") && !holds_loopback)
            || v6(96, "::ffff:0:0:0")
            || v6(96, "64:ff9b::")
            || v6(48, "64:ff9b:1::")
            || v6(16, "2002::")
            || v6(32, "2001::")
            || (self.bits >= 96 && third == 0x0000_5efe);
        if embeds {
            return Some((
                "is a transition form with an IPv4 address inside (compatible, translated, \
                 NAT64, 6to4, Teredo or ISATAP), which is always refused",
                "write the address that the traffic is meant for".to_owned(),
            ));
        }
        v6(8, "ff00::").then(multicast)
    }

    fn unreachable_v4(&self) -> Option<(&'static str, String)> {
        let [first, ..] = self.addr.octets;
        match (self.ip(), self.bits) {
            (IpAddr::V4(Ipv4Addr::BROADCAST), 32) => Some((
                "is the broadcast address, which is always refused",
                "name the hosts themselves".to_owned(),
            )),
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 32) => {
                Some(("reaches loopback", "write 127.0.0.1".to_owned()))
            }
            (_, 4..) if (224..=239).contains(&first) => Some(multicast()),
            _ => None,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip(), self.bits)
    }
}

const fn loopback_v6() -> Addr {
    Addr::v6(Ipv6Addr::LOCALHOST.octets())
}

fn multicast() -> (&'static str, String) {
    (
        "is multicast, which is always refused",
        "name the hosts themselves".to_owned(),
    )
}

fn host_or_cidr(ip: Ipv4Addr, bits: u32) -> String {
    if bits == 32 {
        ip.to_string()
    } else {
        format!("{ip}/{bits}")
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use clawd_common::addr::{Addr, AddrKind, FAMILY_V4, FAMILY_V6};
    use proptest::prelude::*;

    use super::{Prefix, PrefixError};

    fn prefix(text: &str) -> Prefix {
        let (ip, bits) = text.split_once('/').expect("a prefix");
        Prefix::new(ip.parse().expect("an address"), bits.parse().expect("bits")).expect("zeros")
    }

    #[test]
    fn new_checks_length_and_host_bits() {
        let ip: IpAddr = "192.0.2.77".parse().expect("an address");
        let error = Prefix::new(ip, 33).expect_err("too long");
        assert_eq!(error, PrefixError::TooLong { bits: 33, max: 32 });
        let error = Prefix::new(ip, 24).expect_err("host bits");
        let corrected = prefix("192.0.2.0/24");
        assert_eq!(error, PrefixError::HostBits { corrected });
        assert!(Prefix::new(ip, 0).is_err());
        assert_eq!(prefix("0.0.0.0/8").addr().octets, [0; 16]);
        assert_eq!(prefix("::/0").to_string(), "::/0");
    }

    #[test]
    fn order_puts_the_wider_prefix_first() {
        assert!(prefix("10.0.0.0/8") < prefix("10.0.0.0/9"));
        assert!(prefix("10.0.0.0/9") < prefix("10.0.0.1/32"));
    }

    #[test]
    fn unreachable_knows_each_region() {
        for dead in [
            "224.0.0.0/4",
            "239.1.2.3/32",
            "255.255.255.255/32",
            "0.0.0.0/32",
            "ff00::/8",
            "ff02::1/128",
            "::/128",
            "::2/127",
            "::102:304/128",
            "::ffff:0:0/96",
            "::ffff:1.2.3.4/128",
            "::ffff:0:1.2.3.0/120",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2002::/16",
            "2001::/32",
            "2001:db8::5efe:0:0/96",
            "fe80::200:5efe:102:304/128",
        ] {
            assert!(prefix(dead).unreachable().is_some(), "{dead}");
        }
        for live in [
            "0.0.0.0/0",
            "0.0.0.0/31",
            "128.0.0.0/1",
            "224.0.0.0/3",
            "240.0.0.0/4",
            "127.0.0.0/8",
            "255.255.255.254/31",
            "::/0",
            "::/96",
            "::1/128",
            "::/127",
            "::/95",
            "fe80::/10",
            "64:ff9b::/95",
            "64:ff9b::/47",
            "2002::/15",
            "2001::/31",
            "2001:db8::5efe:0:0/95",
            "::fffe:0:0/95",
            "fe00::/7",
        ] {
            assert_eq!(prefix(live).unreachable(), None, "{live}");
        }
    }

    /// Addresses near the special regions, and anywhere.
    fn value() -> impl Strategy<Value = u128> {
        let texts = [
            "::",
            "::1",
            "::ffff:0:0",
            "::ffff:0:0:0",
            "64:ff9b::",
            "64:ff9b:1::",
            "2002::",
            "2001::",
            "ff00::",
            "fe80::",
            "2001:db8::5efe:0:0",
            "2001:db8::200:5efe:0:0",
            "::fffe:0:0",
            "2001:db8::",
        ];
        let near: Vec<u128> = texts
            .iter()
            .map(|text| u128::from(text.parse::<Ipv6Addr>().expect("an address")))
            .collect();
        (
            prop::sample::select(near),
            any::<u128>(),
            0..=128_u32,
            any::<bool>(),
        )
            .prop_map(|(base, noise, keep, flip)| {
                let noise = noise.checked_shr(keep).unwrap_or(0);
                let flip = u128::from(flip).checked_shl(128 - keep).unwrap_or(0);
                (base ^ flip) | noise
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// The list of regions agrees with the kernel's classification: nothing in a prefix that
        /// is called unreachable is ever judged by a rule of it.
        #[test]
        fn unreachable_is_never_judged(
            base in value(), bits in 0..=128_u32, host in any::<u128>(), v4 in any::<bool>(),
        ) {
            let bits = if v4 { bits / 4 } else { bits };
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let ip = |value: u128| if v4 {
                IpAddr::from(u32::try_from(value >> 96).expect("32 bits").to_be_bytes())
            } else {
                IpAddr::from(value.to_be_bytes())
            };
            let prefix = Prefix::new(ip(base & mask), bits).expect("zeros");
            let unreachable = prefix.unreachable().is_some();
            let mut judged = false;
            // The last three are where a prefix may still hold something that is reachable.
            for host in [host, 0, u128::MAX, 1, 2, 1 << 32, 1 << 64, 1 << 120] {
                let dest = match ip(base & mask | host & !mask) {
                    IpAddr::V4(ip) => Addr::v4(ip.octets()),
                    IpAddr::V6(ip) => Addr::v6(ip.octets()),
                };
                let covered = prefix.addr().covers(bits, &dest);
                let refused = |scope| matches!(dest.kind(scope), AddrKind::Refused(_));
                judged |= covered && !(refused(0) && refused(1));
            }
            prop_assert!(!(unreachable && judged), "{prefix} is reachable");
            // The other direction: an address that no rule can allow is called so.
            if bits == if v4 { 32 } else { 128 } {
                prop_assert_eq!(unreachable, !judged, "{}", prefix);
            }
            let family = if v4 { FAMILY_V4 } else { FAMILY_V6 };
            prop_assert_eq!(prefix.addr().family, family);
        }
    }
}
