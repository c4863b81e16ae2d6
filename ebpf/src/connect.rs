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

/// `connect(2)` to an IPv4 address, on IPv6 sockets too.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, addr4(&ctx), EventKind::Connect)
}

/// `connect(2)` to an IPv6 address, mapped IPv4 included.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, addr6(&ctx), EventKind::Connect)
}

/// A datagram to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, addr4(&ctx), EventKind::Sendmsg)
}

/// A datagram to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, addr6(&ctx), EventKind::Sendmsg)
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

/// Decides, reports, and answers as the kernel wants it: 1 goes on, 0 is EPERM.
#[inline(always)]
fn judge(ctx: &SockAddrContext, addr: Addr, kind: EventKind) -> i32 {
    let mut event = Event::ZERO;
    event.addr = addr;
    event.port = u16::from_be(request(ctx).user_port as u16);
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
    // SAFETY: reading a context field; the kernel always sets it in these hooks.
    let sk = unsafe { request(ctx).__bindgen_anon_1.sk };
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
