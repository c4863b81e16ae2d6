//! An exec that waits for its hash.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clawd_common::{record::FileKey, verdict::Reason};
use clawd_sys::fanotify::ExecEvent;

use crate::{
    book::Basis,
    digest::Hashing,
    sandbox::Sandbox,
    settle::{TRIES, hopeless, reason_of, until_settled},
    tables::Keys,
};

/// Longest an exec waits for its hash.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Bytes that are hashed before others have their turn: some milliseconds.
pub(crate) const SLICE_BYTES: u64 = 4 << 20;

/// An exec that waits for its hash.
pub(crate) struct Job {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) file: File,
    pub(crate) pid: i32,
    pub(crate) path: PathBuf,
    pub(crate) key: FileKey,
    pub(crate) basis: Basis,
    /// PT_INTERP of the program.
    pub(crate) interpreter: Option<PathBuf>,
    hashing: Option<Hashing>,
    /// The file has changed too lately to be hashed before.
    not_before: Option<Instant>,
    tries: u32,
    deadline: Instant,
}

/// What a turn came to.
pub(crate) enum Turn {
    /// There is more to do.
    More,
    /// The hash belongs to [`Job::key`], or there is none.
    Done(Result<[u8; 32], Reason>),
}

impl Job {
    pub(crate) fn new(
        sandbox: Arc<Sandbox>,
        (file, pid): (File, i32),
        path: PathBuf,
        key: FileKey,
        basis: Basis,
    ) -> Self {
        let now = Instant::now();
        Self {
            sandbox,
            file,
            pid,
            path,
            key,
            basis,
            interpreter: None,
            hashing: None,
            not_before: until_settled(&key).map(|wait| now + wait),
            tries: 0,
            deadline: now + DEADLINE,
        }
    }

    /// Goes on for one turn.
    pub(crate) fn turn(&mut self, keys: &mut dyn Keys, chunk: &mut [u8]) -> Turn {
        let hashing = self
            .hashing
            .get_or_insert_with(|| Hashing::new(self.deadline));
        let digest = match hashing.step(&self.file, chunk, SLICE_BYTES) {
            Ok(None) => return Turn::More,
            Ok(Some(digest)) => digest,
            Err(error) => return Turn::Done(Err(reason_of(&error))),
        };
        let Ok(after) = keys.key(self.file.as_fd()) else {
            return Turn::Done(Err(Reason::Unreadable));
        };
        if after == self.key {
            return Turn::Done(Ok(digest));
        }
        self.tries += 1;
        if self.tries >= TRIES {
            return Turn::Done(Err(Reason::ChangedWhileHashed));
        }
        self.key = after;
        if let Some(reason) = hopeless(&after) {
            return Turn::Done(Err(reason));
        }
        self.hashing = None;
        self.not_before = until_settled(&after).map(|wait| Instant::now() + wait);
        Turn::More
    }

    /// How long until its file has rested long enough.
    pub(crate) fn ready_in(&self, now: Instant) -> Duration {
        self.not_before
            .map_or(Duration::ZERO, |time| time.saturating_duration_since(now))
    }

    /// The event, to be answered.
    pub(crate) fn into_event(self) -> ExecEvent {
        ExecEvent {
            file: self.file.into(),
            pid: self.pid,
        }
    }
}

#[cfg(test)]
mod tests;
