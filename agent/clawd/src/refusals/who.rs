//! Which process of the host made a call, and what it executes.
//!
//! Pid 1 knows the process by its number in the sandbox's pid namespace and by when it was started. A
//! number alone would not do: the process may have ended since, and its number be another's.

use std::collections::HashMap;

use clawd_common::{
    ended::EndedKey,
    event::Event,
    record::{ProcessKey, ProcessValue},
};
use clawd_sandbox::Refusal;
use procfs::process::Process;

use super::of_sandbox;
use crate::sandboxes::{Live, Shared};

/// `USER_HZ` is 100 wherever sandboxes run: what `/proc` tells of times is cut to this.
const TICK_NS: u64 = 10_000_000;

/// A process, by its number in the sandbox and its start.
type Inside = (u32, u64);

/// Processes of a sandbox that were looked up.
#[derive(Debug, Default)]
pub(super) struct Who {
    host_tgids: HashMap<Inside, u32>,
    /// Whether all processes were looked through since [`Who::begin`].
    is_fresh: bool,
}

// === impl Who ===

impl Who {
    /// Processes may have come since: they are looked through once more, if one is not known.
    pub(super) fn begin(&mut self) {
        self.is_fresh = false;
    }

    /// What is known of who was refused. What is not certain is left out.
    pub(super) fn event(&mut self, shared: &Shared, live: &Live, refusal: &Refusal) -> Event {
        let mut event = Event {
            boottime_ns: refusal.boottime_ns,
            ..of_sandbox(live)
        };
        if refusal.tgid == 0 {
            return event;
        }
        let Some((tgid, process)) = self.process(shared, live, refusal) else {
            return event;
        };
        event.process = ProcessKey {
            tgid,
            ..ProcessKey::ZERO
        };
        // Threads other than the first have numbers of their own, which nobody has told.
        if refusal.tid == refusal.tgid {
            event.tid = tgid;
        }
        // Of what it executed before an exec that came since, nothing is known.
        if let Some(process) = process
            && process.exec_boottime_ns <= refusal.boottime_ns
        {
            event.process.start_boottime_ns = process.start_boottime_ns;
            event.file = process.file;
            event.file_id = process.file_id;
            event.chain = process.chain;
            event.parent_chain = process.parent_chain;
        }
        event
    }

    /// Its number on the host, and its record where it has one.
    fn process(
        &mut self,
        shared: &Shared,
        live: &Live,
        refusal: &Refusal,
    ) -> Option<(u32, Option<ProcessValue>)> {
        let sandbox_id = live.state().sandbox_id;
        let is_it = |process: &ProcessValue| {
            process.start_boottime_ns / TICK_NS == refusal.start_ticks
                && process.sandbox_id == sandbox_id
        };
        let key = EndedKey {
            sandbox_id,
            inside_tgid: refusal.tgid,
        };
        let ended = || {
            let ended = shared.registry.ended(key)?;
            is_it(&ended.process).then_some((ended.tgid, Some(ended.process)))
        };
        // What had ended already is not looked for among those that live.
        if let Some(found) = ended() {
            return Some(found);
        }
        let living = self.host_tgid(live, (refusal.tgid, refusal.start_ticks));
        let living = living.map(|tgid| (tgid, shared.registry.process(tgid).filter(is_it)));
        match living {
            Some((_, Some(_))) => living,
            // It may have ended in between.
            unrecorded => ended().or(unrecorded),
        }
    }

    fn host_tgid(&mut self, live: &Live, inside: Inside) -> Option<u32> {
        if !self.host_tgids.contains_key(&inside) && !self.is_fresh {
            self.host_tgids = look_through(live);
            self.is_fresh = true;
        }
        self.host_tgids.get(&inside).copied()
    }
}

fn look_through(live: &Live) -> HashMap<Inside, u32> {
    let processes = live.cgroup.processes().unwrap_or_else(|error| {
        tracing::warn!(%error, "a sandbox's processes cannot be listed; records do not name them");
        Vec::new()
    });
    let found = processes.into_iter();
    found
        .filter_map(|tgid| Some((inside(tgid)?, tgid)))
        .collect()
}

/// How a process is known in its own pid namespace; `None` where it has ended.
fn inside(tgid: u32) -> Option<Inside> {
    let process = Process::new(i32::try_from(tgid).ok()?).ok()?;
    let numbers = process.status().ok()?.nspid?;
    let own = u32::try_from(*numbers.last()?).ok()?;
    Some((own, process.stat().ok()?.starttime))
}
