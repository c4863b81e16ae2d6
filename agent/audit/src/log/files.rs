//! The files of a log, to be read from the newest to the oldest.

use std::{fs::File, io, path::Path};

use super::folder::Folder;

/// The files of a log as they were at one moment.
///
/// What is written is open from then on, whatever becomes of its name; full files keep their names
/// until they are removed, so they are opened when they are asked for.
#[derive(Debug)]
pub struct LogFiles {
    /// `None` where there is no folder.
    folder: Option<Folder>,
    written: Option<File>,
    /// Oldest first.
    full: Vec<u64>,
}

// === impl LogFiles ===

impl LogFiles {
    /// Those of the log at `path`; a missing log has none.
    ///
    /// Nobody may rotate it meanwhile: [`super::AuditLog::files`] sees to that.
    ///
    /// # Errors
    /// The folder or the file cannot be opened; a symbolic link in the file's place is not followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        let folder = match Folder::of(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            folder => Some(folder?),
        };
        let (written, full) = match &folder {
            Some(folder) => (folder.read()?, folder.full()?),
            None => (None, Vec::new()),
        };
        Ok(Self {
            folder,
            written,
            full,
        })
    }

    /// The next older file, and whether it is the one that is written; `None` after the oldest, or where
    /// that was removed meanwhile.
    pub(crate) fn next_older(&mut self) -> io::Result<Option<(File, bool)>> {
        if let Some(written) = self.written.take() {
            return Ok(Some((written, true)));
        }
        let Some((folder, last_seq)) = self.folder.as_ref().zip(self.full.pop()) else {
            return Ok(None);
        };
        let file = folder.read_full(last_seq)?;
        // The oldest go first, so those before it are gone too.
        if file.is_none() {
            self.full.clear();
        }
        Ok(file.map(|file| (file, false)))
    }
}
