//! Case tables of headers and packets, and their properties.

use proptest::prelude::*;

use super::{
    Direction, Headers, Keep, Packet, PacketVerdict, Peers, SocketState, V4_WORDS, V6_WORDS,
    allowed_by_peer, judge,
};
use crate::{
    addr::Addr,
    decide::{
        AddressKey, GrantMask, INGRESS, MaskKey, MaskValue, PROTOCOL_TCP, PROTOCOL_UDP, PortKey,
        RuleKey, RuleValue, Tables,
    },
    record::{
        PEER_CAME_IN, PEER_OWN, PEER_WENT_OUT, RECORD_JUDGED, RECORD_OWN_PEER, RECORD_PASSIVE,
        SANDBOX_OWN_LOOPBACK, SandboxValue, SocketRecord, UdpPeerValue,
    },
    verdict::Reason,
};

const OLD: u32 = 1;
const NOW: u32 = 2;
const CHAIN: u32 = 9;

fn listed() -> Addr {
    Addr::v4([192, 0, 2, 10])
}

fn unlisted() -> Addr {
    Addr::v4([203, 0, 113, 1])
}

/// Rules of policy [`NOW`]: chain [`CHAIN`] may reach port 443 of [`listed`] by TCP and UDP, and that
/// peer, with those of loopback, port 8080 of the sandbox.
#[derive(Default)]
struct World {
    own: bool,
    known: Option<UdpPeerValue>,
    grants: FirstEntry,
}

/// The first entry, allowed, and the chain that it means.
struct FirstEntry(RuleValue, MaskValue);

impl Default for FirstEntry {
    fn default() -> Self {
        let mut allow = GrantMask::ZERO;
        allow.insert(0);
        let rule = RuleValue {
            allow,
            ..RuleValue::LISTED
        };
        let mask = MaskValue {
            own: allow,
            ..MaskValue::ZERO
        };
        Self(rule, mask)
    }
}

/// As [`World`] is by itself, with a rule that denies all that is listed to everybody, or to the chain.
fn denying(deny_all: bool) -> World {
    let mut world = World::default();
    let FirstEntry(rule, mask) = &mut world.grants;
    if deny_all {
        rule.deny_all = 300;
    } else {
        rule.deny = mask.own;
    }
    world
}

impl Tables for World {
    fn address_class(&self, key: &AddressKey) -> u32 {
        let loopback = key.addr == Addr::v4([127, 0, 0, 1]);
        match key.policy_id == NOW && (key.addr == listed() || loopback) {
            true => 1 + u32::from(loopback),
            false => 0,
        }
    }

    fn port_class(&self, key: &PortKey) -> u32 {
        let port = u16::from_be_bytes(key.port_be);
        match (key.policy_id, key.protocol & INGRESS != 0, port) {
            (NOW, false, 443) => 1,
            (NOW, true, 8080) => 2,
            _ => 0,
        }
    }

    fn rule(&self, key: &RuleKey) -> Option<&RuleValue> {
        let out = key.address_class == 1 && key.port_class == 1;
        let in_ = key.port_class == 2;
        (key.policy_id == NOW && (out || in_)).then_some(&self.grants.0)
    }

    fn mask(&self, key: &MaskKey) -> Option<&MaskValue> {
        (key.policy_id == NOW && key.chain == CHAIN).then_some(&self.grants.1)
    }
}

impl Peers for World {
    fn is_own(&self, _packet: &Packet) -> bool {
        self.own
    }

    fn known(&self, _packet: &Packet) -> Option<UdpPeerValue> {
        self.known
    }
}

fn sandbox() -> SandboxValue {
    SandboxValue {
        sandbox_id: 1,
        policy_id: NOW,
        ..SandboxValue::ZERO
    }
}

fn packet(peer: Addr, peer_port: u16, protocol: u16) -> Packet {
    Packet {
        peer,
        peer_port,
        local_port: 50_000,
        protocol,
    }
}

