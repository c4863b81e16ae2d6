//! Events and exact totals.

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    mem::offset_of,
};

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_boot_ns, maps::RingBuf};
use clawd_common::{
    event::{Event, EventKind},
    record::Counters,
    verdict::{Action, Verdict},
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

/// Completes `event` with the time and the verdict, counts it and hands it to user space.
#[inline(always)]
pub fn verdict(event: &mut Event, kind: EventKind, verdict: Verdict) {
    event.kind_raw = kind as u8;
    event.action_raw = verdict.action.to_raw();
    event.reason_raw = verdict.reason.to_raw();
    event.grant_index = verdict.grant_index;
    match verdict.action {
        Action::Denied => {
            count(event.sandbox_id, Count::Denied);
            push(&DENIED, event, 0);
        }
        Action::Allowed => {
            count(event.sandbox_id, Count::Allowed);
            granted(event);
        }
    }
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
            entry.write(*event);
            entry.submit(flags);
        }
        None => count(event.sandbox_id, Count::EventLost),
    }
}
