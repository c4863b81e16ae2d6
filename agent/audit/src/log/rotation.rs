//! Going on in a new file when one is full, so that no moment of it can lose a record.
//!
//! The full file is synced, the next one made beside it, and two renames put both in their places.
//! Killed before the first, nothing has happened; between them, no file is written, and the next start
//! makes one; after them, old files may be left over, which the next rotation removes. In each case
//! every record is in one file of the log, and the numbers go on.

use std::{io, path::PathBuf};

use super::{AuditLog, LogFiles};

/// The least that [`Rotation::file_bytes`] should be: under it there would be a file for each few records.
pub const FILE_BYTES_MIN: u64 = 4096;

/// How large a log may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes at which a file is full; its last record may reach beyond.
    pub file_bytes: u64,
    /// Full files that are kept besides the one that is written.
    pub keep: usize,
}

/// Why a log did not go on in a new file as it should. No record is lost by it, and the log is written
/// as before; after some more bytes it is tried again.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} audit log {}", path.display())]
pub struct RotateError {
    /// What was tried.
    pub action: &'static str,
    /// The log.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

// === impl Rotation ===

impl Default for Rotation {
    fn default() -> Self {
        Self {
            file_bytes: 64 * 1024 * 1024,
            keep: 8,
        }
    }
}

// === impl AuditLog ===

impl AuditLog {
    /// Goes on in a new file if this one is full, and removes the oldest that are too many.
    ///
    /// To be called before [`AuditLog::append`]. Blocks for an `fdatasync` and an `fsync` of the folder,
    /// but only once for each file.
    ///
    /// # Errors
    /// [`RotateError`]; it is told by [`AuditLog::rotation_problem`] too, until a rotation succeeds.
    pub fn rotate_if_full(&mut self) -> Result<(), RotateError> {
        // A torn line is ended first: who reads the files in a row must not see it as one with the next.
        if self.len_bytes < self.full_at_bytes || self.torn {
            return Ok(());
        }
        let result = self.rotate();
        let retry_at_bytes = self.len_bytes.saturating_add(self.rotation.file_bytes / 8);
        self.full_at_bytes = match result {
            Ok(()) => self.rotation.file_bytes,
            // Not at every record, of which there may be thousands a second.
            Err(_) => retry_at_bytes.max(self.rotation.file_bytes),
        };
        self.rotation_problem = result.as_ref().err().map(|error| {
            let RotateError { action, source, .. } = error;
            format!("cannot {action} it: {source}")
        });
        result
    }

    fn rotate(&mut self) -> Result<(), RotateError> {
        let path = &self.path;
        let cannot = |action| {
            let path = path.clone();
            move |source| RotateError {
                action,
                path,
                source,
            }
        };
        let full = self.folder.full().map_err(cannot("list the files of"))?;
        let last_seq = self.last_seq;
        if full.last().is_some_and(|newest| *newest >= last_seq) {
            // It holds no record of its own, and two files cannot have one name.
            return Ok(());
        }
        let folder = &self.folder;
        folder.sync_file(&self.file).map_err(cannot("sync"))?;
        let next = folder
            .make_next()
            .map_err(cannot("make the next file of"))?;
        folder.put_aside(last_seq).map_err(cannot("rename"))?;
        if let Err(error) = folder.begin_next() {
            // Where even this fails, records go to the file by its new name, which readers and the next
            // start know; so does the next rotation.
            drop(folder.put_back(last_seq));
            return Err(cannot("name the next file of")(error));
        }
        self.file = next;
        self.len_bytes = 0;
        folder.sync().map_err(cannot("sync the folder of"))?;
        let full = folder.full().map_err(cannot("list the files of"))?;
        let too_many = full.len().saturating_sub(self.rotation.keep);
        for oldest in full.iter().take(too_many) {
            let removed = folder.remove_full(*oldest);
            removed.map_err(cannot("remove an old file of"))?;
        }
        Ok(())
    }

    /// Why the last rotation failed; `None` where none failed since the last that succeeded.
    #[must_use]
    pub fn rotation_problem(&self) -> Option<&str> {
        self.rotation_problem.as_deref()
    }

    /// The files as they are now, to read them back.
    ///
    /// # Errors
    /// The folder or the file cannot be opened.
    pub fn files(&self) -> io::Result<LogFiles> {
        LogFiles::at(&self.path)
    }
}

#[cfg(test)]
mod tests;
