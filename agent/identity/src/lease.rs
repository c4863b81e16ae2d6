//! Leases that are held until their exec is over.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::AsFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clawd_common::record::{Executed, FileKey, LeasedKey};
use clawd_sys::lease;

use crate::book::Book;

/// How long an exec may take after the gate's answer. A failed one tells nobody that it is over, and
/// a writer waits for the lease meanwhile. Longer than the kernel takes the file for identified.
const PATIENCE: Duration = Duration::from_secs(5);

/// Execs of one sandbox that may be under way at one time: what the kernel's table holds is for all.
const OF_SANDBOX_MAX: usize = 256;

/// A lease, held by a descriptor of the open file that has it.
pub(crate) struct Held {
    pub(crate) sandbox_id: u32,
    pub(crate) tgid: u32,
    pub(crate) key: FileKey,
    pub(crate) file: File,
}

struct Entry {
    held: Held,
    until: Instant,
}

/// The leases of execs that go on, by number.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<u32, Entry>>);

impl Leases {
    fn entries(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a lease, before anything says that it is held; false where the sandbox has too many.
    pub(crate) fn hold(&self, number: u32, held: Held) -> bool {
        let until = Instant::now() + PATIENCE;
        let mut entries = self.entries();
        let of_sandbox = entries
            .values()
            .filter(|entry| entry.held.sandbox_id == held.sandbox_id);
        if of_sandbox.count() >= OF_SANDBOX_MAX {
            return false;
        }
        entries.insert(number, Entry { held, until });
        true
    }

    /// Gives back a lease that nothing was published for.
    pub(crate) fn drop(&self, number: u32) {
        self.entries().remove(&number);
    }

    /// An exec is over. Returns whether a writer had come before it was: then the process has lost
    /// its grants.
    pub(crate) fn finish(&self, executed: Executed, book: &Mutex<Book>) -> bool {
        let entry = self.entries().remove(&executed.lease);
        entry.is_some_and(|entry| give_back(&entry.held, book))
    }

    /// Gives back the leases of execs that told nothing; returns the processes that lost their grants.
    pub(crate) fn expire(&self, book: &Mutex<Book>) -> Vec<u32> {
        let now = Instant::now();
        let mut over: Vec<Held> = Vec::new();
        {
            let mut entries = self.entries();
            let numbers: Vec<u32> = entries
                .iter()
                .filter(|(_, entry)| entry.until < now)
                .map(|(number, _)| *number)
                .collect();
            for number in numbers {
                over.extend(entries.remove(&number).map(|entry| entry.held));
            }
        }
        over.retain(|held| give_back(held, book));
        over.into_iter().map(|held| held.tgid).collect()
    }
}

/// Looks whether the lease was broken before it goes. A writer that came while it was held waits in
/// `open(2)` until now; by then the exec has refused it, or has failed because of it. This is the
/// second lock on that door.
fn give_back(held: &Held, book: &Mutex<Book>) -> bool {
    let key = LeasedKey {
        file: held.key,
        tgid: held.tgid,
        reserved: 0,
    };
    let tgid = held.tgid;
    if let Err(error) = lock(book).tables().lease(&key, None) {
        tracing::warn!(%error, tgid, "a lease stays in the kernel's table");
    }
    let is_unbroken = lease::is_held(held.file.as_fd()).unwrap_or(false);
    if !is_unbroken {
        lock(book).revoke(tgid, &held.key);
    }
    if let Err(error) = lease::release(held.file.as_fd()) {
        tracing::debug!(%error, tgid, "a lease was gone already");
    }
    !is_unbroken
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
