//! System calls that a sandbox was refused: from its pid 1's pipe to the audit log.
//!
//! Pid 1 has answered them already. What is read here is of fixed size and of pid 1 alone.

mod limit;
mod who;

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clawd_audit::{AuditRecord, Clock, DaemonEvent, RefusedCall, refused_call};
use clawd_common::{
    event::Event,
    verdict::{Action, NO_GRANT},
};
use clawd_sandbox::{REFUSAL_BYTES, Refusal};
use tokio::io::unix::AsyncFd;

use crate::{
    audit,
    sandboxes::{Live, Shared},
};
use limit::{Limit, Refused, kinds};
use who::Who;

/// How long more refusals are waited for after some were read: they are cheaper together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Records that are read at once.
const BATCH: usize = 512;
/// Reads of one [`drain`]: more than the pipe holds, so what was told before it is logged after it,
/// however fast more comes.
const READS: u32 = 16;

/// The reader of one sandbox's refusals.
pub(crate) struct Refusals {
    /// Does not block.
    pipe: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limit: Limit,
    who: Who,
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pipe {
    /// All that was there has been read.
    Empty,
    /// More came than one look takes.
    More,
    /// All has been read.
    Ended,
}

// === impl Refusals ===

impl Refusals {
    /// Of the read end of a sandbox's pipe.
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self {
            pipe,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what has been told up to now. Blocks for the time that its programs take to look up.
pub(crate) fn drain(shared: &Shared, live: &Live) -> Pipe {
    let mut state = live.refusals.state();
    state.who.begin();
    let mut buffer = vec![0; BATCH * REFUSAL_BYTES];
    for _ in 0..READS {
        // The pipe holds whole records alone, so it gives whole records alone.
        let count = match rustix::io::read(&live.refusals.pipe, &mut buffer) {
            Ok(0) => return Pipe::Ended,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => return Pipe::Empty,
            Err(error) => {
                tracing::error!(%error, "a sandbox's refusals cannot be read");
                return Pipe::Ended;
            }
        };
        let clock = audit::clock();
        let bytes = buffer.get(..count).unwrap_or_default();
        for record in bytes.as_chunks::<REFUSAL_BYTES>().0 {
            log(shared, live, &mut state, (&Refusal::decode(record), &clock));
        }
    }
    Pipe::More
}

fn log(shared: &Shared, live: &Live, state: &mut State, (refusal, clock): (&Refusal, &Clock)) {
    if refusal.lost > 0 {
        shared.audit.daemon(&DaemonEvent::EventsLost {
            sandbox: Some(live.state().name.as_str()),
            count: refusal.lost.into(),
        });
    }
    if !refusal.is_call {
        return;
    }
    let call = RefusedCall {
        number: refusal.number,
        arch: refusal.arch,
        arguments: refusal.arguments,
    };
    let admitted = state.limit.0.admit(kinds(&call), call, refusal.boottime_ns);
    if let Some(summary) = admitted.summary {
        summarise(shared, live, &summary, clock);
    }
    if admitted.tell {
        let event = state.who.event(shared, live, refusal);
        let record = refused_call(&event, &call, shared.registry.as_ref(), clock);
        shared.audit.write(record);
    }
}

/// Writes how often a call was refused besides the times that have records.
fn summarise(shared: &Shared, live: &Live, summary: &Refused, clock: &Clock) {
    let event = Event {
        boottime_ns: summary.until_boottime_ns,
        ..of_sandbox(live)
    };
    let call = RefusedCall {
        arguments: [0; 6],
        ..summary.sample
    };
    let record = refused_call(&event, &call, shared.registry.as_ref(), clock);
    shared.audit.write(AuditRecord {
        // One count may stand for many numbers and many arguments.
        syscall: if record.syscall_table.is_some() {
            None
        } else {
            record.syscall
        },
        arguments: None,
        socket_family: None,
        socket_type: None,
        protocol: None,
        count: Some(summary.count),
        ..record
    });
}

/// An event of a sandbox of which nothing else is known.
fn of_sandbox(live: &Live) -> Event {
    let state = live.state();
    Event {
        sandbox_id: state.sandbox_id,
        policy_id: state.policy.policy_id,
        action_raw: Action::Denied.to_raw(),
        grant_index: NO_GRANT,
        ..Event::ZERO
    }
}

/// Writes what is still only counted, of seconds that are over.
pub(crate) fn tell_counts(shared: &Shared, live: &Live) {
    let clock = audit::clock();
    let summaries = live.refusals.state().limit.0.over(audit::boottime_ns());
    for summary in &summaries {
        summarise(shared, live, summary, &clock);
    }
}

/// Writes what is still only counted: nothing more is read.
pub(crate) fn tell_all_counts(shared: &Shared, live: &Live) {
    let clock = audit::clock();
    let summaries = live.refusals.state().limit.0.over(u64::MAX);
    for summary in &summaries {
        let now = Refused {
            until_boottime_ns: audit::boottime_ns(),
            ..*summary
        };
        summarise(shared, live, &now, &clock);
    }
}

/// Reads a sandbox's refusals as they come, until its pid 1 has ended.
pub(crate) async fn follow(shared: Arc<Shared>, live: Arc<Live>) {
    #[expect(
        deprecated,
        reason = "the call that replaces it is unsafe; an OwnedFd keeps its descriptor"
    )]
    let pipe = live.refusals.pipe.try_clone().and_then(AsyncFd::new);
    let pipe = match pipe {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::error!(%error, "cannot wait for a sandbox's refusals; they are read when somebody asks");
            return;
        }
    };
    let mut found = Pipe::Empty;
    while found != Pipe::Ended {
        // What was left unread wakes nobody.
        if found == Pipe::Empty {
            match pipe.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => {
                    tracing::error!(%error, "cannot wait for a sandbox's refusals");
                    return;
                }
            }
        }
        let (shared, live) = (Arc::clone(&shared), Arc::clone(&live));
        let drained = tokio::task::spawn_blocking(move || drain(&shared, &live)).await;
        found = drained.unwrap_or(Pipe::Ended);
        tokio::time::sleep(TOGETHER).await;
    }
}
