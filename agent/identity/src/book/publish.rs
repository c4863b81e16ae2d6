//! The last writes of an exec: its identity, and what reports tell of it.

use std::path::Path;

use clawd_common::{
    record::{FileKey, LeasedKey, LeasedValue, SeenValue},
    verdict::Reason,
};

use rustix::time::{ClockId, clock_gettime};

use super::{Basis, Book, Exec, full};
use crate::files::{Known, fixed};

/// Reports of execs that are remembered as told; the map that has them is larger.
const TOLD_MAX: usize = 2048;
/// How long an exec may take for identified what was leased for it, in nanoseconds: the rest of the
/// exec takes far less, and the lease itself is held longer.
const LEASE_NS: u64 = 3_000_000_000;

/// The kernel's boot clock, as `bpf_ktime_get_boot_ns` tells it.
pub(crate) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

impl Book {
    /// Last of all: from here on the exec carries the identity.
    pub(super) fn publish(&mut self, exec: &Exec<'_>, file_id: u32) -> Result<(), Reason> {
        match &exec.basis {
            Basis::Leased { lease } => {
                let until = now_ns() + LEASE_NS;
                let epoch = self.tables.epoch().map_err(|error| full(&error))?;
                let value = LeasedValue {
                    file_id,
                    lease: *lease,
                    epoch,
                    reserved: 0,
                    until_boottime_ns: until,
                };
                let key = LeasedKey {
                    file: exec.key,
                    tgid: exec.tgid,
                    reserved: 0,
                };
                self.tables
                    .lease(&key, Some(value))
                    .map_err(|error| full(&error))
            }
            Basis::ReadOnly { place, linked } => {
                if self.files.is_settled(&exec.key) {
                    return Ok(());
                }
                // A sandbox that can write it may have come while it was hashed.
                if self.is_writable(place, *linked) {
                    return Err(Reason::WritableMount);
                }
                if self.files.keys() >= self.capacity.keys {
                    self.evict();
                }
                self.tables
                    .set_identity(&exec.key, Some(file_id))
                    .map_err(|error| full(&error))?;
                let known = Known {
                    sha256: exec.sha256,
                    place: Some(place.clone()),
                    linked: *linked,
                    published: true,
                };
                self.files.remember(exec.key, known);
                Ok(())
            }
        }
    }

    /// Takes the record of a process away that executes this file: it has no grants until it executes
    /// something again.
    pub(crate) fn revoke(&mut self, tgid: u32, key: &FileKey) {
        let runs_it = self
            .tables
            .process(tgid)
            .is_some_and(|process| process.file == *key);
        if runs_it && let Err(error) = self.tables.revoke(tgid) {
            tracing::error!(%error, tgid, "a process keeps grants that it should lose");
        }
    }

    /// Tells reports what became of a file.
    pub(crate) fn tell(
        &mut self,
        key: &FileKey,
        path: &Path,
        sha256: Option<[u8; 32]>,
        reason: Reason,
    ) {
        if self
            .told
            .get(key)
            .is_some_and(|(told, why)| told == path && *why == reason)
        {
            return;
        }
        let (bytes, path_len_bytes) = fixed(path);
        let value = SeenValue {
            sha256: sha256.unwrap_or_default(),
            path_len_bytes,
            reason_raw: u32::from(reason.to_raw()),
            path: bytes,
        };
        if let Err(error) = self.tables.set_seen(key, &value) {
            tracing::warn!(%error, path = %path.display(), "reports will not name a program");
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(*key, (path.to_path_buf(), reason));
    }
}