fn record(flags: u32, policy_id: u32, peer: Addr) -> SocketRecord {
    SocketRecord {
        sandbox_id: 1,
        flags,
        peer,
        peer_port: 443,
        policy_id,
        chain: CHAIN,
        ..SocketRecord::ZERO
    }
}

fn out(world: &World, record: &SocketRecord, packet: &Packet) -> PacketVerdict {
    let socket = (record, SocketState::Other);
    judge(world, &sandbox(), socket, (Direction::Egress, packet))
}

fn in_(world: &World, record: &SocketRecord, packet: &Packet) -> PacketVerdict {
    let socket = (record, SocketState::Other);
    judge(world, &sandbox(), socket, (Direction::Ingress, packet))
}

#[track_caller]
fn passes(got: PacketVerdict, keep: Keep) {
    assert!(got.verdict.is_allowed(), "{got:?}");
    assert_eq!(got.keep, keep, "{got:?}");
}

#[track_caller]
fn drops(got: PacketVerdict, reason: Reason) {
    assert!(!got.verdict.is_allowed(), "{got:?}");
    assert_eq!((got.verdict.reason, got.keep), (reason, Keep::Nothing));
}

#[test]
fn packet_of_the_judged_peer_passes_under_the_same_policy_whatever_the_rules() {
    let world = World::default();
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        let record = record(RECORD_JUDGED, NOW, unlisted());
        let packet = packet(unlisted(), 443, protocol);
        passes(out(&world, &record, &packet), Keep::Nothing);
        passes(in_(&world, &record, &packet), Keep::Nothing);
    }
}

#[test]
fn judged_flow_is_decided_again_under_another_policy() {
    let world = World::default();
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        for direction in [out, in_] {
            let judged = record(RECORD_JUDGED, OLD, listed());
            passes(
                direction(&world, &judged, &packet(listed(), 443, protocol)),
                Keep::Policy,
            );
            let judged = record(RECORD_JUDGED, OLD, unlisted());
            drops(
                direction(&world, &judged, &packet(unlisted(), 443, protocol)),
                Reason::PolicyChanged,
            );
            let of_nobody = SocketRecord {
                chain: 0,
                ..record(RECORD_JUDGED, OLD, listed())
            };
            drops(
                direction(&world, &of_nobody, &packet(listed(), 443, protocol)),
                Reason::PolicyChanged,
            );
        }
    }
}

#[test]
fn flow_inside_the_sandbox_outlives_every_policy() {
    let record = record(RECORD_JUDGED | RECORD_OWN_PEER, OLD, unlisted());
    let got = out(
        &World::default(),
        &record,
        &packet(unlisted(), 443, PROTOCOL_TCP),
    );
    passes(got, Keep::Nothing);
}

#[test]
fn place_that_was_the_sandboxs_own_is_looked_at_before_more_goes_there() {
    let own = World {
        own: true,
        ..World::default()
    };
    let another = World::default();
    for policy_id in [OLD, NOW] {
        let record = record(RECORD_JUDGED | RECORD_OWN_PEER, policy_id, unlisted());
        let datagram = packet(unlisted(), 443, PROTOCOL_UDP);
        passes(out(&own, &record, &datagram), Keep::Nothing);
        drops(out(&another, &record, &datagram), Reason::AddressNotListed);
        // What it sent before it went may still come.
        passes(in_(&another, &record, &datagram), Keep::Nothing);
        let socket = (&record, SocketState::Connecting);
        let first = packet(unlisted(), 443, PROTOCOL_TCP);
        let egress = (Direction::Egress, &first);
        passes(judge(&own, &sandbox(), socket, egress), Keep::Nothing);
        drops(
            judge(&another, &sandbox(), socket, egress),
            Reason::AddressNotListed,
        );
    }
}

