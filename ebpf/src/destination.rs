//! Where a call would go: the address that it asks for, or the one that the kernel would put in its place.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    programs::SockAddrContext,
};
use clawd_common::addr::Addr;

/// Where `dst_ip6` and `src_ip6` are in `struct bpf_sock`, in words of 32 bits.
const DST_IP6_WORD: usize = core::mem::offset_of!(bpf_sock, dst_ip6) / 4;
const SRC_IP6_WORD: usize = core::mem::offset_of!(bpf_sock, src_ip6) / 4;
/// include/net/flow.h, v6.12.
const LOOPBACK_IFINDEX: u32 = 1;
/// The third word of a mapped IPv4 address (RFC 4291, 2.5.5.2), as it lies in memory.
const MAPPED: u32 = 0xffff_u32.to_be();

/// The call.
#[inline(always)]
pub fn request(ctx: &SockAddrContext) -> &bpf_sock_addr {
    // SAFETY: the context is live for this run; the verifier checks every access.
    unsafe { &*ctx.sock_addr }
}

/// The socket, as the kernel sets it in all of these hooks.
#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: reading a context field.
    unsafe { request(ctx).__bindgen_anon_1.sk }
}

/// The requested IPv4 address; `user_ip4` holds it in network byte order, as `source` is. In the place of
/// 0.0.0.0 the kernel puts the source, if there is one, else an address of the interface that the socket
/// is bound to, which hooks are not told, else that of loopback (`ip_route_output_key_hash_rcu` in
/// net/ipv4/route.c, v6.12).
#[inline(always)]
pub fn requested4(ctx: &SockAddrContext, source: u32, scope_id: u32) -> Addr {
    let requested = request(ctx).user_ip4;
    let address = if requested == 0 { source } else { requested };
    if address == 0 && scope_id > LOOPBACK_IFINDEX {
        return Addr::UNSPECIFIED_V4;
    }
    Addr::v4(address.to_ne_bytes())
}

/// The IPv4 address that the socket is bound to, in network byte order; 0 for none.
#[inline(always)]
pub fn bound4(sk: *mut bpf_sock) -> u32 {
    if sk.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier checks the access.
    unsafe { (*sk).src_ip4 }
}

/// The octets of the requested IPv6 address, word by word: the verifier takes no wider load of the
/// context.
#[inline(always)]
pub fn requested6(ctx: &SockAddrContext, raw: &mut Addr) {
    let words = &request(ctx).user_ip6;
    for (i, word) in words.iter().enumerate() {
        // SAFETY: a `u32` load at a constant index of the context, volatile so that LLVM does not
        // join two of them to a wider one.
        let word = unsafe { core::ptr::read_volatile(word) };
        put_word(raw, i, word);
    }
}

/// The canonical destination of a `connect(2)` to an IPv6 address; returns its family.
#[inline(always)]
pub fn connects6(ctx: &SockAddrContext, raw: &mut Addr) -> u32 {
    requested6(ctx, raw);
    let is_unknown = is_unspecified(raw) && stand_in(socket(ctx), raw) == 0;
    let family = canonicalise(raw);
    if is_unknown {
        // It was made loopback, and is none: see `Addr::UNSPECIFIED_V4`.
        put_word(raw, 0, 0);
    }
    family
}

/// Whether an IPv6 address, as it was asked for, is `::` or `::ffff:0.0.0.0`.
#[inline(always)]
fn is_unspecified(raw: &Addr) -> bool {
    word(raw, 0) | word(raw, 1) | word(raw, 3) == 0 && (word(raw, 2) == 0 || word(raw, 2) == MAPPED)
}

/// Puts what the kernel will in the place of an unspecified IPv6 address, where it is not `::1`: what the
/// socket is bound to, or IPv4's loopback for a socket that is bound to an IPv4 address
/// (`tcp_v6_connect` in net/ipv6/tcp_ipv6.c, v6.12). 0 where that cannot be known, else 1.
#[inline(never)]
fn stand_in(sk: *mut bpf_sock, raw: &mut Addr) -> u32 {
    if sk.is_null() {
        return 0;
    }
    if word(raw, 2) == MAPPED {
        let source = bound4(sk);
        put_word(raw, 3, source);
        return u32::from(source != 0 || bound_interface(sk) <= LOOPBACK_IFINDEX);
    }
    let mut source = Addr::ZERO;
    for i in 0..4 {
        let at = sk.cast::<u32>().wrapping_add(SRC_IP6_WORD + i);
        // SAFETY: one of the four words of `src_ip6` of a socket that is not null; volatile, as in
        // `requested6`.
        put_word(&mut source, i, unsafe { core::ptr::read_volatile(at) });
    }
    if word(&source, 0) | word(&source, 1) == 0 && word(&source, 2) == MAPPED {
        put_word(raw, 2, MAPPED);
    }
    1
}

