//! `connect(2)` and datagrams with an address of their own: the verdict on a destination.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr},
    helpers::generated::bpf_sk_storage_get,
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use clawd_common::{
    addr::Addr,
    decide::{Query, decide},
    event::{Event, EventKind},
    record::{ProcessKey, SandboxValue, SocketRecord},
    verdict::{Reason, Verdict},
};

use crate::{
    emit,
    maps::{PROCESS, SOCKET},
    tables::KernelTables,
    task::{current_process, current_sandbox},
};

const AF_UNSPEC: u32 = 0;
/// Where `dst_ip6` is in `struct bpf_sock`, in words of 32 bits.
const DST_IP6_WORD: usize = core::mem::offset_of!(bpf_sock, dst_ip6) / 4;

/// `connect(2)` to an IPv4 address, on IPv6 sockets too.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, addr4(&ctx), port(&ctx), EventKind::Connect)
}

/// `connect(2)` to an IPv6 address, mapped IPv4 included.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, addr6(&ctx), port(&ctx), EventKind::Connect)
}

/// A datagram to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let (addr, port) = if request(&ctx).user_family == AF_UNSPEC {
        (peer4(&ctx), peer_port(&ctx))
    } else {
        (addr4(&ctx), port(&ctx))
    };
    judge(&ctx, addr, port, EventKind::Sendmsg)
}

/// A datagram to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let (addr, port) = if request(&ctx).user_family == AF_UNSPEC {
        (peer6(&ctx), peer_port(&ctx))
    } else {
        (addr6(&ctx), port(&ctx))
    };
    judge(&ctx, addr, port, EventKind::Sendmsg)
}

#[inline(always)]
fn request(ctx: &SockAddrContext) -> &bpf_sock_addr {
    // SAFETY: the context is live for this run; the verifier checks every access.
    unsafe { &*ctx.sock_addr }
}

/// The requested IPv4 address; `user_ip4` holds it in network byte order.
#[inline(always)]
fn addr4(ctx: &SockAddrContext) -> Addr {
    Addr::v4(request(ctx).user_ip4.to_ne_bytes())
}

/// The requested IPv6 address, word by word: the verifier takes no wider load of the context.
#[inline(always)]
fn addr6(ctx: &SockAddrContext) -> Addr {
    let words = &request(ctx).user_ip6;
    let mut octets = [0_u8; 16];
    for (i, word) in words.iter().enumerate() {
        // SAFETY: a `u32` load at a constant index of the context, volatile so that LLVM does not
        // join two of them to a wider one.
        let word = unsafe { core::ptr::read_volatile(word) };
        octets[4 * i..4 * i + 4].copy_from_slice(&word.to_ne_bytes());
    }
    Addr::v6(octets)
}

/// The socket, as the kernel sets it in all of these hooks.
#[inline(always)]
fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: reading a context field.
    unsafe { request(ctx).__bindgen_anon_1.sk }
}

/// The address that the socket is connected to. The kernel runs the hooks for datagrams also where
/// a connected socket sends with ancillary data, and then shows no address (`udp_sendmsg` in
/// net/ipv4/udp.c, v6.12); a socket that is not connected shows zeros.
#[inline(always)]
fn peer4(ctx: &SockAddrContext) -> Addr {
    let sk = socket(ctx);
    if sk.is_null() {
        return Addr::ZERO;
    }
    // SAFETY: not null; the verifier checks the access.
    let addr = unsafe { (*sk).dst_ip4 };
    Addr::v4(addr.to_ne_bytes())
}

/// As [`peer4`].
#[inline(always)]
fn peer6(ctx: &SockAddrContext) -> Addr {
    let sk = socket(ctx);
    if sk.is_null() {
        return Addr::ZERO;
    }
    let mut octets = [0_u8; 16];
    for i in 0..4 {
        let at = sk.cast::<u32>().wrapping_add(DST_IP6_WORD + i);
        // SAFETY: one of the four words of `dst_ip6` of a socket that is not null; volatile, as in
        // `addr6`.
        let word = unsafe { core::ptr::read_volatile(at) };
        octets[4 * i..4 * i + 4].copy_from_slice(&word.to_ne_bytes());
    }
    Addr::v6(octets)
}

