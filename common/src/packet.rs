//! Packets: what their headers say, and the decision on each.
//!
//! The hooks of `connect` and `sendmsg` decide once and write down in the socket's record what was
//! decided. A packet is compared with that; where it was decided under another policy, or not at
//! all, it is decided here, with the identity that the record holds: in the softirq that sends a
//! packet the current task is anybody.

use crate::{
    addr::{Addr, AddrKind, FAMILY_V4, FAMILY_V6},
    decide::AddressKey,
    decide::{INGRESS, PROTOCOL_TCP, PROTOCOL_UDP, Query, Tables, decide, rule},
    record::{
        PEER_CAME_IN, PEER_OWN, PEER_WENT_OUT, RECORD_JUDGED, RECORD_OWN_PEER, RECORD_PASSIVE,
        SANDBOX_OWN_LOOPBACK, SandboxValue, SocketRecord, UdpPeerValue,
    },
    verdict::{Action, NO_GRANT, Reason, Verdict},
};

/// 32-bit words of an IPv4 header without options, and of the ports behind it.
pub const V4_WORDS: usize = 6;
/// 32-bit words of an IPv6 header, and of the ports behind it.
pub const V6_WORDS: usize = 11;

/// Addresses and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Where it comes from.
    pub source: Addr,
    /// Where it goes to.
    pub destination: Addr,
    /// Port at the source.
    pub source_port: u16,
    /// Port at the destination.
    pub destination_port: u16,
    /// [`PROTOCOL_TCP`] or [`PROTOCOL_UDP`].
    pub protocol: u16,
}

impl Headers {
    /// Reads an IPv4 header (RFC 791, 3.1) and the ports behind it: words as they lie in memory.
    ///
    /// # Errors
    /// A reason to drop the packet: it is a fragment, has options (a source route is one), or is
    /// neither TCP nor UDP.
    #[inline(always)]
    pub const fn v4(words: &[u32; V4_WORDS]) -> Result<Self, Reason> {
        /// Version 4, five words of header.
        const PLAIN: u32 = 0x45;
        /// More fragments, and the offset of this one.
        const FRAGMENT: u32 = 0x3fff;
        if u32::from_be(words[0]) >> 24 != PLAIN {
            return Err(Reason::HeaderNotPlain);
        }
        if u32::from_be(words[1]) & FRAGMENT != 0 {
            return Err(Reason::Fragment);
        }
        let protocol = (u32::from_be(words[2]) >> 16 & 0xff) as u16;
        if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
            return Err(Reason::ProtocolNotSupported);
        }
        let ports = u32::from_be(words[5]);
        Ok(Self {
            source: addr(FAMILY_V4, [words[3], 0, 0, 0]),
            destination: addr(FAMILY_V4, [words[4], 0, 0, 0]),
            source_port: (ports >> 16) as u16,
            destination_port: (ports & 0xffff) as u16,
            protocol,
        })
    }

    /// Reads an IPv6 header (RFC 8200, 3) and the ports behind it: words as they lie in memory.
    ///
    /// # Errors
    /// A reason to drop the packet: anything but TCP or UDP is behind the header. An extension
    /// header may route it past the destination (RFC 8200, 4.4), or be a fragment.
    #[inline(always)]
    pub const fn v6(words: &[u32; V6_WORDS]) -> Result<Self, Reason> {
        /// IPv6's fragment header.
        const FRAGMENT: u16 = 44;
        if u32::from_be(words[0]) >> 28 != 6 {
            return Err(Reason::HeaderNotPlain);
        }
        let protocol = (u32::from_be(words[1]) >> 8 & 0xff) as u16;
        if protocol == FRAGMENT {
            return Err(Reason::Fragment);
        }
        if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
            return Err(Reason::HeaderNotPlain);
        }
        let ports = u32::from_be(words[10]);
        Ok(Self {
            source: addr(FAMILY_V6, [words[2], words[3], words[4], words[5]]),
            destination: addr(FAMILY_V6, [words[6], words[7], words[8], words[9]]),
            source_port: (ports >> 16) as u16,
            destination_port: (ports & 0xffff) as u16,
            protocol,
        })
    }

    /// The packet as the sandbox that sends it sees it.
    #[must_use]
    #[inline(always)]
    pub const fn going_out(&self) -> Packet {
        Packet {
            peer: self.destination,
            peer_port: self.destination_port,
            local_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// The packet as the sandbox that gets it sees it.
    #[must_use]
    #[inline(always)]
    pub const fn coming_in(&self) -> Packet {
        Packet {
            peer: self.source,
            peer_port: self.source_port,
            local_port: self.destination_port,
            protocol: self.protocol,
        }
    }
}

/// An address from its words as they lie in memory. It stays as it is: the kernel has made it
/// canonical, and what is not matches nothing that was decided.
#[inline(always)]
const fn addr(family: u32, words: [u32; 4]) -> Addr {
    // SAFETY: both are 16 bytes of integers. (Taken apart and put together byte by byte, it does not
    // fit a program's stack.)
    let octets = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) };
    Addr { family, octets }
}