/// Makes the octets of an IPv6 address a canonical address; returns its family.
#[inline(never)]
pub fn canonicalise(raw: &mut Addr) -> u32 {
    let addr = Addr::v6(raw.octets);
    keep(&addr, raw);
    raw.family
}

/// The address that the socket is connected to. The kernel runs the hooks for datagrams also where
/// a connected socket sends with ancillary data, and then shows no address (`udp_sendmsg` in
/// net/ipv4/udp.c, v6.12); a socket that is not connected shows zeros.
#[inline(always)]
pub fn peer4(ctx: &SockAddrContext) -> Addr {
    let sk = socket(ctx);
    if sk.is_null() {
        return Addr::ZERO;
    }
    // SAFETY: not null; the verifier checks the access.
    let addr = unsafe { (*sk).dst_ip4 };
    Addr::v4(addr.to_ne_bytes())
}

/// As [`peer4`], but the octets alone; zeros where there is no socket.
#[inline(always)]
pub fn connected6(ctx: &SockAddrContext, raw: &mut Addr) {
    let sk = socket(ctx);
    if sk.is_null() {
        return;
    }
    for i in 0..4 {
        let at = sk.cast::<u32>().wrapping_add(DST_IP6_WORD + i);
        // SAFETY: one of the four words of `dst_ip6` of a socket that is not null; volatile, as in
        // `requested6`.
        let word = unsafe { core::ptr::read_volatile(at) };
        put_word(raw, i, word);
    }
}

/// The port that the socket is connected to.
#[inline(always)]
pub fn peer_port(ctx: &SockAddrContext) -> u16 {
    let sk = socket(ctx);
    if sk.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier checks the access.
    u16::from_be(unsafe { (*sk).dst_port })
}

/// The requested port.
#[inline(always)]
pub fn port(ctx: &SockAddrContext) -> u16 {
    u16::from_be(request(ctx).user_port as u16)
}

/// The interface that the socket is bound to. `sin6_scope_id` is not shown to these hooks, so
/// link-local destinations need `SO_BINDTODEVICE`.
#[inline(always)]
pub fn bound_interface(sk: *mut bpf_sock) -> u32 {
    if sk.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier checks the access.
    unsafe { (*sk).bound_dev_if }
}

/// Copies an address by words that the compiler must leave in memory: taken apart into octets, it takes
/// eight times its room on the stack.
#[inline(always)]
pub fn keep(from: &Addr, to: &mut Addr) {
    const WORDS: usize = size_of::<Addr>() / size_of::<u32>();
    let (from, to): (*const u32, *mut u32) = (
        core::ptr::from_ref(from).cast(),
        core::ptr::from_mut(to).cast(),
    );
    for i in 0..WORDS {
        // SAFETY: inside the address, which is whole words (its layout is asserted).
        let word = unsafe { from.wrapping_add(i).read_volatile() };
        // SAFETY: as above.
        unsafe { to.wrapping_add(i).write_volatile(word) };
    }
}

/// One word of an address's octets, as it lies in memory.
#[inline(always)]
fn word(addr: &Addr, index: usize) -> u32 {
    let octets: *const u32 = (&raw const addr.octets).cast();
    // SAFETY: as in `put_word`.
    unsafe { octets.wrapping_add(index & 3).read_volatile() }
}

/// Stores one word of an address so that the compiler leaves it in memory, see [`keep`].
#[inline(always)]
fn put_word(addr: &mut Addr, index: usize, word: u32) {
    let octets: *mut u32 = (&raw mut addr.octets).cast();
    // SAFETY: one of the four words of the octets, which are aligned as words are (asserted in the
    // address's layout: offset 4, alignment 4).
    unsafe { octets.wrapping_add(index & 3).write_volatile(word) };
}
