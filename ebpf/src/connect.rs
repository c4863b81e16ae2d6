//! `connect(2)` and datagrams with an address of their own: the verdict on a destination.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use clawd_common::{
    addr::Addr,
    decide::{PROTOCOL_UDP, Query, decide},
    event::{Event, EventKind},
    packet::{Packet, allowed_by_peer},
    record::{
        PEER_OWN, PEER_WENT_OUT, ProcessKey, RECORD_JUDGED, RECORD_OWN_PEER, SandboxValue,
        SocketRecord,
    },
    verdict::{NO_GRANT, Reason},
};

use crate::{
    as_before::policy_in_force,
    destination::{
        bound_interface, bound4, canonicalise, connected6, connects6, keep, peer_port, peer4, port,
        request, requested4, requested6, socket,
    },
    emit,
    peers::{Flow, remember},
    socket::{self, Judgement},
    tables::KernelTables,
    task::{current_process, current_sandbox, executes, runs_what_it_executed},
};

const AF_UNSPEC: u32 = 0;

/// `connect(2)` to an IPv4 address, on IPv6 sockets too.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let sk = socket(&ctx);
    let addr = requested4(&ctx, bound4(sk), bound_interface(sk));
    judge(&ctx, addr, port(&ctx), EventKind::Connect)
}

/// `connect(2)` to an IPv6 address, mapped IPv4 included.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let mut raw = Addr::ZERO;
    if connects6(&ctx, &mut raw) == 0 {
        return 0;
    }
    judge(&ctx, raw, port(&ctx), EventKind::Connect)
}

/// A datagram to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let (addr, port) = if request(&ctx).user_family == AF_UNSPEC {
        (peer4(&ctx), peer_port(&ctx))
    } else {
        // What the message itself names as its source, else what the socket is bound to.
        let source = request(&ctx).msg_src_ip4;
        let addr = requested4(&ctx, source, bound_interface(socket(&ctx)));
        (addr, port(&ctx))
    };
    if is_sent_again(ctx.sock_addr, &addr, port) != 0 {
        return 1;
    }
    judge(&ctx, addr, port, EventKind::Sendmsg)
}

/// A datagram to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let mut raw = Addr::ZERO;
    let port = if request(&ctx).user_family == AF_UNSPEC {
        connected6(&ctx, &mut raw);
        peer_port(&ctx)
    } else {
        requested6(&ctx, &mut raw);
        port(&ctx)
    };
    if canonicalise(&mut raw) == 0 {
        return 0;
    }
    if is_sent_again(ctx.sock_addr, &raw, port) != 0 {
        return 1;
    }
    judge(&ctx, raw, port, EventKind::Sendmsg)
}

/// Whether the same process, executing the same, was allowed its last datagram to this very peer under the
/// policy in force: 1, else 0. It is not told again, as are the datagrams of a connected socket.
#[inline(never)]
fn is_sent_again(ctx: *mut bpf_sock_addr, addr: &Addr, port: u16) -> u32 {
    let sk = socket(&SockAddrContext::new(ctx));
    // SAFETY: null or the socket's record, live as long as the socket.
    let Some(record) = (unsafe { socket::record(sk, None).as_ref() }) else {
        return 0;
    };
    let policy_id = policy_in_force(record);
    // First what costs least, and is often so for a socket that talks with many.
    if policy_id == 0 || !socket::is_decided(record, (addr, port), policy_id) {
        return 0;
    }
    let Ok((process, _tid)) = current_process() else {
        return 0;
    };
    // It is in the sandbox whose socket this is, or it has no such record.
    let Some(executed) = executes(process, record.sandbox_id) else {
        return 0;
    };
    let judgement = Judgement {
        peer: *addr,
        peer_port: port,
        policy_id,
        chain: executed.chain,
        flags: RECORD_JUDGED,
    };
    u32::from(socket::is_so(record, process, &judgement))
}

/// Decides, reports, and answers as the kernel wants it: 1 goes on, 0 is EPERM.
#[inline(always)]
fn judge(ctx: &SockAddrContext, addr: Addr, port: u16, kind: EventKind) -> i32 {
    let mut event = Event::ZERO;
    keep(&addr, &mut event.addr);
    event.port = port;
    event.protocol = request(ctx).protocol as u16;
    event.grant_index = NO_GRANT;
    let allowed = decided(ctx, &mut event);
    emit::outcome(&mut event, kind, allowed);
    if allowed { 1 } else { 0 }
}

/// Finds out who asks, filling `event` as it goes, and decides; true where the attempt may go on. Reasons
/// are bytes here: to make a value of a byte is a branch for each reason that there is.
#[inline(always)]
fn decided(ctx: &SockAddrContext, event: &mut Event) -> bool {
    let Ok((process, tid)) = current_process() else {
        return denied(event, Reason::NoProcessRecord);
    };
    event.process = process;
    event.tid = tid;
    let sk = socket(ctx);
    let current = current_sandbox();
    let record = socket_record(sk, current, process);
    // SAFETY: null or the socket's record, live as long as the socket.
    let Some(owner) = (unsafe { record.as_ref() }).map(|record| record.sandbox_id) else {
        return denied(event, Reason::NoSocketRecord);
    };
    event.sandbox_id = owner;
    // Hooks follow the socket's cgroup, not the task's: both must be the same sandbox.
    let Some(sandbox) = current else {
        return denied(event, Reason::ForeignSocket);
    };
    event.policy_id = sandbox.policy_id;
    if owner != sandbox.sandbox_id {
        return denied(event, Reason::ForeignSocket);
    }
    if identify(event) == 0 {
        return false;
    }
    let context: *mut core::ffi::c_void = ctx.sock_addr.cast();
    let scope_id = bound_interface(sk);
    if ask(event, sandbox.flags, scope_id) == 0 && ask_peer(context, event, scope_id) == 0 {
        return false;
    }
    if !is_written(context, record, event) {
        // Packets would be dropped without a word.
        event.grant_index = NO_GRANT;
        return denied(event, Reason::NoSocketRecord);
    }
    true
}

