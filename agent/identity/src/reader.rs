//! The threads that take exec events from the kernel.
//!
//! Such a thread waits in `read(2)` itself and does nothing that can take its time: it answers what
//! is known, and leaves all else to the workers. So a program that is known waits for no disk and no
//! hash, whatever others execute.
//!
//! It has the priority of any thread. A higher nice value changed nothing that could be measured, and
//! with real-time priority an exec took 25 us longer: the kernel then wakes it where it was, not on the
//! processor that the exec has just left.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clawd_common::record::OpenFile;
use clawd_sys::fanotify::ExecEvent;

use crate::{
    gate::Shared,
    groups::Reading,
    judge::warm,
    protocol::Notice,
    queue::{Step, Waiting},
    tables::Locate,
};

/// Between two attempts to read that fail.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads one group's events for ever.
pub(crate) fn read_events(shared: &Shared, reading: &Arc<Reading>, locate: &mut dyn Locate) {
    loop {
        reading.progress.waits();
        let batch = match reading.group.read() {
            Ok(batch) => batch,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!(%error, "the exec gate cannot read events");
                shared.unseen.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        reading.progress.begins(shared.started);
        let unseen = u64::from(batch.unopened) + u64::from(batch.overflowed);
        if unseen > 0 {
            shared.unseen.fetch_add(unseen, Ordering::Relaxed);
        }
        for event in batch.events {
            take_up(shared, reading, locate, event);
        }
    }
}

/// Answers what is known, and has a worker look at what is not.
fn take_up(shared: &Shared, reading: &Arc<Reading>, locate: &mut dyn Locate, event: ExecEvent) {
    // Without a key there is nothing to publish, and nothing to tell it by.
    let Ok(OpenFile {
        key,
        mount_namespace,
        ..
    }) = locate.locate(event.file.as_fd())
    else {
        return reading.allow(event);
    };
    // Through a mount of no sandbox that is watched (any more), or one that was taken away meanwhile:
    // nobody can tell whose it is, so it goes on without identity.
    let Some(sandbox) = shared.watched.of_namespace(mount_namespace) else {
        shared.unseen.fetch_add(1, Ordering::Relaxed);
        return reading.allow(event);
    };
    if sandbox.is_entered()
        && (warm(shared, &sandbox, event.pid, &key) || shared.scripts().has(&key))
    {
        return reading.allow(event);
    }
    let waiting = Waiting {
        sandbox,
        reading: Arc::clone(reading),
        step: Step::Event(event),
    };
    if let Err(waiting) = shared.queue.push(waiting) {
        waiting.sandbox.unseen.fetch_add(1, Ordering::Relaxed);
        waiting.go_on();
    }
}

impl Shared {
    /// Tells of execs that went on unseen since the last time: many at once are one notice.
    pub(crate) fn tell_unseen(&self) {
        let told = |sandbox_id: Option<u32>, count: u64| {
            if count > 0 {
                self.notify(vec![Notice::Unseen { sandbox_id, count }]);
            }
        };
        told(None, self.unseen.swap(0, Ordering::Relaxed));
        for sandbox in self.watched.all() {
            told(Some(sandbox.id), sandbox.unseen.swap(0, Ordering::Relaxed));
        }
    }
}