#[test]
fn own_datagram_socket_that_spoke_first_is_answered_while_it_is_there() {
    let packet = packet(Addr::v4([127, 0, 0, 5]), 50_001, PROTOCOL_UDP);
    let knowing = |own| World {
        own,
        known: Some(UdpPeerValue {
            policy_id: NOW,
            why: PEER_OWN,
        }),
        ..World::default()
    };
    let first = World {
        known: None,
        ..knowing(true)
    };
    let got = in_(&first, &SocketRecord::ZERO, &packet);
    passes(got, Keep::Known(PEER_OWN));
    passes(
        out(&knowing(true), &SocketRecord::ZERO, &packet),
        Keep::Nothing,
    );
    drops(
        out(&knowing(false), &SocketRecord::ZERO, &packet),
        Reason::UnjudgedSocket,
    );
    let called = |own| allowed_by_peer(&knowing(own), (&packet, false), (NOW, 0));
    assert_eq!(called(true), Some(Reason::OwnSandbox));
    assert_eq!(called(false), None);
}

#[test]
fn listener_lets_nobody_in_for_what_it_was_connected_to_before() {
    for flags in [RECORD_JUDGED, RECORD_JUDGED | RECORD_OWN_PEER] {
        let record = record(flags, NOW, unlisted());
        let socket = (&record, SocketState::Listening);
        let packet = packet(unlisted(), 443, PROTOCOL_TCP);
        for direction in [Direction::Ingress, Direction::Egress] {
            let got = judge(&World::default(), &sandbox(), socket, (direction, &packet));
            drops(got, Reason::IngressNotListed);
        }
    }
}

#[test]
fn connecting_socket_that_nobody_judged_sends_nothing() {
    let world = World::default();
    for record in [SocketRecord::ZERO, record(RECORD_JUDGED, NOW, unlisted())] {
        let socket = (&record, SocketState::Connecting);
        let packet = packet(listed(), 443, PROTOCOL_TCP);
        let got = judge(&world, &sandbox(), socket, (Direction::Egress, &packet));
        drops(got, Reason::UnjudgedSocket);
    }
}

#[test]
fn tcp_port_that_ingress_lists_may_be_reached_by_the_listed_alone() {
    let world = World::default();
    let to = |peer, local_port| Packet {
        local_port,
        ..packet(peer, 50_000, PROTOCOL_TCP)
    };
    for direction in [out, in_] {
        let accepted = SocketRecord::ZERO;
        passes(
            direction(&world, &accepted, &to(listed(), 8080)),
            Keep::Peer(RECORD_PASSIVE),
        );
        for refused in [to(unlisted(), 8080), to(listed(), 8081)] {
            drops(
                direction(&world, &accepted, &refused),
                Reason::IngressNotListed,
            );
        }
    }
    let listening = (&SocketRecord::ZERO, SocketState::Listening);
    let got = judge(
        &world,
        &sandbox(),
        listening,
        (Direction::Ingress, &to(listed(), 8080)),
    );
    passes(got, Keep::Nothing);
}

#[test]
fn accepted_flow_is_decided_again_by_ingress_under_another_policy() {
    let world = World::default();
    let accepted = record(RECORD_PASSIVE, OLD, listed());
    let at = |local_port| Packet {
        local_port,
        ..packet(listed(), 443, PROTOCOL_TCP)
    };
    passes(in_(&world, &accepted, &at(8080)), Keep::Policy);
    drops(in_(&world, &accepted, &at(8081)), Reason::PolicyChanged);
}

#[test]
fn loopback_peer_may_reach_any_port_if_it_is_the_same_sandbox() {
    let peer = Addr::v4([127, 0, 0, 5]);
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        let packet = packet(peer, 50_001, protocol);
        let own = World {
            own: true,
            ..World::default()
        };
        let got = in_(&own, &SocketRecord::ZERO, &packet);
        assert!(got.verdict.is_allowed() && got.verdict.reason == Reason::OwnSandbox);
        if protocol == PROTOCOL_TCP {
            assert_eq!(got.keep, Keep::Peer(RECORD_PASSIVE | RECORD_OWN_PEER));
        }
        let got = in_(&World::default(), &SocketRecord::ZERO, &packet);
        drops(got, Reason::IngressNotListed);
        // Only loopback is looked up: a listener on all addresses would be found for any.
        let far = Packet {
            peer: unlisted(),
            ..packet
        };
        drops(
            in_(&own, &SocketRecord::ZERO, &far),
            Reason::IngressNotListed,
        );
    }
}