/// A denial for a reason of the hook's own.
#[inline(always)]
fn denied(event: &mut Event, reason: Reason) -> bool {
    event.reason_raw = reason.to_raw();
    false
}

/// Asks the rules about the attempt in `event` and writes their reason and grant there; 1 where they
/// allow it, else 0. Like all functions here that are not inlined, it is one for the sake of its stack
/// frame: 6.1 gives 512 bytes to all that call each other.
#[inline(never)]
fn ask(event: &mut Event, sandbox_flags: u32, scope_id: u32) -> u32 {
    let mut query = Query {
        policy_id: event.policy_id,
        sandbox_flags,
        chain: event.chain,
        scope_id,
        addr: Addr::ZERO,
        port: event.port,
        protocol: event.protocol,
    };
    keep(&event.addr, &mut query.addr);
    let verdict = decide(&KernelTables, &query);
    event.reason_raw = verdict.reason.to_raw();
    event.grant_index = verdict.grant_index;
    u32::from(verdict.is_allowed())
}

/// Whether the other side lets a call be that the rules deny: 1, with the reason in `event`, else 0.
#[inline(never)]
fn ask_peer(ctx: *mut core::ffi::c_void, event: &mut Event, scope_id: u32) -> u32 {
    let mut packet = Packet {
        peer: Addr::ZERO,
        peer_port: event.port,
        local_port: 0,
        protocol: event.protocol,
    };
    keep(&event.addr, &mut packet.peer);
    let flow = Flow {
        ctx,
        sandbox_id: event.sandbox_id,
        local: Addr {
            family: event.addr.family,
            octets: [0; 16],
        },
    };
    let is_denied = event.reason_raw == Reason::DeniedByRule.to_raw();
    match allowed_by_peer(&flow, (&packet, is_denied), (event.policy_id, scope_id)) {
        Some(reason) => {
            event.reason_raw = reason.to_raw();
            event.grant_index = NO_GRANT;
            1
        }
        None => 0,
    }
}

/// Names in `event` what its process executes; 0, with the reason in `event`, where that gives no
/// grants, else 1.
#[inline(never)]
fn identify(event: &mut Event) -> u32 {
    let Some(executed) = executes(event.process, event.sandbox_id) else {
        event.reason_raw = Reason::NoProcessRecord.to_raw();
        return 0;
    };
    event.file = executed.file;
    event.file_id = executed.file_id;
    event.chain = executed.chain;
    event.parent_chain = executed.parent_chain;
    if runs_what_it_executed(&executed) {
        return 1;
    }
    event.reason_raw = Reason::ExeFileDiffers.to_raw();
    0
}

/// Writes down whom the socket may talk with now, for the packets that follow.
#[inline(always)]
fn is_written(ctx: *mut core::ffi::c_void, record: *mut SocketRecord, event: &Event) -> bool {
    let written = write_down(record, event);
    if written == SAID_ALREADY || event.protocol != PROTOCOL_UDP {
        return written != 0;
    }
    let why = if event.reason_raw == Reason::OwnSandbox.to_raw() {
        PEER_OWN
    } else {
        PEER_WENT_OUT
    };
    let known = remember(ctx, &event.addr, event.port, event.policy_id, why);
    known | written != 0
}

/// The answer of [`write_down`] where there was nothing to write.
const SAID_ALREADY: u32 = 2;

/// Writes the socket's record; 0 where another thread is at it.
#[inline(never)]
fn write_down(record: *mut SocketRecord, event: &Event) -> u32 {
    let own = if event.reason_raw == Reason::OwnSandbox.to_raw() {
        RECORD_OWN_PEER
    } else {
        0
    };
    let judgement = Judgement {
        peer: event.addr,
        peer_port: event.port,
        policy_id: event.policy_id,
        chain: event.chain,
        flags: RECORD_JUDGED | own,
    };
    // SAFETY: null or the socket's record, live as long as the socket.
    let Some(now) = (unsafe { record.as_ref() }) else {
        return 0;
    };
    // What is sent to the same peer again and again is written once.
    if event.protocol == PROTOCOL_UDP && socket::is_so(now, event.process, &judgement) {
        return SAID_ALREADY;
    }
    u32::from(socket::judged(record, event.process, &judgement))
}

/// The socket's record. A socket in a sandbox's cgroup that has none was made by the kernel itself
/// (an MPTCP subflow: `sock_create` hooks are not run for those); it is the current sandbox's.
#[inline(always)]
fn socket_record(
    sk: *mut bpf_sock,
    current: Option<&SandboxValue>,
    holder: ProcessKey,
) -> *mut SocketRecord {
    let sandbox_id = match current {
        Some(sandbox) => sandbox.sandbox_id,
        None => 0,
    };
    let mut value = SocketRecord {
        sandbox_id,
        holder,
        ..SocketRecord::ZERO
    };
    socket::record(sk, Some(&mut value))
}
