//! Packets of a flow that was decided before and that nothing has changed for: nearly all of them.
//!
//! Whose the packet is, its socket's record tells, and whether the policy of then is the one of now, an
//! array: no hash is computed. What does not match here is looked at by [`crate::packet`] from the
//! beginning, so that nothing is dropped here and a doubt costs time only.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use clawd_common::{
    packet::{Direction, Headers, Packet, V4_WORDS, V6_WORDS},
    record::SocketRecord,
};

use crate::{
    maps::IN_FORCE,
    packet::{IPPROTO_TCP, TCP_LISTEN, full_socket},
    socket,
};

/// Whether the packet passes by what was decided before.
#[inline(always)]
pub fn is_as_before(skb: *mut __sk_buff, direction: Direction) -> bool {
    let sk = full_socket(skb);
    let record = socket::record(sk, None);
    // SAFETY: null or the record of the packet's socket, live as long as the packet.
    let Some(record) = (unsafe { record.as_ref() }) else {
        return false;
    };
    let policy_id = policy_in_force(record);
    if policy_id == 0 {
        return false;
    }
    let Some(headers) = headers(skb) else {
        return false;
    };
    let packet = match direction {
        Direction::Egress => headers.going_out(),
        Direction::Ingress => headers.coming_in(),
    };
    let peer = (&packet.peer, packet.peer_port);
    !listens(sk, &packet) && socket::is_decided(record, peer, policy_id)
}

/// The policy of the sandbox whose socket it is; 0 where `SANDBOX` must be asked.
#[inline(always)]
pub fn policy_in_force(record: &SocketRecord) -> u32 {
    // Of a socket that `socket(2)` made, or accepted from one: it is the sandbox's whose cgroup it is in.
    let slot = u32::from(record.slot);
    if slot == 0 {
        return 0;
    }
    match IN_FORCE.get(slot) {
        // SAFETY: the map's value, which others write whole.
        Some(policy_id) => unsafe { core::ptr::from_ref(policy_id).read_volatile() },
        None => 0,
    }
}

/// Whether the socket waits for connections: what its record says is of one that it had before.
#[inline(always)]
fn listens(sk: *mut bpf_sock, packet: &Packet) -> bool {
    // SAFETY: not null, as it has a record; the verifier checks the access.
    packet.protocol == IPPROTO_TCP && unsafe { (*sk).state } == TCP_LISTEN
}

/// The headers where they are plain and lie in the packet's first piece.
#[inline(always)]
fn headers(skb: *mut __sk_buff) -> Option<Headers> {
    // SAFETY: the context is live for this run; the verifier knows what its members are.
    let context = unsafe { &*skb };
    let (start, end) = (context.data as usize, context.data_end as usize);
    let words: *const u32 = core::ptr::with_exposed_provenance(start);
    if start + V4_WORDS * size_of::<u32>() > end {
        return None;
    }
    let first = word(words, 0);
    if first.to_ne_bytes()[0] >> 4 == 4 {
        let words = [
            first,
            word(words, 1),
            word(words, 2),
            word(words, 3),
            word(words, 4),
            word(words, 5),
        ];
        return Headers::v4(&words).ok();
    }
    if start + V6_WORDS * size_of::<u32>() > end {
        return None;
    }
    let mut all = [first; V6_WORDS];
    for (index, slot) in all.iter_mut().enumerate().skip(1) {
        *slot = word(words, index);
    }
    Headers::v6(&all).ok()
}

/// A word of the packet, below what the caller compared with its end. An IP header is aligned to words
/// (`NET_IP_ALIGN`, include/linux/skbuff.h, v6.12), or the machine does not care.
#[inline(always)]
fn word(words: *const u32, index: usize) -> u32 {
    // SAFETY: inside the packet, as the verifier has seen; volatile, one load each.
    unsafe { words.wrapping_add(index).read_volatile() }
}
