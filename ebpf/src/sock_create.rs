//! `socket(2)`: which protocols there are, and whose a socket is.

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_set_retval, bpf_sk_storage_get},
    macros::cgroup_sock,
    programs::SockContext,
};
use clawd_common::{
    event::{Event, EventKind},
    record::{ProcessKey, SocketRecord},
    verdict::{Reason, Verdict},
};

use crate::{
    emit,
    maps::SOCKET,
    task::{current_process, current_sandbox},
};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;
const EPROTONOSUPPORT: i32 = 93;

const DENY: i32 = 0;
const ALLOW: i32 = 1;

/// Lets TCP, UDP and MPTCP sockets be made, and writes down who made them.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    // SAFETY: the context is live for this run; the verifier checks the offsets.
    let (family, kind, protocol) = unsafe {
        let sock = &*ctx.sock;
        (sock.family, sock.type_, sock.protocol)
    };
    let mut event = Event::ZERO;
    event.protocol = protocol as u16;
    event.socket_kind = family << 16 | (kind & 0xffff);

    let Some(sandbox) = current_sandbox() else {
        return deny(&mut event, Reason::ForeignSocket);
    };
    event.sandbox_id = sandbox.sandbox_id;
    event.policy_id = sandbox.policy_id;
    let Ok((process, tid)) = current_process() else {
        return deny(&mut event, Reason::NoProcessRecord);
    };
    event.process = process;
    event.tid = tid;

    let stream = kind == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
    let datagram = kind == SOCK_DGRAM && protocol == IPPROTO_UDP;
    if !(family == AF_INET || family == AF_INET6) || !(stream || datagram) {
        // SAFETY: takes any errno; without it the caller would see EPERM.
        unsafe { bpf_set_retval(-EPROTONOSUPPORT) };
        return deny(&mut event, Reason::ProtocolNotSupported);
    }
    if record(&ctx, sandbox.sandbox_id, process) {
        ALLOW
    } else {
        deny(&mut event, Reason::NoSocketRecord)
    }
}

/// Writes the record of the socket that is being made; false where there is no memory for it.
#[inline(always)]
fn record(ctx: &SockContext, sandbox_id: u32, creator: ProcessKey) -> bool {
    let mut value = SocketRecord {
        sandbox_id,
        creator,
        ..SocketRecord::ZERO
    };
    // SAFETY: the map is a socket storage, the context is the socket, `value` has the map's size.
    let stored = unsafe {
        bpf_sk_storage_get(
            SOCKET.as_ptr(),
            ctx.sock.cast(),
            (&raw mut value).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    !stored.is_null()
}

#[inline(always)]
fn deny(event: &mut Event, reason: Reason) -> i32 {
    emit::verdict(event, EventKind::Socket, Verdict::deny(reason));
    DENY
}