/// The port that the socket is connected to.
#[inline(always)]
fn peer_port(ctx: &SockAddrContext) -> u16 {
    let sk = socket(ctx);
    if sk.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier checks the access.
    u16::from_be(unsafe { (*sk).dst_port })
}

/// The requested port.
#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    u16::from_be(request(ctx).user_port as u16)
}

/// Decides, reports, and answers as the kernel wants it: 1 goes on, 0 is EPERM.
#[inline(always)]
fn judge(ctx: &SockAddrContext, addr: Addr, port: u16, kind: EventKind) -> i32 {
    let mut event = Event::ZERO;
    event.addr = addr;
    event.port = port;
    event.protocol = request(ctx).protocol as u16;
    let verdict = verdict(ctx, &mut event);
    emit::verdict(&mut event, kind, verdict);
    if verdict.is_allowed() { 1 } else { 0 }
}

/// Finds out who asks, filling `event` as it goes, and decides.
#[inline(always)]
fn verdict(ctx: &SockAddrContext, event: &mut Event) -> Verdict {
    let Ok((process, tid)) = current_process() else {
        return Verdict::deny(Reason::NoProcessRecord);
    };
    event.process = process;
    event.tid = tid;
    let sk = socket(ctx);
    let current = current_sandbox();
    let Some(record) = socket_record(sk, current, process) else {
        return Verdict::deny(Reason::NoSocketRecord);
    };
    event.sandbox_id = record.sandbox_id;
    // Hooks follow the socket's cgroup, not the task's: both must be the same sandbox.
    let Some(sandbox) = current else {
        return Verdict::deny(Reason::ForeignSocket);
    };
    event.policy_id = sandbox.policy_id;
    if record.sandbox_id != sandbox.sandbox_id {
        return Verdict::deny(Reason::ForeignSocket);
    }
    // SAFETY: the value is only read; an update replaces the element.
    let Some(executes) = (unsafe { PROCESS.get(process) }) else {
        return Verdict::deny(Reason::NoProcessRecord);
    };
    event.file = executes.file;
    event.file_id = executes.file_id;
    let query = Query {
        policy_id: sandbox.policy_id,
        sandbox_flags: sandbox.flags,
        file_id: executes.file_id,
        scope_id: bound_interface(sk),
        addr: event.addr,
        port: event.port,
        protocol: event.protocol,
    };
    decide(&KernelTables, &query)
}

/// The interface that the socket is bound to. `sin6_scope_id` is not shown to these hooks, so
/// link-local destinations need `SO_BINDTODEVICE`.
#[inline(always)]
fn bound_interface(sk: *mut bpf_sock) -> u32 {
    if sk.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier checks the access.
    unsafe { (*sk).bound_dev_if }
}

/// The socket's record. A socket in a sandbox's cgroup that has none was made by the kernel itself
/// (an MPTCP subflow: `sock_create` hooks are not run for those); it is the current sandbox's.
#[inline(always)]
fn socket_record(
    sk: *mut bpf_sock,
    current: Option<&SandboxValue>,
    creator: ProcessKey,
) -> Option<&'static SocketRecord> {
    if sk.is_null() {
        return None;
    }
    let sandbox_id = match current {
        Some(sandbox) => sandbox.sandbox_id,
        None => 0,
    };
    let mut value = SocketRecord {
        sandbox_id,
        creator,
        ..SocketRecord::ZERO
    };
    // SAFETY: the map is a socket storage, `sk` a socket that is not null, `value` of the map's size.
    let record = unsafe {
        bpf_sk_storage_get(
            SOCKET.as_ptr(),
            sk.cast(),
            (&raw mut value).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    // SAFETY: null or the socket's record, live as long as the socket.
    unsafe { record.cast::<SocketRecord>().as_ref() }
}