/// A packet as a sandbox sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The other side.
    pub peer: Addr,
    /// The other side's port.
    pub peer_port: u16,
    /// The sandbox's own port.
    pub local_port: u16,
    /// [`PROTOCOL_TCP`] or [`PROTOCOL_UDP`].
    pub protocol: u16,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Out of the sandbox.
    Egress,
    /// Into it.
    Ingress,
}

/// What a socket does, as far as packets depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// TCP: connects, and is not connected.
    Connecting,
    /// TCP: listens.
    Listening,
    /// Anything else.
    Other,
}

/// What the kernel knows besides the rules.
pub trait Peers {
    /// Whether the other side is a socket of the same sandbox, on the loopback of a shared network.
    fn is_own(&self, packet: &Packet) -> bool;
    /// What is known of this datagram socket and the other side.
    fn known(&self, packet: &Packet) -> Option<UdpPeerValue>;
}

/// What is to be written down, so that the next packet need not be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// The record holds under the present policy too.
    Policy,
    /// The record is of this peer now, with these `RECORD_*` bits.
    Peer(u32),
    /// The datagram socket may hear from this peer, and answer it, for one of the `PEER_*` reasons.
    Known(u32),
}

/// The outcome for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct PacketVerdict {
    /// Passed or dropped.
    pub verdict: Verdict,
    /// What to write down.
    pub keep: Keep,
}

impl PacketVerdict {
    /// It is as it was decided before.
    const AS_BEFORE: Self = Self::pass(Reason::Rule, Keep::Nothing);

    const fn pass(reason: Reason, keep: Keep) -> Self {
        Self {
            verdict: allow(reason),
            keep,
        }
    }

    const fn drop(reason: Reason) -> Self {
        Self {
            verdict: Verdict::deny(reason),
            keep: Keep::Nothing,
        }
    }
}

/// What allows a call that the rules do not allow: the other side is the sandbox's own, or spoke first;
/// `is_denied` says that a rule denies it, which the latter does not change. Pure; `None` leaves the
/// denial as it is.
#[inline(always)]
pub fn allowed_by_peer<T: Peers>(
    peers: &T,
    (packet, is_denied): (&Packet, bool),
    (policy_id, scope_id): (u32, u32),
) -> Option<Reason> {
    if matches!(packet.peer.kind(scope_id), AddrKind::Loopback) && peers.is_own(packet) {
        return Some(Reason::OwnSandbox);
    }
    if packet.protocol == PROTOCOL_UDP
        && !is_denied
        && let Some(known) = peers.known(packet)
        && known.why == PEER_CAME_IN
        && known.policy_id == policy_id
    {
        return Some(Reason::IngressRule);
    }
    None
}

#[inline(always)]
const fn allow(reason: Reason) -> Verdict {
    Verdict {
        action: Action::Allowed,
        reason,
        grant_index: NO_GRANT,
    }
}

