//! Execs that wait for a worker, and whose turn it is.
//!
//! Each holds a descriptor of the gate's and a process of its sandbox. Sandboxes have their turns one
//! after the other, whatever each has waiting, so one with many new or large files holds up itself
//! alone.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clawd_sys::fanotify::ExecEvent;

use crate::{groups::Reading, job::Job, sandbox::Sandbox};

/// Execs of one sandbox that are looked at at one time: each may hold a lease, and its time runs.
const LOOKED_AT_MAX: usize = 32;

/// Execs of one sandbox that may wait: more processes than builds start at one time.
const OF_SANDBOX_MAX: usize = 4096;

/// Those that may wait even when the execs of others have used up most of the room.
const OF_SANDBOX_SURE: usize = 32;

/// An exec that waits.
pub(crate) struct Waiting {
    pub(crate) sandbox: Arc<Sandbox>,
    /// The group that told of it, which takes its answer.
    pub(crate) reading: Arc<Reading>,
    pub(crate) step: Step,
}

/// How far the gate is with it.
pub(crate) enum Step {
    /// Nobody has looked at it.
    Event(ExecEvent),
    /// It waits for its hash.
    Job(Box<Job>),
}

/// What waits of one sandbox.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// How many wait, those that a worker has included.
    all: usize,
    /// How many of them were looked at.
    looked_at: usize,
}

/// The queue, for one thread.
pub(crate) struct Lines {
    turns: VecDeque<u32>,
    by_sandbox: HashMap<u32, Line>,
    /// How many wait, of all sandboxes.
    all: usize,
    room: usize,
}

/// The queue, for all threads.
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
}

// === impl Waiting ===

impl Waiting {
    /// Answers it as it is.
    pub(crate) fn go_on(self) {
        self.reading.allow(match self.step {
            Step::Event(event) => event,
            Step::Job(job) => job.into_event(),
        });
    }

    /// How long until a worker may have it; `None` where only another thread can tell.
    fn ready_in(&self, now: Instant, may_look: bool) -> Option<Duration> {
        if self.sandbox.has_left() {
            return Some(Duration::ZERO);
        }
        match &self.step {
            // Before its policy is loaded nobody knows what it is granted.
            _ if self.sandbox.is_entering() => None,
            Step::Event(_) => may_look.then_some(Duration::ZERO),
            Step::Job(job) => Some(job.ready_in(now)),
        }
    }
}

// === impl Line ===

impl Line {
    /// Each that is ready in so long, and where it stands.
    fn ready_in(&self, now: Instant) -> impl Iterator<Item = (usize, Duration)> {
        let may_look = self.looked_at < LOOKED_AT_MAX;
        let waiting = self.waiting.iter().enumerate();
        waiting.filter_map(move |(at, waiting)| Some((at, waiting.ready_in(now, may_look)?)))
    }

    /// Takes the first that a worker may have now.
    fn take(&mut self, now: Instant) -> Option<Waiting> {
        let (at, _) = self.ready_in(now).find(|(_, time)| time.is_zero())?;
        let waiting = self.waiting.remove(at)?;
        if matches!(waiting.step, Step::Event(_)) {
            self.looked_at += 1;
        }
        Some(waiting)
    }
}

// === impl Lines ===

impl Lines {
    /// Where so many may wait, of all sandboxes together.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            turns: VecDeque::new(),
            by_sandbox: HashMap::new(),
            all: 0,
            room,
        }
    }

    /// Whether one more exec of the sandbox may wait.
    fn admits(&self, sandbox_id: u32) -> bool {
        let of_sandbox = self.by_sandbox.get(&sandbox_id).map_or(0, |line| line.all);
        // The last quarter of the room is for those who have little waiting.
        let is_roomy = self.all < self.room - self.room / 4;
        self.all < self.room
            && (of_sandbox < OF_SANDBOX_SURE || (of_sandbox < OF_SANDBOX_MAX && is_roomy))
    }

    /// Has an exec wait that nobody has looked at; returns it where there is no room.
    pub(crate) fn push(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        let id = waiting.sandbox.id;
        if !self.admits(id) {
            return Err(waiting);
        }
        self.all += 1;
        let line = self.by_sandbox.entry(id).or_default();
        line.all += 1;
        if line.waiting.is_empty() {
            self.turns.push_back(id);
        }
        line.waiting.push_back(waiting);
        Ok(())
    }

    /// Takes what is ready of the sandbox whose turn it is. Whoever takes it gives it back by
    /// [`Lines::put_back`] or [`Lines::done`].
    pub(crate) fn take(&mut self, now: Instant) -> Option<Waiting> {
        for _ in 0..self.turns.len() {
            let id = self.turns.pop_front()?;
            let Some(line) = self.by_sandbox.get_mut(&id) else {
                continue;
            };
            let taken = line.take(now);
            if !line.waiting.is_empty() {
                self.turns.push_back(id);
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// Has what was taken wait for its next turn, before all others of its sandbox: one is finished
    /// before the next begins.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        let id = waiting.sandbox.id;
        let line = self.by_sandbox.entry(id).or_default();
        if line.waiting.is_empty() {
            self.turns.push_back(id);
        }
        line.waiting.push_front(waiting);
    }

    /// What was taken waits no more.
    pub(crate) fn done(&mut self, sandbox_id: u32) {
        self.all = self.all.saturating_sub(1);
        if let Some(line) = self.by_sandbox.get_mut(&sandbox_id) {
            line.all = line.all.saturating_sub(1);
            line.looked_at = line.looked_at.saturating_sub(1);
            if line.all == 0 {
                self.by_sandbox.remove(&sandbox_id);
            }
        }
    }

    /// How long until something may be ready; `None` where only another thread can tell.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        let lines = self.by_sandbox.values();
        lines
            .flat_map(|line| line.ready_in(now))
            .map(|(_, time)| time)
            .min()
    }
}

// === impl Queue ===

impl Queue {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            lines: Mutex::new(Lines::new(room)),
            changed: Condvar::new(),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Lines::push`].
    pub(crate) fn push(&self, waiting: Waiting) -> Result<(), Waiting> {
        self.lines().push(waiting)?;
        self.changed.notify_one();
        Ok(())
    }

    /// As [`Lines::take`]; waits until something is ready.
    pub(crate) fn take(&self) -> Waiting {
        let mut lines = self.lines();
        loop {
            let now = Instant::now();
            if let Some(taken) = lines.take(now) {
                return taken;
            }
            lines = match lines.patience(now) {
                None => self
                    .changed
                    .wait(lines)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = self.changed.wait_timeout(lines, patience);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// As [`Lines::put_back`].
    pub(crate) fn put_back(&self, waiting: Waiting) {
        self.lines().put_back(waiting);
    }

    /// As [`Lines::done`]. The worker that calls it looks for the next itself.
    pub(crate) fn done(&self, sandbox_id: u32) {
        self.lines().done(sandbox_id);
    }

    /// Has workers look again: a sandbox has entered or left.
    pub(crate) fn look_again(&self) {
        // With the lock, so that none is between its look and its sleep.
        let _lines = self.lines();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
