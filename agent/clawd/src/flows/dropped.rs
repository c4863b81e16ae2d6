//! Flows of which the kernel dropped a packet because a push forbids them: ended, so that their programs
//! are told.
//!
//! A push looks for such flows once. It misses one that was judged before the switch and is not in the
//! kernel's tables yet, one whose record is being written, and all of them where the daemon ends in
//! between. Of each the next packet tells.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use clawd_common::{
    addr::Addr,
    decide::PROTOCOL_TCP,
    event::{Event, EventKind},
    record::SandboxValue,
    verdict::{Action, Reason},
};
use clawd_control::NetworkMode;
use clawd_kernel::{Flows, OpenFlow};

use crate::sandboxes::{Live, Shared};

/// Flows that wait; further ones are told of again by their next packets.
const ROOM: usize = 4096;

/// How long events are gathered before sockets are listed.
const GATHER: Duration = Duration::from_millis(10);

/// Flows that are to be ended.
#[derive(Default)]
pub(crate) struct Dropped(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// By sandbox.
    flows: HashMap<u32, HashSet<Flow>>,
    count: usize,
    /// Whether somebody attends to them.
    is_attended: bool,
}

/// A connection, as far as an event tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    policy_id: u32,
    local_port: u16,
    peer: Addr,
    peer_port: u16,
}

// === impl Dropped ===

impl Dropped {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that the flow's program is told, where the event is of one that a push forbids.
pub(crate) fn note(shared: &Arc<Shared>, event: &Event) {
    let is_packet = matches!(
        EventKind::from_raw(event.kind_raw),
        Some(EventKind::Send | EventKind::Receive)
    );
    let is_cut = event.reason_raw == Reason::PolicyChanged.to_raw()
        && Action::from_raw(event.action_raw) == Action::Denied;
    // The program of a datagram socket is told by its next call.
    if !is_packet || !is_cut || event.protocol != PROTOCOL_TCP {
        return;
    }
    let mut waiting = shared.dropped.waiting();
    if waiting.count >= ROOM {
        return;
    }
    let flow = Flow {
        policy_id: event.policy_id,
        local_port: event.local_port,
        peer: event.addr,
        peer_port: event.port,
    };
    if waiting
        .flows
        .entry(event.sandbox_id)
        .or_default()
        .insert(flow)
    {
        waiting.count += 1;
    }
    if !std::mem::replace(&mut waiting.is_attended, true) {
        let shared = Arc::clone(shared);
        drop(tokio::task::spawn_blocking(move || attend(&shared)));
    }
}

/// Ends all that wait, until none do.
fn attend(shared: &Shared) {
    loop {
        thread::sleep(GATHER);
        let flows = {
            let mut waiting = shared.dropped.waiting();
            waiting.count = 0;
            waiting.is_attended = !waiting.flows.is_empty();
            std::mem::take(&mut waiting.flows)
        };
        if flows.is_empty() {
            return;
        }
        for live in shared.list() {
            let wanted = flows.get(&live.state().sandbox_id);
            if let Some(wanted) = wanted
                && let Err(error) = end(shared, &live, wanted)
            {
                tracing::warn!(%error, "programs are not told of flows that a push forbids");
            }
        }
    }
}

fn end(shared: &Shared, live: &Live, wanted: &HashSet<Flow>) -> anyhow::Result<()> {
    let sandbox = {
        let state = live.state();
        if state.network != NetworkMode::Direct {
            return Ok(());
        }
        SandboxValue {
            sandbox_id: state.sandbox_id,
            policy_id: state.policy.policy_id,
            flags: state.flags,
            ..SandboxValue::ZERO
        }
    };
    let flows = Flows::open(&shared.pins)?;
    for open in flows.of_cgroup(live.cgroup.id)? {
        // A later policy may allow it again.
        if wanted.contains(&flow(sandbox.policy_id, &open)) && open.protocol == PROTOCOL_TCP {
            super::end(shared, &flows, &sandbox, &open);
        }
    }
    Ok(())
}

fn flow(policy_id: u32, open: &OpenFlow) -> Flow {
    Flow {
        policy_id,
        local_port: open.local_port,
        peer: open.peer,
        peer_port: open.peer_port,
    }
}
