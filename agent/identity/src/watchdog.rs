//! What the daemon is told of the threads that can hold up an exec.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// When a thread began what it does.
#[derive(Default)]
pub(crate) struct Progress {
    /// Milliseconds since the gate's start, plus one; 0 while it waits for something to do.
    busy_since: AtomicU64,
}

impl Progress {
    pub(crate) fn begins(&self, started: Instant) {
        let since_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(since_ms + 1, Ordering::Relaxed);
    }

    pub(crate) fn waits(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// How long it has been at its present step.
    pub(crate) fn busy_for(&self, started: Instant) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => started
                .elapsed()
                .saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

/// Counts a thread that should never end, when it does, however it does.
pub(crate) struct Ending<'a>(pub(crate) &'a AtomicU32);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicU32, Ordering},
        time::{Duration, Instant},
    };

    use super::{Ending, Progress};

    #[test]
    fn progress_is_told_from_the_begin_of_a_step_and_not_while_it_waits() {
        let Some(started) = Instant::now().checked_sub(Duration::from_secs(5)) else {
            return;
        };
        let progress = Progress::default();
        assert_eq!(progress.busy_for(started), Duration::ZERO);
        progress.begins(started);
        assert!(progress.busy_for(started) < Duration::from_secs(1));
        let earlier = started - Duration::from_secs(3);
        assert!(progress.busy_for(earlier) >= Duration::from_secs(3));
        progress.waits();
        assert_eq!(progress.busy_for(earlier), Duration::ZERO);
    }

    #[test]
    fn ending_counts_a_thread_that_panics() {
        let ended = AtomicU32::new(0);
        let thread = AssertUnwindSafe(|| {
            let _ending = Ending(&ended);
            panic!("as a thread may");
        });
        assert!(catch_unwind(thread).is_err());
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }
}
