//! The fanotify groups, and the threads that read their events.
//!
//! The host bounds the groups of all programs together, root's too, so sandboxes share a few. The
//! first ones have a group each: an answer wakes all that wait in a group, so that many execs of one
//! sandbox that wait are felt by those alone that share its group.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clawd_sys::fanotify::{ExecEvent, Group};

use crate::{
    sandbox::{WatchError, no_group},
    watchdog::Progress,
};

/// Most groups: an eighth of what hosts allow (128), since others may need some, another clawd too.
pub const GROUPS_MAX: usize = 16;

/// A group, with what is known of the thread that reads its events.
pub(crate) struct Reading {
    pub(crate) group: Group,
    /// Sandboxes whose mounts are marked in it.
    sandboxes: AtomicUsize,
    pub(crate) progress: Progress,
}

/// A sandbox's place in a group.
pub(crate) struct Seat(Arc<Reading>);

/// All groups. None is closed while the gate lives: its thread waits in the kernel.
pub(crate) struct Groups {
    most: usize,
    groups: Mutex<Vec<Arc<Reading>>>,
}

// === impl Reading ===

impl Reading {
    pub(crate) fn new(group: Group) -> Arc<Self> {
        Arc::new(Self {
            group,
            sandboxes: AtomicUsize::new(0),
            progress: Progress::default(),
        })
    }

    /// Lets an exec go on that this group told of.
    pub(crate) fn allow(&self, event: ExecEvent) {
        if let Err(error) = self.group.allow(event) {
            tracing::debug!(%error, "an exec was gone before its answer");
        }
    }

    fn sandboxes(&self) -> usize {
        self.sandboxes.load(Ordering::Relaxed)
    }
}

// === impl Seat ===

impl Seat {
    pub(crate) fn take(reading: &Arc<Reading>) -> Self {
        reading.sandboxes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(reading))
    }

    /// The group.
    pub(crate) fn group(&self) -> &Group {
        &self.0.group
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sandboxes.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Groups ===

impl Groups {
    /// None yet, and so many at most.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            groups: Mutex::new(Vec::new()),
        }
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Arc<Reading>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more sandbox: in a group of its own while there are few, else in the one with
    /// the fewest. `read` has a new group read.
    pub(crate) fn seat(
        &self,
        read: impl FnOnce(usize, &Arc<Reading>) -> std::io::Result<()>,
    ) -> Result<Seat, WatchError> {
        let mut groups = self.groups();
        let emptiest = groups.iter().min_by_key(|reading| reading.sandboxes());
        let emptiest = emptiest.cloned();
        let is_crowded = emptiest
            .as_ref()
            .is_none_or(|reading| reading.sandboxes() > 0);
        if is_crowded && groups.len() < self.most {
            let begun = Group::new().and_then(|group| {
                let reading = Reading::new(group);
                read(groups.len(), &reading).map(|()| reading)
            });
            match (begun, &emptiest) {
                (Ok(reading), _) => {
                    let seat = Seat::take(&reading);
                    groups.push(reading);
                    return Ok(seat);
                }
                (Err(error), Some(_)) => {
                    tracing::debug!(%error, "no group for one sandbox alone");
                }
                (Err(error), None) => return Err(no_group(error)),
            }
        }
        emptiest
            .as_ref()
            .map(Seat::take)
            .ok_or_else(|| no_group(std::io::ErrorKind::NotFound.into()))
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.groups().len()
    }

    /// How long the slowest of the threads that read has been at one step.
    pub(crate) fn busy_for(&self, started: std::time::Instant) -> Duration {
        let groups = self.groups();
        let busy = groups
            .iter()
            .map(|reading| reading.progress.busy_for(started));
        busy.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Groups, Seat};

    /// Few, as the host bounds how many there are.
    const MOST: usize = 3;

    fn seat(groups: &Groups) -> Seat {
        groups.seat(|_, _| Ok(())).expect("a place")
    }

    #[test]
    fn seats_are_in_groups_of_their_own_while_there_are_few_and_then_spread() {
        let groups = Groups::new(MOST);
        let first: Vec<Seat> = (0..MOST).map(|_| seat(&groups)).collect();
        assert!(first.iter().all(|seat| seat.0.sandboxes() == 1));
        let second: Vec<Seat> = (0..MOST).map(|_| seat(&groups)).collect();
        assert_eq!(groups.count(), MOST);
        assert!(first.iter().all(|seat| seat.0.sandboxes() == 2));
        drop(second);
        assert!(first.iter().all(|seat| seat.0.sandboxes() == 1));
    }

    #[test]
    fn seat_that_was_left_is_taken_before_another_group_is_made() {
        let groups = Groups::new(MOST);
        drop(seat(&groups));
        let _again = seat(&groups);
        assert_eq!(groups.count(), 1);
    }

    #[test]
    fn seat_where_no_thread_can_be_had_shares_a_group_and_fails_where_there_is_none() {
        let groups = Groups::new(MOST);
        let no_thread = || groups.seat(|_, _| Err(std::io::ErrorKind::OutOfMemory.into()));
        assert!(no_thread().is_err());
        assert_eq!(groups.count(), 0);
        let first = seat(&groups);
        let _second = no_thread().expect("shared");
        assert_eq!((groups.count(), first.0.sandboxes()), (1, 2));
    }
}