#[test]
fn everything_in_a_network_of_its_own_is_its_own() {
    let sandbox = SandboxValue {
        flags: SANDBOX_OWN_LOOPBACK,
        ..sandbox()
    };
    let packet = packet(Addr::v4([127, 0, 0, 1]), 50_001, PROTOCOL_UDP);
    let socket = (&SocketRecord::ZERO, SocketState::Other);
    let got = judge(
        &World::default(),
        &sandbox,
        socket,
        (Direction::Ingress, &packet),
    );
    assert!(got.verdict.is_allowed());
}

#[test]
fn datagram_of_a_shared_socket_is_decided_with_the_recorded_identity() {
    let world = World::default();
    let record = record(RECORD_JUDGED, NOW, unlisted());
    passes(
        out(&world, &record, &packet(listed(), 443, PROTOCOL_UDP)),
        Keep::Known(PEER_WENT_OUT),
    );
    drops(
        out(&world, &record, &packet(listed(), 444, PROTOCOL_UDP)),
        Reason::PortNotListed,
    );
    drops(
        out(
            &world,
            &SocketRecord::ZERO,
            &packet(listed(), 443, PROTOCOL_UDP),
        ),
        Reason::UnjudgedSocket,
    );
}

#[test]
fn datagram_comes_in_from_those_that_were_sent_to() {
    let judged = record(RECORD_JUDGED, NOW, unlisted());
    let packet = packet(listed(), 443, PROTOCOL_UDP);
    let knowing = |policy_id, why| World {
        known: Some(UdpPeerValue { policy_id, why }),
        ..World::default()
    };
    passes(
        in_(&knowing(NOW, PEER_WENT_OUT), &judged, &packet),
        Keep::Nothing,
    );
    passes(
        in_(&knowing(OLD, PEER_WENT_OUT), &judged, &packet),
        Keep::Known(PEER_WENT_OUT),
    );
    drops(
        in_(&World::default(), &judged, &packet),
        Reason::IngressNotListed,
    );
    drops(
        in_(&knowing(OLD, PEER_CAME_IN), &judged, &packet),
        Reason::IngressNotListed,
    );
    let elsewhere = Packet {
        peer_port: 444,
        ..packet
    };
    drops(
        in_(&knowing(OLD, PEER_WENT_OUT), &judged, &elsewhere),
        Reason::IngressNotListed,
    );
}

#[test]
fn datagram_that_an_ingress_rule_lets_in_may_be_answered() {
    let client = Packet {
        local_port: 8080,
        ..packet(listed(), 50_001, PROTOCOL_UDP)
    };
    let world = World::default();
    passes(
        in_(&world, &SocketRecord::ZERO, &client),
        Keep::Known(PEER_CAME_IN),
    );
    let known = World {
        known: Some(UdpPeerValue {
            policy_id: NOW,
            why: PEER_CAME_IN,
        }),
        ..World::default()
    };
    passes(out(&known, &SocketRecord::ZERO, &client), Keep::Nothing);
    let allowed = |world: &World, packet: &Packet, policy_id| {
        allowed_by_peer(world, (packet, false), (policy_id, 0))
    };
    assert_eq!(allowed(&known, &client, NOW), Some(Reason::IngressRule));
    assert_eq!(allowed(&world, &client, NOW), None);
    assert_eq!(allowed(&known, &client, OLD), None);
    let by_tcp = Packet {
        protocol: PROTOCOL_TCP,
        ..client
    };
    assert_eq!(allowed(&known, &by_tcp, NOW), None);
}

#[test]
fn call_to_loopback_is_allowed_if_the_same_sandbox_listens_there() {
    let own = World {
        own: true,
        ..World::default()
    };
    let allowed = |world: &World, peer| {
        let packet = packet(peer, 8080, PROTOCOL_TCP);
        allowed_by_peer(world, (&packet, false), (NOW, 0))
    };
    let loopback = Addr::v4([127, 0, 0, 5]);
    assert_eq!(allowed(&own, loopback), Some(Reason::OwnSandbox));
    assert_eq!(allowed(&World::default(), loopback), None);
    assert_eq!(allowed(&own, unlisted()), None);
}

