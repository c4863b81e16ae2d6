//! Destination addresses, canonicalised before anything is decided about them.
//!
//! One destination has many spellings: `::ffff:192.0.2.1` is IPv4, `0.0.0.0` and `::` reach
//! loopback. A rule must not depend on the spelling, so hooks and the policy compiler both look at
//! [`Addr`], never at the bytes of a `sockaddr`.

use crate::{abi::assert_layout, verdict::Reason};

/// [`Addr::family`] of IPv4.
pub const FAMILY_V4: u32 = 4;
/// [`Addr::family`] of IPv6.
pub const FAMILY_V6: u32 = 6;

/// A canonical address.
///
/// Built only by [`Addr::v4`] and [`Addr::v6`], so an IPv4 address never hides in an IPv6 one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr {
    /// [`FAMILY_V4`] or [`FAMILY_V6`].
    pub family: u32,
    /// Most significant octet first; IPv4 uses the first four, the rest are zero.
    pub octets: [u8; 16],
}
assert_layout!(Addr, size 20, align 4, { family @ 0, octets @ 4 });

/// What kind of destination an address is, before any rule is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrKind {
    /// Judged by the rules alone.
    Ordinary,
    /// Reaches the own host (or, in a network namespace of its own, the own sandbox).
    Loopback,
    /// Never a destination, whatever the rules say.
    Refused(Reason),
}

impl Addr {
    /// All zero. Not a valid address: its family matches no rule.
    pub const ZERO: Self = Self {
        family: 0,
        octets: [0; 16],
    };

    /// `0.0.0.0` where it is not known what the kernel will put in its place: never a destination.
    pub const UNSPECIFIED_V4: Self = Self {
        family: FAMILY_V4,
        octets: [0; 16],
    };

    /// The canonical form of an IPv4 address: `0.0.0.0` becomes `127.0.0.1`, which is where the
    /// kernel connects it to (`ip_route_output_key_hash_rcu` in net/ipv4/route.c, v6.12).
    #[must_use]
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        let (a, d) = if u32::from_be_bytes(octets) == 0 {
            (127, 1)
        } else {
            (a, d)
        };
        Self {
            family: FAMILY_V4,
            octets: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    /// The canonical form of an IPv6 address: mapped IPv4 becomes IPv4, `::` becomes `::1`
    /// (`__ip6_datagram_connect` and `tcp_v6_connect` in net/ipv6, v6.12).
    #[must_use]
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let high = word(&octets, 0) as u64 | word(&octets, 4) as u64;
        let third = word(&octets, 8);
        let last = word(&octets, 12);
        if high == 0 && third == 0xffff {
            return Self::v4(last.to_be_bytes());
        }
        let mut octets = octets;
        if high == 0 && third == 0 && last == 0 {
            octets[15] = 1;
        }
        Self {
            family: FAMILY_V6,
            octets,
        }
    }

    /// Whether both are the same address. Word by word: `==` compares arrays by octets, for which a
    /// program's stack is too small.
    #[must_use]
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let mut difference = self.family ^ other.family;
        let mut at = 0;
        while at < 16 {
            difference |= word(&self.octets, at) ^ word(&other.octets, at);
            at += 4;
        }
        difference == 0
    }

    /// Classifies the address. `scope_id` is the `sin6_scope_id` of the request, 0 for none.
    #[must_use]
    #[inline(always)]
    pub const fn kind(&self, scope_id: u32) -> AddrKind {
        if self.family == FAMILY_V4 {
            self.kind_v4()
        } else {
            self.kind_v6(scope_id)
        }
    }

    #[inline(always)]
    const fn kind_v4(&self) -> AddrKind {
        let addr = word(&self.octets, 0);
        match self.octets[0] {
            0 if addr == 0 => AddrKind::Refused(Reason::AddressNotListed),
            // Every socket at the port gets it, whosever it is.
            127 if addr == 0x7fff_ffff => AddrKind::Refused(Reason::Broadcast),
            127 => AddrKind::Loopback,
            224..=239 => AddrKind::Refused(Reason::Multicast),
            255 if addr == u32::MAX => AddrKind::Refused(Reason::Broadcast),
            _ => AddrKind::Ordinary,
        }
    }

    #[inline(always)]
    const fn kind_v6(&self, scope_id: u32) -> AddrKind {
        let w0 = word(&self.octets, 0);
        let w1 = word(&self.octets, 4);
        let w2 = word(&self.octets, 8);
        let w3 = word(&self.octets, 12);
        if w0 >> 24 == 0xff {
            return AddrKind::Refused(Reason::Multicast);
        }
        // fe80::/10 names no host without an interface.
        if w0 >> 22 == 0xfe80_0000 >> 22 && scope_id == 0 {
            return AddrKind::Refused(Reason::LinkLocalNoScope);
        }
        if w0 | w1 | w2 == 0 {
            // `::/96` holds the IPv4-compatible form (RFC 4291, 2.5.5.1) and `::1`.
            return if w3 == 1 {
                AddrKind::Loopback
            } else {
                AddrKind::Refused(Reason::EmbeddedAddress)
            };
        }
        let nat64 = w0 == 0x0064_ff9b && (w1 | w2 == 0 || w1 >> 16 == 1); // RFC 6052, RFC 8215
        let sixto4 = w0 >> 16 == 0x2002; // RFC 3056
        let teredo = w0 == 0x2001_0000; // RFC 4380
        let translated = w0 | w1 == 0 && w2 == 0xffff_0000; // RFC 2765, IPv4-translated
        let isatap = w2 & 0xfdff_ffff == 0x0000_5efe; // RFC 5214, 6.1
        if nat64 || sixto4 || teredo || translated || isatap {
            return AddrKind::Refused(Reason::EmbeddedAddress);
        }
        AddrKind::Ordinary
    }

    /// Whether `prefix_bits` bits of `self` and `other` agree and the families do.
    ///
    /// A prefix longer than the family has bits matches nothing.
    #[must_use]
    pub const fn covers(&self, prefix_bits: u32, other: &Self) -> bool {
        let bits = if self.family == FAMILY_V4 { 32 } else { 128 };
        if self.family != other.family || prefix_bits > bits {
            return false;
        }
        if prefix_bits == 0 {
            return true;
        }
        let diff = u128::from_be_bytes(self.octets) ^ u128::from_be_bytes(other.octets);
        diff >> (128 - prefix_bits) == 0
    }
}

/// The four octets of `octets` at `at` as a big-endian number.
#[inline(always)]
const fn word(octets: &[u8; 16], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

#[cfg(test)]
mod tests;
