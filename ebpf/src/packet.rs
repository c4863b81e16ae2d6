//! Every packet of every sandbox: the backstop behind the verdicts on calls.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_sk_fullsock, bpf_skb_ancestor_cgroup_id, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use clawd_common::{
    addr::Addr,
    event::{Event, EventKind},
    packet::{
        Direction, Headers, Keep, Packet, PacketVerdict, SocketState, V4_WORDS, V6_WORDS, judge,
    },
    record::{SandboxValue, SocketRecord},
    verdict::{NO_GRANT, Reason},
};

use crate::{
    as_before::is_as_before,
    emit,
    maps::{PROCESS, SANDBOX},
    peers::{Flow, remember},
    socket::{self, Judgement},
    task::sandbox_level,
};

/// include/net/tcp_states.h, v6.12.
const TCP_SYN_SENT: u32 = 2;
pub const TCP_LISTEN: u32 = 10;
pub const IPPROTO_TCP: u16 = 6;

const DROP: i32 = 0;
const PASS: i32 = 1;

/// What leaves a sandbox's socket, before it is cut into fragments (`ip_finish_output` in
/// net/ipv4/ip_output.c, v6.12).
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    packet(ctx.skb.skb, Direction::Egress)
}

/// What arrives at a sandbox's socket.
#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    packet(ctx.skb.skb, Direction::Ingress)
}

/// What a packet is decided by.
struct Facts {
    skb: *mut __sk_buff,
    sandbox: SandboxValue,
    packet: Packet,
    local: Addr,
    direction: Direction,
    state: SocketState,
}

#[inline(always)]
fn packet(skb: *mut __sk_buff, direction: Direction) -> i32 {
    if is_as_before(skb, direction) {
        return PASS;
    }
    let mut facts = Facts {
        skb,
        sandbox: SandboxValue::ZERO,
        packet: Packet {
            peer: Addr::ZERO,
            peer_port: 0,
            local_port: 0,
            protocol: 0,
        },
        local: Addr::ZERO,
        direction,
        state: SocketState::Other,
    };
    // The record's address stays out of `Facts`: the verifier loses what it is in a structure whose
    // members are copied.
    let mut record = core::ptr::null_mut();
    let mut outcome = match look(&mut facts, &mut record) {
        Ok(true) => return PASS,
        Ok(false) => decide(&facts, record),
        Err(reason_raw) => reason_raw | TOLD,
    };
    if outcome & TOLD != 0 {
        outcome |= report(&facts, record, outcome);
    }
    if outcome & PASSED != 0 { PASS } else { DROP }
}

/// Bits of an outcome, above the byte of its reason: the packet passes; that is to be told.
const PASSED: u32 = 1 << 8;
const TOLD: u32 = 1 << 9;

/// Looks at packet and socket; true where the packet passes by what was decided before.
///
/// # Errors
/// The byte of the reason for which the packet is dropped: to make a [`Reason`] of a byte is a branch for
/// each that there is.
#[inline(always)]
fn look(facts: &mut Facts, found: &mut *mut SocketRecord) -> Result<bool, u32> {
    let skb = facts.skb;
    // SAFETY: the context is the hook's; the level any number.
    let cgroup_id = unsafe { bpf_skb_ancestor_cgroup_id(skb, sandbox_level() as i32) };
    // SAFETY: the value is only read; an update replaces the element and frees it after RCU.
    let Some(sandbox) = (unsafe { SANDBOX.get(cgroup_id) }) else {
        return Err(u32::from(Reason::UnknownSandbox.to_raw()));
    };
    facts.sandbox = *sandbox;
    if let refused @ 1.. = read_headers(skb, facts) {
        // Whose it was is told.
        *found = socket::record(full_socket(skb), None);
        return Err(refused);
    }
    let sk = full_socket(skb);
    *found = socket::record(sk, None);
    // SAFETY: null or the record of the packet's socket, live as long as the packet.
    let Some(record) = (unsafe { found.as_ref() }) else {
        return Err(u32::from(Reason::UnjudgedSocket.to_raw()));
    };
    if record.sandbox_id != sandbox.sandbox_id {
        return Err(u32::from(Reason::ForeignSocket.to_raw()));
    }
    facts.state = state(sk, facts.packet.protocol);
    let peer = (&facts.packet.peer, facts.packet.peer_port);
    let is_flow = !matches!(facts.state, SocketState::Listening);
    Ok(is_flow && socket::is_decided(record, peer, sandbox.policy_id))
}

/// Decides a packet that was not decided before; returns the outcome. Like the other functions that
/// are not inlined, it has a stack frame of its own: one for all would be too large.
#[inline(never)]
fn decide(facts: &Facts, record: *mut SocketRecord) -> u32 {
    // SAFETY: null or the record of the packet's socket, live as long as the packet.
    let Some(seen) = (unsafe { record.as_ref() }).map(socket::snapshot) else {
        return u32::from(Reason::UnjudgedSocket.to_raw()) | TOLD;
    };
    let flow = Flow {
        ctx: facts.skb.cast(),
        sandbox_id: facts.sandbox.sandbox_id,
        local: facts.local,
    };
    let PacketVerdict { verdict, keep } = judge(
        &flow,
        &facts.sandbox,
        (&seen, facts.state),
        (facts.direction, &facts.packet),
    );
    let reason_raw = u32::from(verdict.reason.to_raw());
    if !verdict.is_allowed() {
        return reason_raw | TOLD;
    }
    if !keep_it(facts, (record, &seen), keep) {
        return u32::from(Reason::NoSocketRecord.to_raw()) | TOLD;
    }
    let is_new = matches!(keep, Keep::Peer(_) | Keep::Known(_));
    if is_new && verdict.reason == Reason::IngressRule {
        return reason_raw | PASSED | TOLD;
    }
    PASSED
}

