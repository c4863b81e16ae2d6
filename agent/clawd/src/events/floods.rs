//! Which events are alike, so that a storm of them is some records and a count.

use std::sync::{Mutex, MutexGuard, PoisonError};

use clawd_audit::{AuditRecord, Clock, Flood, flood::Summary, record};
use clawd_common::{
    addr::Addr,
    event::{Event, EventKind},
    verdict::NO_GRANT,
};

use crate::{audit, sandboxes::Shared};

/// Kinds of one second that are kept apart, of all sandboxes, and an eighth of them denials of one, an
/// eighth what it was allowed; further ones of a sandbox are one kind. A kind takes some 200 bytes.
const ROOM: usize = 8192;

/// What events of a storm have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    sandbox_id: u32,
    action_raw: u8,
    /// All else; nothing of it for what there is no room to keep apart.
    what: Option<What>,
}

/// The attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct What {
    kind_raw: u8,
    reason_raw: u8,
    protocol: u16,
    addr: Addr,
    port: u16,
    socket_kind: u32,
    policy_id: u32,
    /// The line of executables.
    chain: u32,
    parent_chain: u32,
}

/// What there was of each kind in its second.
pub(crate) struct Floods(Mutex<Flood<Kind, Event>>);

impl Floods {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Flood::new(ROOM)))
    }

    fn flood(&self) -> MutexGuard<'_, Flood<Kind, Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes an event, or counts it.
pub(super) fn log(shared: &Shared, event: &Event, clock: &Clock) {
    // Who runs what is told whole: later records are understood by it.
    if EventKind::from_raw(event.kind_raw) != Some(EventKind::Exec) {
        let mut flood = shared.floods.flood();
        let admitted = flood.admit(kinds(event), *event, event.boottime_ns);
        drop(flood);
        if let Some(summary) = admitted.summary {
            summarise(shared, &summary, clock);
        }
        if !admitted.tell {
            return;
        }
    }
    shared
        .audit
        .write(record(event, shared.registry.as_ref(), clock));
}

/// Writes what is still only counted, of seconds that were over at `now`, in nanoseconds since boot.
pub(crate) fn tell_counts(shared: &Shared, now: u64) {
    let clock = audit::clock();
    let summaries = shared.floods.flood().over(now);
    for summary in &summaries {
        summarise(shared, summary, &clock);
    }
}

/// What an event is alike with, and what it is where there is no room.
fn kinds(event: &Event) -> (Kind, Kind) {
    let others = Kind {
        sandbox_id: event.sandbox_id,
        action_raw: event.action_raw,
        what: None,
    };
    let is_packet_in = EventKind::from_raw(event.kind_raw) == Some(EventKind::Receive);
    let what = What {
        kind_raw: event.kind_raw,
        reason_raw: event.reason_raw,
        protocol: event.protocol,
        addr: event.addr,
        // Strangers come from ports of all kinds, to one.
        port: if is_packet_in {
            event.local_port
        } else {
            event.port
        },
        socket_kind: event.socket_kind,
        policy_id: event.policy_id,
        chain: event.chain,
        parent_chain: event.parent_chain,
    };
    let kind = Kind {
        what: Some(what),
        ..others
    };
    (kind, others)
}

/// Writes how often there was an event besides the times that have records.
fn summarise(shared: &Shared, summary: &Summary<Kind, Event>, clock: &Clock) {
    let sample = match summary.kind.what {
        Some(_) => summary.sample,
        None => Event {
            kind_raw: summary.sample.kind_raw,
            action_raw: summary.sample.action_raw,
            sandbox_id: summary.sample.sandbox_id,
            policy_id: summary.sample.policy_id,
            grant_index: NO_GRANT,
            ..Event::ZERO
        },
    };
    let event = Event {
        boottime_ns: summary.until_boottime_ns.min(audit::boottime_ns()),
        ..sample
    };
    let told = record(&event, shared.registry.as_ref(), clock);
    let several = summary.kind.what.is_none();
    shared.audit.write(AuditRecord {
        // One count may stand for many of these.
        pid: None,
        tid: None,
        local_port: told.local_port.filter(|_| !several),
        reason: told.reason.filter(|_| !several),
        dst_port: told.dst_port.filter(|_| !several),
        protocol: told.protocol.filter(|_| !several),
        count: Some(summary.count),
        ..told
    });
}

#[cfg(test)]
mod tests {
    use clawd_common::event::{Event, EventKind};

    use super::kinds;

    fn event(kind: EventKind, port: u16, local_port: u16) -> Event {
        Event {
            sandbox_id: 3,
            kind_raw: kind as u8,
            port,
            local_port,
            ..Event::ZERO
        }
    }

    #[test]
    fn attempts_are_alike_by_destination_and_packets_from_outside_by_the_port_they_reach() {
        let alike = |a: Event, b: Event| kinds(&a).0 == kinds(&b).0;
        let connect = |port, local| event(EventKind::Connect, port, local);
        assert!(alike(connect(80, 1), connect(80, 2)));
        assert!(!alike(connect(80, 1), connect(81, 1)));
        let receive = |port, local| event(EventKind::Receive, port, local);
        assert!(alike(receive(1, 8080), receive(2, 8080)));
        assert!(!alike(receive(1, 8080), receive(1, 8081)));
        let other = Event {
            sandbox_id: 4,
            ..connect(80, 1)
        };
        assert!(!alike(connect(80, 1), other));
        assert_ne!(kinds(&connect(80, 1)).1, kinds(&other).1);
    }
}
