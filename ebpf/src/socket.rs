//! Records of sockets: made, read and written by hooks on any CPU at the same time.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::bpf_sk_storage_get,
};
use clawd_common::{
    addr::Addr,
    record::{ProcessKey, RECORD_JUDGED, RECORD_OWN_PEER, RECORD_PASSIVE, SocketRecord},
};

use crate::maps::SOCKET;

/// What a hook decided for a socket.
pub struct Judgement {
    /// The peer.
    pub peer: Addr,
    /// Its port.
    pub peer_port: u16,
    /// The policy that was in force.
    pub policy_id: u32,
    /// The line of executables that asked.
    pub chain: u32,
    /// `RECORD_*` bits.
    pub flags: u32,
}

/// The socket's record, made with `initial` where there is none and that is given.
#[inline(always)]
pub fn record(sk: *mut bpf_sock, initial: Option<&mut SocketRecord>) -> *mut SocketRecord {
    if sk.is_null() {
        return core::ptr::null_mut();
    }
    let (value, flags) = match initial {
        Some(initial) => (
            core::ptr::from_mut(initial),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        ),
        None => (core::ptr::null_mut(), 0),
    };
    // SAFETY: the map is a socket storage, `sk` a socket that is not null, `value` null or of the
    // map's size.
    let record = unsafe { bpf_sk_storage_get(SOCKET.as_ptr(), sk.cast(), value.cast(), flags) };
    record.cast()
}

/// A copy of the record. What a writer is busy with reads as not judged.
#[inline(always)]
pub fn snapshot(record: &SocketRecord) -> SocketRecord {
    let before = sequence(record);
    let mut copy = SocketRecord {
        sandbox_id: record.sandbox_id,
        sequence: before,
        holder: read(&raw const record.holder),
        peer: read(&raw const record.peer),
        peer_port: read(&raw const record.peer_port),
        slot: record.slot,
        policy_id: read(&raw const record.policy_id),
        chain: read(&raw const record.chain),
        flags: read(&raw const record.flags),
    };
    if before & 1 != 0 || sequence(record) != before {
        copy.flags = 0;
    }
    copy
}

/// Writes down what was decided; false where another writer is at it.
#[inline(always)]
pub fn judged(record: *mut SocketRecord, holder: ProcessKey, what: &Judgement) -> bool {
    let Some(record) = begin(record) else {
        return false;
    };
    record.holder = holder;
    write(record, what);
    end(record);
    true
}

/// Whether the record says this already; where another one writes, it does not.
#[inline(always)]
pub fn is_so(record: &SocketRecord, holder: ProcessKey, what: &Judgement) -> bool {
    let before = sequence(record);
    let same = before & 1 == 0
        && read(&raw const record.flags) == what.flags
        && read(&raw const record.holder) == holder
        && read(&raw const record.chain) == what.chain
        && is_of(record, (&what.peer, what.peer_port), what.policy_id);
    same && sequence(record) == before
}

/// Whether the last decision was about this peer, under this policy, and allowed it for good: not because
/// its place is the sandbox's own. Without a copy: most packets need nothing else.
#[inline(always)]
pub fn is_decided(record: &SocketRecord, peer: (&Addr, u16), policy_id: u32) -> bool {
    let before = sequence(record);
    let flags = read(&raw const record.flags);
    let same = before & 1 == 0
        && flags & (RECORD_JUDGED | RECORD_PASSIVE) != 0
        && flags & RECORD_OWN_PEER == 0
        && is_of(record, peer, policy_id);
    same && sequence(record) == before
}

#[inline(always)]
fn is_of(record: &SocketRecord, (peer, peer_port): (&Addr, u16), policy_id: u32) -> bool {
    read(&raw const record.policy_id) == policy_id
        && read(&raw const record.peer_port) == peer_port
        && read(&raw const record.peer.family) == peer.family
        && same_octets(&record.peer, peer)
}

/// Word by word, each one load, however others write meanwhile.
#[inline(always)]
fn same_octets(a: &Addr, b: &Addr) -> bool {
    let (a, b): (*const u32, *const u32) =
        ((&raw const a.octets).cast(), (&raw const b.octets).cast());
    let mut difference = 0;
    for i in 0..4 {
        difference |= read(a.wrapping_add(i)) ^ read(b.wrapping_add(i));
    }
    difference == 0
}

/// As [`judged`], of a packet: whoever holds the socket stays its holder.
#[inline(always)]
pub fn passed(record: *mut SocketRecord, what: &Judgement) {
    if let Some(record) = begin(record) {
        write(record, what);
        end(record);
    }
}

/// Writes down that what `seen` tells holds under `policy_id`, unless it was changed in between.
#[inline(always)]
pub fn holds_on(record: *mut SocketRecord, seen: &SocketRecord, policy_id: u32) {
    let Some(record) = begin(record) else {
        return;
    };
    // `begin` took the number that it found one further.
    if record.sequence == seen.sequence | 1 {
        record.policy_id = policy_id;
    }
    end(record);
}

#[inline(always)]
fn write(record: &mut SocketRecord, what: &Judgement) {
    record.peer = what.peer;
    record.peer_port = what.peer_port;
    record.policy_id = what.policy_id;
    record.chain = what.chain;
    record.flags = what.flags;
}

/// Makes the caller the record's only writer, until [`end`]; `None` where somebody else is.
#[inline(always)]
fn begin<'a>(record: *mut SocketRecord) -> Option<&'a mut SocketRecord> {
    // SAFETY: null or a socket's record, live as long as this run; nobody else writes to it once
    // the exchange below succeeded, and readers throw away what they read meanwhile.
    let record = unsafe { record.as_mut() }?;
    let at = &raw mut record.sequence;
    let before = read(at);
    if before & 1 != 0 {
        return None;
    }
    let odd = before | 1;
    // SAFETY: `at` points to a live, aligned `u64`; every write to it is atomic.
    let (_, taken) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(at, before, odd)
    };
    if taken { Some(record) } else { None }
}

/// A full barrier on both sides: what was written is seen before the even number.
#[inline(always)]
fn end(record: &mut SocketRecord) {
    // SAFETY: as in `begin`.
    let _odd =
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(&raw mut record.sequence, 1) };
}

/// Whether this machine's processors see loads, and stores, in the order of the program, as x86 does (Intel
/// SDM, volume 3, 11.2.2): 1, else 0; set by the loader.
#[unsafe(no_mangle)]
static ORDERED_MEMORY: u32 = 0;

/// The number, before and after all that is read around it.
#[inline(always)]
fn sequence(record: &SocketRecord) -> u64 {
    // SAFETY: initialised, aligned, never written by the program.
    if unsafe { core::ptr::read_volatile(&raw const ORDERED_MEMORY) } != 0 {
        return read(&raw const record.sequence);
    }
    let at = (&raw const record.sequence).cast_mut();
    // SAFETY: a live, aligned `u64`; adding nothing is this target's load with a barrier.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(at, 0) }
}

/// One load, however others write meanwhile.
#[inline(always)]
fn read<T: Copy>(at: *const T) -> T {
    // SAFETY: `at` comes from a reference to a live record of integers: any bytes are valid.
    unsafe { at.read_volatile() }
}