// === Headers ===

/// A plain IPv4 header with ports, from 192.0.2.1:1000 to 203.0.113.1:443.
fn v4() -> [u8; 4 * V4_WORDS] {
    let mut bytes = [0; 4 * V4_WORDS];
    bytes[0] = 0x45;
    bytes[6] = 0x40; // do not fragment
    bytes[9] = 6;
    bytes[12..16].copy_from_slice(&[192, 0, 2, 1]);
    bytes[16..20].copy_from_slice(&[203, 0, 113, 1]);
    bytes[20..22].copy_from_slice(&1000_u16.to_be_bytes());
    bytes[22..24].copy_from_slice(&443_u16.to_be_bytes());
    bytes
}

fn v6() -> [u8; 4 * V6_WORDS] {
    let mut bytes = [0; 4 * V6_WORDS];
    bytes[0] = 0x60;
    bytes[6] = 17;
    bytes[8..24].copy_from_slice(&[1; 16]);
    bytes[24..40].copy_from_slice(&[2; 16]);
    bytes[40..42].copy_from_slice(&1000_u16.to_be_bytes());
    bytes[42..44].copy_from_slice(&443_u16.to_be_bytes());
    bytes
}

fn words<const BYTES: usize, const WORDS: usize>(bytes: [u8; BYTES]) -> [u32; WORDS] {
    core::array::from_fn(|i| u32::from_ne_bytes(bytes[4 * i..4 * i + 4].try_into().expect("four")))
}

#[test]
fn headers_are_read_from_both_sides() {
    let headers = Headers::v4(&words(v4())).expect("plain");
    let want = Packet {
        peer: unlisted(),
        peer_port: 443,
        local_port: 1000,
        protocol: PROTOCOL_TCP,
    };
    assert_eq!(headers.going_out(), want);
    let want = Packet {
        peer: Addr::v4([192, 0, 2, 1]),
        peer_port: 1000,
        local_port: 443,
        protocol: PROTOCOL_TCP,
    };
    assert_eq!(headers.coming_in(), want);
    let headers = Headers::v6(&words(v6())).expect("plain");
    assert_eq!(headers.source, Addr::v6([1; 16]));
    assert_eq!(headers.destination, Addr::v6([2; 16]));
    assert_eq!((headers.source_port, headers.destination_port), (1000, 443));
}

#[test]
fn header_that_is_not_plain_is_refused() {
    for (at, value, reason) in [
        (0, 0x46, Reason::HeaderNotPlain),
        (0, 0x44, Reason::HeaderNotPlain),
        (0, 0x65, Reason::HeaderNotPlain),
        (6, 0x20, Reason::Fragment),
        (6, 0x01, Reason::Fragment),
        (7, 0x01, Reason::Fragment),
        (9, 1, Reason::ProtocolNotSupported),
        (9, 136, Reason::ProtocolNotSupported),
    ] {
        let mut bytes = v4();
        bytes[at] = value;
        assert_eq!(Headers::v4(&words(bytes)), Err(reason), "{at} {value}");
    }
    for (at, value, reason) in [
        (0, 0x40, Reason::HeaderNotPlain),
        (6, 43, Reason::HeaderNotPlain),
        (6, 0, Reason::HeaderNotPlain),
        (6, 60, Reason::HeaderNotPlain),
        (6, 58, Reason::HeaderNotPlain),
        (6, 44, Reason::Fragment),
    ] {
        let mut bytes = v6();
        bytes[at] = value;
        assert_eq!(Headers::v6(&words(bytes)), Err(reason), "{at} {value}");
    }
}