/// What the rules are asked about a packet.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// May the sandbox reach the peer? And what is kept if so.
    out: Option<Keep>,
    /// Else: may the peer reach the sandbox? And what is kept if so.
    in_: Option<Keep>,
    /// Why it is dropped, where that is not for the rules to say.
    otherwise: Option<Reason>,
}

impl Question {
    const fn out(keep: Keep) -> Self {
        Self {
            out: Some(keep),
            in_: None,
            otherwise: None,
        }
    }

    const fn in_(keep: Keep) -> Self {
        Self {
            out: None,
            in_: Some(keep),
            otherwise: None,
        }
    }
}

/// Decides one packet of a socket that has a record. Pure; drops whatever was not allowed.
#[inline(always)]
pub fn judge<T: Tables + Peers>(
    tables: &T,
    sandbox: &SandboxValue,
    (record, state): (&SocketRecord, SocketState),
    (direction, packet): (Direction, &Packet),
) -> PacketVerdict {
    let question = match question(tables, sandbox, (record, state), (direction, packet)) {
        Ok(question) => question,
        Err(known) => return known,
    };
    let mut verdict = Verdict::deny(Reason::Unknown);
    if let Some(keep) = question.out {
        verdict = decide(tables, &query(sandbox, record, packet));
        if verdict.is_allowed() {
            return PacketVerdict { verdict, keep };
        }
    }
    let is_denied =
        matches!(direction, Direction::Egress) && matches!(verdict.reason, Reason::DeniedByRule);
    if let Some(keep) = question.in_
        && !is_denied
    {
        verdict = ingress(tables, sandbox, packet);
        if verdict.is_allowed() {
            let keep = match (keep, verdict.reason) {
                (Keep::Peer(flags), Reason::OwnSandbox) => Keep::Peer(flags | RECORD_OWN_PEER),
                (Keep::Known(_), Reason::OwnSandbox) => Keep::Known(PEER_OWN),
                (keep, _) => keep,
            };
            return PacketVerdict { verdict, keep };
        }
    }
    PacketVerdict::drop(match question.otherwise {
        Some(reason) => reason,
        None => verdict.reason,
    })
}

/// What to ask the rules.
///
/// # Errors
/// The verdict, where there is nothing to ask.
#[inline(always)]
fn question<T: Tables + Peers>(
    tables: &T,
    sandbox: &SandboxValue,
    (record, state): (&SocketRecord, SocketState),
    (direction, packet): (Direction, &Packet),
) -> Result<Question, PacketVerdict> {
    // What a listener's record says is of a connection that it had before.
    let same_peer = record.flags & (RECORD_JUDGED | RECORD_PASSIVE) != 0
        && !matches!(state, SocketState::Listening)
        && record.peer_port == packet.peer_port
        && record.peer.is(&packet.peer);
    if same_peer && record.flags & RECORD_OWN_PEER != 0 {
        return own_again(tables, state, (direction, packet));
    }
    if same_peer {
        return again(sandbox, record);
    }
    if packet.protocol == PROTOCOL_UDP {
        return datagram(tables, sandbox, record, (direction, packet));
    }
    match state {
        // `connect` writes the record before the first packet.
        SocketState::Connecting => Err(PacketVerdict::drop(Reason::UnjudgedSocket)),
        // It has many peers; each is decided.
        SocketState::Listening => Ok(Question::in_(Keep::Nothing)),
        // What a listener accepted: the record is a copy of the listener's.
        SocketState::Other => Ok(Question::in_(Keep::Peer(RECORD_PASSIVE))),
    }
}

/// The flow of a record whose other side was the sandbox's own: no policy speaks of that while it is.
/// A connection that is made has one other side for good. Else a service of the host may be at that
/// place by now, or get what was meant for one of several that share it.
#[inline(always)]
fn own_again<T: Tables + Peers>(
    tables: &T,
    state: SocketState,
    (direction, packet): (Direction, &Packet),
) -> Result<Question, PacketVerdict> {
    let is_made = packet.protocol == PROTOCOL_TCP && !matches!(state, SocketState::Connecting);
    if is_made || matches!(direction, Direction::Ingress) || tables.is_own(packet) {
        return Err(PacketVerdict::pass(Reason::OwnSandbox, Keep::Nothing));
    }
    Ok(Question::out(Keep::Nothing))
}

