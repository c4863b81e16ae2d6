//! `socket(2)`: which protocols there are, and whose a socket is.

use aya_ebpf::{helpers::generated::bpf_set_retval, macros::cgroup_sock, programs::SockContext};
use clawd_common::{
    event::{Event, EventKind},
    record::{ProcessKey, SandboxValue, SocketRecord},
    verdict::{NO_GRANT, Reason},
};

use crate::{
    emit, socket,
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
    let mut who = Who {
        family,
        kind,
        protocol,
        sandbox_id: 0,
        policy_id: 0,
        process: ProcessKey::ZERO,
        tid: 0,
    };
    let Some(sandbox) = current_sandbox() else {
        return deny(&who, Reason::ForeignSocket);
    };
    who.sandbox_id = sandbox.sandbox_id;
    who.policy_id = sandbox.policy_id;
    let Ok((process, tid)) = current_process() else {
        return deny(&who, Reason::NoProcessRecord);
    };
    who.process = process;
    who.tid = tid;

    let stream = kind == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
    let datagram = kind == SOCK_DGRAM && protocol == IPPROTO_UDP;
    if !(family == AF_INET || family == AF_INET6) || !(stream || datagram) {
        // SAFETY: takes any errno; without it the caller would see EPERM.
        unsafe { bpf_set_retval(-EPROTONOSUPPORT) };
        return deny(&who, Reason::ProtocolNotSupported);
    }
    if record(&ctx, sandbox, process) {
        ALLOW
    } else {
        deny(&who, Reason::NoSocketRecord)
    }
}

/// Who makes which socket.
struct Who {
    family: u32,
    kind: u32,
    protocol: u32,
    sandbox_id: u32,
    policy_id: u32,
    process: ProcessKey,
    tid: u32,
}

/// Writes the record of the socket that is being made; false where there is no memory for it.
#[inline(always)]
fn record(ctx: &SockContext, sandbox: &SandboxValue, holder: ProcessKey) -> bool {
    let mut value = SocketRecord {
        sandbox_id: sandbox.sandbox_id,
        slot: sandbox.slot as u16,
        holder,
        ..SocketRecord::ZERO
    };
    !socket::record(ctx.sock, Some(&mut value)).is_null()
}

/// Reports a refusal. Its own function, because a socket that may be made needs no event.
#[inline(always)]
fn deny(who: &Who, reason: Reason) -> i32 {
    let mut event = Event::ZERO;
    event.protocol = who.protocol as u16;
    event.socket_kind = who.family << 16 | (who.kind & 0xffff);
    event.sandbox_id = who.sandbox_id;
    event.policy_id = who.policy_id;
    event.process = who.process;
    event.tid = who.tid;
    event.reason_raw = reason.to_raw();
    event.grant_index = NO_GRANT;
    emit::outcome(&mut event, EventKind::Socket, false);
    DENY
}
