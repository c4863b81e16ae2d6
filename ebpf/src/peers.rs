//! The other side of a flow: whether it is the same sandbox, and whether it was heard of before.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{
        BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::generated::{
        bpf_get_socket_cookie, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release,
    },
};
use clawd_common::{
    addr::{Addr, FAMILY_V4},
    decide::{AddressKey, MaskKey, MaskValue, PROTOCOL_UDP, PortKey, RuleKey, RuleValue, Tables},
    packet::{Packet, Peers},
    record::{UdpPeerKey, UdpPeerValue},
};

use crate::{maps::UDP_PEER, socket, tables::KernelTables};

/// Words of a [`bpf_sock_tuple`].
const TUPLE_WORDS: usize = size_of::<bpf_sock_tuple>() / size_of::<u32>();
/// Bytes of the IPv4 and the IPv6 form of `struct bpf_sock_tuple`.
const TUPLE4_BYTES: u32 = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32;
const TUPLE6_BYTES: u32 = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>() as u32;

/// The rules, and the flow of one packet.
pub struct Flow {
    /// The context of the hook.
    pub ctx: *mut core::ffi::c_void,
    /// The sandbox whose packet it is.
    pub sandbox_id: u32,
    /// Its own address.
    pub local: Addr,
}

impl Tables for Flow {
    #[inline(always)]
    fn address_class(&self, key: &AddressKey) -> u32 {
        address_class(key)
    }

    #[inline(always)]
    fn port_class(&self, key: &PortKey) -> u32 {
        KernelTables.port_class(key)
    }

    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<&RuleValue> {
        KernelTables::find_rule(key)
    }

    #[inline(always)]
    fn mask(&self, key: &MaskKey) -> Option<&MaskValue> {
        KernelTables::find_mask(key)
    }
}

impl Peers for Flow {
    #[inline(always)]
    fn is_own(&self, packet: &Packet) -> bool {
        has_own_socket(self, packet)
    }

    #[inline(always)]
    fn known(&self, packet: &Packet) -> Option<UdpPeerValue> {
        match known(self.ctx, packet) {
            0 => None,
            both => Some(UdpPeerValue {
                policy_id: (both >> 32) as u32,
                why: both as u32,
            }),
        }
    }
}

#[inline(always)]
fn key(ctx: *mut core::ffi::c_void, peer: Addr, peer_port: u16) -> UdpPeerKey {
    // SAFETY: every context that comes here has a socket.
    let cookie = unsafe { bpf_get_socket_cookie(ctx) };
    UdpPeerKey {
        cookie,
        peer,
        peer_port,
        reserved: 0,
    }
}

/// The trie's key has room on a stack frame of its own.
#[inline(never)]
fn address_class(key: &AddressKey) -> u32 {
    KernelTables.address_class(key)
}

/// Both words of the entry, the policy's above the reason's; 0 for none. As a function of its own it
/// has a stack frame of its own.
#[inline(never)]
fn known(ctx: *mut core::ffi::c_void, packet: &Packet) -> u64 {
    // SAFETY: the value is only read, and copied.
    match unsafe { UDP_PEER.get(key(ctx, packet.peer, packet.peer_port)) } {
        Some(value) => u64::from(value.policy_id) << 32 | u64::from(value.why),
        None => 0,
    }
}

/// Remembers whom a datagram socket talks with. Old conversations give way, so it does not fail but
/// for want of memory: 0.
#[inline(never)]
pub fn remember(
    ctx: *mut core::ffi::c_void,
    peer: &Addr,
    peer_port: u16,
    policy_id: u32,
    why: u32,
) -> u32 {
    let value = UdpPeerValue { policy_id, why };
    let key = key(ctx, *peer, peer_port);
    // To look costs less than to write, and keeps the entry from giving way too.
    // SAFETY: the value is only read.
    if let Some(known) = unsafe { UDP_PEER.get(key) }
        && known.policy_id == policy_id
        && known.why == why
    {
        return 1;
    }
    match UDP_PEER.insert(key, value, 0) {
        Ok(()) => 1,
        Err(_) => 0,
    }
}

/// Whether the socket that gets what is sent to the packet's peer is of the same sandbox. Only for
/// a peer on loopback: a listener on all addresses would be found for any other one too.
#[inline(never)]
pub fn has_own_socket(flow: &Flow, packet: &Packet) -> bool {
    let mut words = MaybeUninit::<[u32; TUPLE_WORDS]>::uninit();
    let tuple: *mut bpf_sock_tuple = words.as_mut_ptr().cast();
    fill(tuple.cast(), flow, packet);
    let size = if packet.peer.family == FAMILY_V4 {
        TUPLE4_BYTES
    } else {
        TUPLE6_BYTES
    };
    let netns = BPF_F_CURRENT_NETNS as i64 as u64;
    let sk = if packet.protocol == PROTOCOL_UDP {
        // SAFETY: the context is the hook's, the tuple of the size that is told.
        unsafe { bpf_sk_lookup_udp(flow.ctx, tuple, size, netns, 0) }
    } else {
        // SAFETY: as above.
        unsafe { bpf_sk_lookup_tcp(flow.ctx, tuple, size, netns, 0) }
    };
    if sk.is_null() {
        return false;
    }
    let own = is_of(sk, flow.sandbox_id);
    // SAFETY: the look-up's reference, given back once.
    unsafe { bpf_sk_release(sk.cast()) };
    own
}

#[inline(always)]
fn is_of(sk: *mut bpf_sock, sandbox_id: u32) -> bool {
    // SAFETY: null or the record of a socket that this run holds.
    match unsafe { socket::record(sk, None).as_ref() } {
        Some(record) => record.sandbox_id == sandbox_id,
        None => false,
    }
}

/// Writes `struct bpf_sock_tuple`, from the sandbox to the peer: addresses, then ports. Word by word, because
/// a call of `memset` would take the last 32 bytes of stack that 6.1 gives all functions together.
#[inline(always)]
fn fill(tuple: *mut u32, flow: &Flow, packet: &Packet) {
    let put = |index: usize, word: u32| {
        // SAFETY: below `TUPLE_WORDS`, which is how many there are.
        unsafe { tuple.wrapping_add(index).write_volatile(word) };
    };
    let ([a, b], [c, d]) = (
        packet.local_port.to_be_bytes(),
        packet.peer_port.to_be_bytes(),
    );
    let ports = u32::from_ne_bytes([a, b, c, d]);
    if packet.peer.family == FAMILY_V4 {
        put(0, word(&flow.local, 0));
        put(1, word(&packet.peer, 0));
        put(2, ports);
        for index in 3..TUPLE_WORDS {
            put(index, 0);
        }
    } else {
        for index in 0..4 {
            put(index, word(&flow.local, index * 4));
            put(4 + index, word(&packet.peer, index * 4));
        }
        put(8, ports);
    }
}

/// Four octets as they lie in memory.
#[inline(always)]
fn word(addr: &Addr, at: usize) -> u32 {
    let octets = &addr.octets;
    u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}
