//! From the kernel's ring buffers to the audit log.

pub(crate) mod floods;

use std::{
    collections::HashMap,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clawd_audit::{Clock, DaemonEvent, decode};
use clawd_kernel::{EventReader, EventRing, Pins};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};

use crate::{audit, flows::dropped, refusals, sandboxes::Shared};

/// How often allowed attempts and execs are fetched; denials come at once.
const GRANTED_EVERY: Duration = Duration::from_millis(100);
/// How often the log is forced to the disk, and lost events and limits that were met are looked for.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The readers of both rings.
pub(crate) struct Rings {
    denied: AsyncFd<Readable>,
    granted: EventReader,
}

/// [`EventReader`] as tokio waits for it.
struct Readable(EventReader);

impl AsRawFd for Readable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Rings {
    pub(crate) fn open(pins: &Pins) -> anyhow::Result<Self> {
        let denied = Readable(EventReader::open(pins, EventRing::Denied)?);
        #[expect(
            deprecated,
            reason = "the call that replaces it is unsafe; the ring owns its descriptor and keeps it"
        )]
        let denied =
            AsyncFd::with_interest(denied, Interest::READABLE).context("cannot wait for events")?;
        Ok(Self {
            denied,
            granted: EventReader::open(pins, EventRing::Granted)?,
        })
    }
}

/// Reads both rings until the daemon ends. `flush` asks that all events so far be in the log.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut rings: Rings,
    mut flush: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut granted = tokio::time::interval(GRANTED_EVERY);
    let mut sync = tokio::time::interval(SYNC_EVERY);
    let mut lost = HashMap::new();
    loop {
        tokio::select! {
            ready = rings.denied.readable() => match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => {
                    tracing::error!(%error, "cannot wait for denials; they are fetched by the clock");
                    tokio::time::sleep(GRANTED_EVERY).await;
                }
            },
            _ = granted.tick() => {}
            _ = sync.tick() => {
                report_lost(&shared, &mut lost);
                let shared = Arc::clone(&shared);
                drop(tokio::task::spawn_blocking(move || {
                    shared.limits.look(&shared.audit);
                    floods::tell_counts(&shared, audit::boottime_ns());
                    for live in shared.list() {
                        refusals::tell_counts(&shared, &live);
                    }
                    if let Err(error) = shared.audit.sync() {
                        tracing::error!(%error, "the audit log cannot be forced to the disk");
                    }
                }));
            }
            asked = flush.recv() => {
                drain(&shared, &mut rings);
                if asked.is_some_and(|done| done.send(()).is_err()) {
                    tracing::debug!("whoever asked for the events is gone");
                }
                continue;
            }
        }
        drain(&shared, &mut rings);
    }
}

fn drain(shared: &Arc<Shared>, rings: &mut Rings) {
    let clock = audit::clock();
    rings
        .denied
        .get_mut()
        .0
        .drain(|bytes| log(shared, bytes, &clock));
    rings.granted.drain(|bytes| log(shared, bytes, &clock));
}

fn log(shared: &Arc<Shared>, bytes: &[u8], clock: &Clock) {
    match decode(bytes) {
        Ok(event) => {
            floods::log(shared, &event, clock);
            dropped::note(shared, &event);
        }
        Err(error) => tracing::error!(%error, "an event of the kernel's is not readable"),
    }
}

/// Events that found a ring full were counted in the kernel; the log says so.
fn report_lost(shared: &Shared, reported: &mut HashMap<u32, u64>) {
    for live in shared.list() {
        let (sandbox_id, name) = {
            let state = live.state();
            (state.sandbox_id, state.name.clone())
        };
        let total = shared.registry.counters(sandbox_id).events_lost;
        let before = reported.insert(sandbox_id, total).unwrap_or(0);
        if total > before {
            shared.audit.daemon(&DaemonEvent::EventsLost {
                sandbox: Some(name.as_str()),
                count: total - before,
            });
        }
    }
}

/// Waits until every event that happened before is in the log.
pub(crate) async fn flush(shared: &Arc<Shared>) {
    let of_all = Arc::clone(shared);
    let drained = tokio::task::spawn_blocking(move || {
        for live in of_all.list() {
            refusals::drain(&of_all, &live);
        }
    });
    if let Err(error) = drained.await {
        tracing::error!(%error, "reading the sandboxes' refusals failed");
    }
    let (done, asked) = oneshot::channel();
    if shared.flush.send(done).await.is_ok() && asked.await.is_err() {
        tracing::debug!("the reader of events is gone");
    }
}
