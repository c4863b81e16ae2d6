//! Events and exact totals.

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    mem::offset_of,
};

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_boot_ns, maps::RingBuf};
use clawd_common::{
    event::{Event, EventKind},
    record::Counters,
    verdict::Action,
};

use crate::maps::{COUNTERS, DENIED, GRANTED};

/// Which total to raise.
#[derive(Clone, Copy)]
pub enum Count {
    /// [`Counters::allowed`].
    Allowed,
    /// [`Counters::denied`].
    Denied,
    /// [`Counters::events_lost`].
    EventLost,
    /// [`Counters::processes_unrecorded`].
    ProcessUnrecorded,
}

/// Raises a total of a sandbox; a sandbox without totals (0 is none) is not counted.
#[inline(always)]
pub fn count(sandbox_id: u32, what: Count) {
    let Some(counters) = COUNTERS.get_ptr_mut(sandbox_id) else {
        return;
    };
    let offset_bytes = match what {
        Count::Allowed => offset_of!(Counters, allowed),
        Count::Denied => offset_of!(Counters, denied),
        Count::EventLost => offset_of!(Counters, events_lost),
        Count::ProcessUnrecorded => offset_of!(Counters, processes_unrecorded),
    };
    // SAFETY: the offset of a `u64` inside the map's value.
    let total: *mut u64 = unsafe { counters.byte_add(offset_bytes) }.cast();
    // SAFETY: `total` points into that value, aligned; every access to it is atomic. (On this target
    // `AtomicU64` has loads and stores only.)
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(total, 1) };
}

/// Completes `event`, whose reason and grant are written, with the time and the outcome, counts it and
/// hands it to user space. Returns a number that depends on it, for functions that need one: the verifier
/// wants a function to return a number, and LLVM takes away one that is always the same.
#[inline(always)]
pub fn outcome(event: &mut Event, kind: EventKind, allowed: bool) -> u32 {
    event.kind_raw = kind as u8;
    if allowed {
        event.action_raw = Action::Allowed.to_raw();
        count(event.sandbox_id, Count::Allowed);
        granted(event);
    } else {
        event.action_raw = Action::Denied.to_raw();
        count(event.sandbox_id, Count::Denied);
        push(&DENIED, event, 0);
    }
    u32::from(event.boottime_ns == 0)
}

/// Hands over an event that denies nothing. Waking a reader for each would cost the sandbox more
/// than the decision, so user space looks for these by the clock.
#[inline(always)]
pub fn granted(event: &mut Event) {
    push(&GRANTED, event, u64::from(BPF_RB_NO_WAKEUP));
}

#[inline(always)]
fn push(ring: &RingBuf, event: &mut Event, flags: u64) {
    // SAFETY: no arguments.
    event.boottime_ns = unsafe { bpf_ktime_get_boot_ns() };
    match ring.reserve::<Event>(0) {
        Some(mut entry) => {
            copy(event, entry.as_mut_ptr());
            entry.submit(flags);
        }
        None => count(event.sandbox_id, Count::EventLost),
    }
}

/// Copies an event word by word. A plain copy of this size may become a call of `memcpy`, whose loop
/// the verifier of 6.1 goes through byte by byte on every path that leads to it.
#[inline(always)]
fn copy(event: &Event, to: *mut Event) {
    const WORDS: usize = size_of::<Event>() / size_of::<u64>();
    let (from, to): (*const u64, *mut u64) = (core::ptr::from_ref(event).cast(), to.cast());
    for i in 0..WORDS {
        // SAFETY: inside the event, whose layout is whole words (asserted beside its definition).
        let word = unsafe { from.wrapping_add(i).read_volatile() };
        // SAFETY: inside the entry, which has the event's size and alignment.
        unsafe { to.wrapping_add(i).write_volatile(word) };
    }
}