/// Reads the packet's headers; returns why it is dropped, or 0.
#[inline(never)]
fn read_headers(skb: *mut __sk_buff, facts: &mut Facts) -> u32 {
    match headers(skb) {
        Ok(headers) => {
            (facts.packet, facts.local) = match facts.direction {
                Direction::Egress => (headers.going_out(), headers.source),
                Direction::Ingress => (headers.coming_in(), headers.destination),
            };
            0
        }
        Err(reason) => u32::from(reason.to_raw()),
    }
}

/// Addresses and ports of the packet.
#[inline(always)]
fn headers(skb: *mut __sk_buff) -> Result<Headers, Reason> {
    let mut words = [0_u32; V6_WORDS];
    // The shorter one first: an IPv4 packet may end before an IPv6 header would.
    if !load(skb, &mut words, V4_WORDS) {
        return Err(Reason::HeaderNotPlain);
    }
    if words[0].to_ne_bytes()[0] >> 4 == 4 {
        let [a, b, c, d, e, f, ..] = words;
        return Headers::v4(&[a, b, c, d, e, f]);
    }
    if !load(skb, &mut words, V6_WORDS) {
        return Err(Reason::HeaderNotPlain);
    }
    Headers::v6(&words)
}

/// The packet's first words; it begins with the IP header (`__cgroup_bpf_run_filter_skb` in
/// kernel/bpf/cgroup.c, v6.12).
#[inline(always)]
fn load(skb: *mut __sk_buff, words: &mut [u32; V6_WORDS], count: usize) -> bool {
    let size_bytes = (count * size_of::<u32>()) as u32;
    // SAFETY: writes no more than the array holds, or fails.
    let result =
        unsafe { bpf_skb_load_bytes(skb.cast(), 0, words.as_mut_ptr().cast(), size_bytes) };
    result == 0
}

/// The packet's socket, or null.
#[inline(always)]
pub fn full_socket(skb: *mut __sk_buff) -> *mut bpf_sock {
    // SAFETY: the context is live for this run; the verifier checks every access.
    let context = unsafe { &*skb };
    // SAFETY: the union's only member.
    let sk = unsafe { context.__bindgen_anon_2.sk };
    if sk.is_null() {
        return sk;
    }
    // SAFETY: not null; the helper answers null for what is no full socket.
    unsafe { bpf_sk_fullsock(sk) }
}

#[inline(always)]
fn state(sk: *mut bpf_sock, protocol: u16) -> SocketState {
    if sk.is_null() || protocol != IPPROTO_TCP {
        return SocketState::Other;
    }
    // SAFETY: not null; the verifier checks the access.
    match unsafe { (*sk).state } {
        TCP_SYN_SENT => SocketState::Connecting,
        TCP_LISTEN => SocketState::Listening,
        _ => SocketState::Other,
    }
}

/// Writes down what the next packet need not be decided for; false where there is no memory for what
/// an answer would need.
#[inline(always)]
fn keep_it(facts: &Facts, (record, seen): (*mut SocketRecord, &SocketRecord), keep: Keep) -> bool {
    let Facts {
        packet, sandbox, ..
    } = facts;
    match keep {
        Keep::Nothing => {}
        Keep::Policy => socket::holds_on(record, seen, sandbox.policy_id),
        Keep::Peer(flags) => {
            let judgement = Judgement {
                peer: packet.peer,
                peer_port: packet.peer_port,
                policy_id: sandbox.policy_id,
                chain: seen.chain,
                flags,
            };
            socket::passed(record, &judgement);
        }
        Keep::Known(why) => {
            let ctx = facts.skb.cast();
            return remember(ctx, &packet.peer, packet.peer_port, sandbox.policy_id, why) != 0;
        }
    }
    true
}

/// Reports an outcome.
#[inline(never)]
fn report(facts: &Facts, record: *mut SocketRecord, outcome: u32) -> u32 {
    let mut event = Event::ZERO;
    event.sandbox_id = facts.sandbox.sandbox_id;
    event.policy_id = facts.sandbox.policy_id;
    event.addr = facts.packet.peer;
    event.port = facts.packet.peer_port;
    event.local_port = facts.packet.local_port;
    event.protocol = facts.packet.protocol;
    // SAFETY: null or the record of the packet's socket, live as long as the packet.
    if let Some(record) = unsafe { record.as_ref() } {
        who(&mut event, record);
    }
    let kind = match facts.direction {
        Direction::Egress => EventKind::Send,
        Direction::Ingress => EventKind::Receive,
    };
    event.grant_index = NO_GRANT;
    event.reason_raw = outcome as u8;
    emit::outcome(&mut event, kind, outcome & PASSED != 0)
}

/// Whose socket it is. The current task is anybody.
#[inline(always)]
fn who(event: &mut Event, record: &SocketRecord) {
    event.process = record.holder;
    event.tid = record.holder.tgid;
    event.chain = record.chain;
    // SAFETY: the value is only read.
    if let Some(executed) = unsafe { PROCESS.get(record.holder.tgid) }
        && executed.start_boottime_ns == record.holder.start_boottime_ns
    {
        event.file = executed.file;
        event.file_id = executed.file_id;
        event.parent_chain = executed.parent_chain;
        if record.chain == 0 {
            event.chain = executed.chain;
        }
    }
}