/// The flow of the record.
#[inline(always)]
const fn again(sandbox: &SandboxValue, record: &SocketRecord) -> Result<Question, PacketVerdict> {
    if record.policy_id == sandbox.policy_id {
        return Err(PacketVerdict::AS_BEFORE);
    }
    let question = if record.flags & RECORD_PASSIVE != 0 {
        Question::in_(Keep::Policy)
    } else {
        Question::out(Keep::Policy)
    };
    Ok(Question {
        otherwise: Some(Reason::PolicyChanged),
        ..question
    })
}

/// A datagram of another peer than the record's: of a socket that several threads use, or that talks
/// with several.
#[inline(always)]
fn datagram<T: Tables + Peers>(
    tables: &T,
    sandbox: &SandboxValue,
    record: &SocketRecord,
    (direction, packet): (Direction, &Packet),
) -> Result<Question, PacketVerdict> {
    let (known_under, why) = match tables.known(packet) {
        Some(known) => (known.policy_id, known.why),
        None => (0, 0),
    };
    let was_own = why == PEER_OWN && matches!(direction, Direction::Egress);
    if was_own && tables.is_own(packet) {
        return Err(PacketVerdict::pass(Reason::OwnSandbox, Keep::Nothing));
    }
    // No policy has the number 0.
    if known_under == sandbox.policy_id && !was_own {
        return Err(PacketVerdict::AS_BEFORE);
    }
    let judged = record.flags & RECORD_JUDGED != 0;
    let came_in = Some(Keep::Known(PEER_CAME_IN));
    let went_out = Some(Keep::Known(PEER_WENT_OUT));
    match direction {
        // What goes to a peer that spoke first is an answer; nobody answers whom a rule denies.
        Direction::Egress if why == PEER_CAME_IN => Ok(Question {
            out: came_in,
            in_: came_in,
            otherwise: None,
        }),
        Direction::Egress if !judged => Err(PacketVerdict::drop(Reason::UnjudgedSocket)),
        Direction::Egress => Ok(Question {
            out: went_out,
            in_: None,
            otherwise: None,
        }),
        Direction::Ingress => Ok(Question {
            out: if judged && why == PEER_WENT_OUT {
                went_out
            } else {
                None
            },
            in_: came_in,
            otherwise: None,
        }),
    }
}

/// Whether a peer may reach a port of the sandbox.
#[inline(always)]
pub fn ingress<T: Tables + Peers>(tables: &T, sandbox: &SandboxValue, packet: &Packet) -> Verdict {
    // Nobody else is in a network of its own.
    if sandbox.flags & SANDBOX_OWN_LOOPBACK != 0 {
        return allow(Reason::OwnLoopback);
    }
    if matches!(packet.peer.kind(1), AddrKind::Loopback) && tables.is_own(packet) {
        return allow(Reason::OwnSandbox);
    }
    let policy_id = sandbox.policy_id;
    let address_class = tables.address_class(&AddressKey {
        policy_id,
        addr: packet.peer,
    });
    let service = (packet.protocol | INGRESS, packet.local_port);
    if address_class != 0 && rule(tables, (policy_id, address_class), service).is_some() {
        return allow(Reason::IngressRule);
    }
    Verdict::deny(Reason::IngressNotListed)
}

#[inline(always)]
fn query(sandbox: &SandboxValue, record: &SocketRecord, packet: &Packet) -> Query {
    Query {
        policy_id: sandbox.policy_id,
        sandbox_flags: sandbox.flags,
        chain: record.chain,
        // The request named an interface where one is needed: without one it was refused.
        scope_id: 1,
        addr: packet.peer,
        port: packet.peer_port,
        protocol: packet.protocol,
    }
}

#[cfg(test)]
mod tests;