proptest! {
    #[test]
    fn headers_of_any_bytes_are_those_bytes_or_none(bytes in any::<[u8; 24]>()) {
        if let Ok(headers) = Headers::v4(&words(bytes)) {
            prop_assert_eq!(bytes[0], 0x45);
            prop_assert_eq!(bytes[6] & 0x3f | bytes[7], 0);
            prop_assert_eq!(headers.protocol, u16::from(bytes[9]));
            prop_assert_eq!(&headers.source.octets[..4], &bytes[12..16]);
            prop_assert_eq!(&headers.destination.octets[..4], &bytes[16..20]);
        }
    }

    /// Whatever the record says, a packet to a peer that neither it nor the rules know is dropped.
    #[test]
    fn packet_of_an_unknown_peer_never_passes(
        flags in 0..8_u32,
        policy_id in 0..3_u32,
        chain in prop::sample::select(vec![0, CHAIN]),
        protocol in prop::sample::select(vec![PROTOCOL_TCP, PROTOCOL_UDP]),
        state in prop::sample::select(vec![
            SocketState::Connecting, SocketState::Listening, SocketState::Other,
        ]),
        egress in any::<bool>(),
    ) {
        let record = SocketRecord { chain, ..record(flags, policy_id, listed()) };
        let direction = if egress { Direction::Egress } else { Direction::Ingress };
        let packet = packet(unlisted(), 443, protocol);
        let got = judge(&World::default(), &sandbox(), (&record, state), (direction, &packet));
        prop_assert!(!got.verdict.is_allowed(), "{:?}", got);
        prop_assert_eq!(got.keep, Keep::Nothing);
    }
}

#[test]
fn rule_that_denies_holds_for_packets_of_flows_that_were_allowed() {
    for world in [denying(true), denying(false)] {
        for (protocol, direction) in [(PROTOCOL_TCP, out as Judged), (PROTOCOL_UDP, in_)] {
            let judged = record(RECORD_JUDGED, OLD, listed());
            let packet = packet(listed(), 443, protocol);
            drops(direction(&world, &judged, &packet), Reason::PolicyChanged);
        }
        // A datagram of a socket that talks with several.
        let elsewhere = record(RECORD_JUDGED, NOW, unlisted());
        let packet = packet(listed(), 443, PROTOCOL_UDP);
        drops(out(&world, &elsewhere, &packet), Reason::DeniedByRule);
    }
}

type Judged = fn(&World, &SocketRecord, &Packet) -> PacketVerdict;

#[test]
fn nobody_answers_a_peer_that_a_rule_denies() {
    let answer = Packet {
        local_port: 8080,
        ..packet(listed(), 443, PROTOCOL_UDP)
    };
    let heard = UdpPeerValue {
        policy_id: OLD,
        why: PEER_CAME_IN,
    };
    let known = Some(heard);
    let open = World {
        known,
        ..World::default()
    };
    let unjudged = SocketRecord::ZERO;
    passes(out(&open, &unjudged, &answer), Keep::Known(PEER_CAME_IN));
    let deny_all = World {
        known,
        ..denying(true)
    };
    drops(out(&deny_all, &unjudged, &answer), Reason::DeniedByRule);
    let judged = record(RECORD_JUDGED, NOW, unlisted());
    let deny_it = World {
        known,
        ..denying(false)
    };
    drops(out(&deny_it, &judged, &answer), Reason::DeniedByRule);
    // Who may come in `ingress` says.
    passes(
        in_(&deny_all, &unjudged, &answer),
        Keep::Known(PEER_CAME_IN),
    );

    let called = |is_denied| {
        let world = World {
            known: Some(UdpPeerValue {
                policy_id: NOW,
                ..heard
            }),
            ..World::default()
        };
        allowed_by_peer(&world, (&answer, is_denied), (NOW, 0))
    };
    assert_eq!(called(false), Some(Reason::IngressRule));
    assert_eq!(called(true), None);
}

#[test]
fn own_socket_is_reached_whatever_a_rule_denies() {
    let world = World {
        own: true,
        ..denying(true)
    };
    let packet = packet(Addr::v4([127, 0, 0, 1]), 443, PROTOCOL_TCP);
    let got = allowed_by_peer(&world, (&packet, true), (NOW, 0));
    assert_eq!(got, Some(Reason::OwnSandbox));
}
