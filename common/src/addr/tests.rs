//! Case table of [`super::Addr`], and its properties.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{Addr, AddrKind, FAMILY_V4, FAMILY_V6};
use crate::verdict::Reason;

fn addr(text: &str) -> Addr {
    match text.parse::<IpAddr>().expect("test address") {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr::v6(v6.octets()),
    }
}

#[test]
fn addr_spellings_of_one_destination_are_equal() {
    assert_eq!(addr("::ffff:192.0.2.1"), addr("192.0.2.1"));
    assert_eq!(addr("0.0.0.0"), addr("127.0.0.1"));
    assert_eq!(addr("::ffff:0.0.0.0"), addr("127.0.0.1"));
    assert_eq!(addr("::"), addr("::1"));
}

#[test]
fn addr_kind_follows_the_table() {
    use AddrKind::{Loopback, Ordinary, Refused};
    let table = [
        ("192.0.2.1", Ordinary),
        ("10.0.0.1", Ordinary),
        ("255.255.255.254", Ordinary),
        ("127.0.0.1", Loopback),
        ("127.255.0.3", Loopback),
        ("127.255.255.254", Loopback),
        ("127.255.255.255", Refused(Reason::Broadcast)),
        ("0.0.0.0", Loopback),
        ("::ffff:127.0.0.1", Loopback),
        ("0.0.0.1", Ordinary),
        ("::1", Loopback),
        ("::", Loopback),
        ("224.0.0.1", Refused(Reason::Multicast)),
        ("239.255.255.250", Refused(Reason::Multicast)),
        ("::ffff:224.0.0.1", Refused(Reason::Multicast)),
        ("ff02::1", Refused(Reason::Multicast)),
        ("255.255.255.255", Refused(Reason::Broadcast)),
        ("fe80::1", Refused(Reason::LinkLocalNoScope)),
        ("febf::1", Refused(Reason::LinkLocalNoScope)),
        ("fec0::1", Ordinary),
        ("64:ff9b::192.0.2.1", Refused(Reason::EmbeddedAddress)),
        ("64:ff9b:1::192.0.2.1", Refused(Reason::EmbeddedAddress)),
        ("64:ff9b:2::1", Ordinary),
        ("2002:c000:201::1", Refused(Reason::EmbeddedAddress)),
        (
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            Refused(Reason::EmbeddedAddress),
        ),
        ("::192.0.2.1", Refused(Reason::EmbeddedAddress)),
        ("::2", Refused(Reason::EmbeddedAddress)),
        ("::ffff:0:192.0.2.1", Refused(Reason::EmbeddedAddress)),
        ("2001:db8::5efe:192.0.2.1", Refused(Reason::EmbeddedAddress)),
        (
            "2001:db8::200:5efe:192.0.2.1",
            Refused(Reason::EmbeddedAddress),
        ),
        ("2001:db8::1", Ordinary),
    ];
    for (text, kind) in table {
        assert_eq!(addr(text).kind(0), kind, "{text}");
    }
    assert_eq!(addr("fe80::1").kind(2), Ordinary);
}

#[test]
fn addr_unspecified_is_never_a_destination() {
    let kind = Addr::UNSPECIFIED_V4.kind(1);
    assert_eq!(kind, AddrKind::Refused(Reason::AddressNotListed));
    assert_ne!(Addr::UNSPECIFIED_V4, Addr::v4([0; 4]));
}

#[test]
fn addr_covers_stops_at_the_prefix_and_the_family() {
    assert!(addr("192.0.2.0").covers(24, &addr("192.0.2.255")));
    assert!(!addr("192.0.2.0").covers(24, &addr("192.0.3.0")));
    assert!(addr("10.0.0.0").covers(0, &addr("192.0.2.1")));
    assert!(!addr("2001:db8::").covers(0, &addr("192.0.2.1")));
    assert!(!addr("192.0.2.1").covers(33, &addr("192.0.2.1")));
    assert!(addr("2001:db8::1").covers(128, &addr("2001:db8::1")));
}

proptest! {
    #[test]
    fn addr_v6_agrees_with_std_on_mapped_forms(raw in any::<u128>(), mapped in any::<bool>()) {
        let raw = if mapped { (raw & 0xffff_ffff) | 0xffff_0000_0000 } else { raw };
        let v6 = Ipv6Addr::from(raw);
        let got = Addr::v6(v6.octets());
        match v6.to_ipv4_mapped() {
            Some(Ipv4Addr::UNSPECIFIED) => prop_assert_eq!(got, Addr::v4([127, 0, 0, 1])),
            Some(v4) => prop_assert_eq!(got, Addr::v4(v4.octets())),
            None if v6.is_unspecified() => prop_assert_eq!(got, Addr::v6(Ipv6Addr::LOCALHOST.octets())),
            None => prop_assert_eq!((got.family, got.octets), (FAMILY_V6, v6.octets())),
        }
        prop_assert!(got.family == FAMILY_V4 || got.family == FAMILY_V6);
    }

    #[test]
    fn addr_kind_agrees_with_std_on_loopback_and_multicast(raw in any::<u128>()) {
        let v6 = Ipv6Addr::from(raw);
        let kind = Addr::v6(v6.octets()).kind(1);
        if v6.to_ipv4_mapped().is_none() && v6.is_multicast() {
            prop_assert_eq!(kind, AddrKind::Refused(Reason::Multicast));
        }
    }
}
