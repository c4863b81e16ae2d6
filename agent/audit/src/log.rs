//! The sink: JSON lines appended to a file, numbered without gaps across files and restarts.

#[cfg(test)]
mod faults;
mod files;
mod folder;
mod rotation;

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

pub use files::LogFiles;
use folder::{Folder, PRIVATE};
pub use rotation::{FILE_BYTES_MIN, RotateError, Rotation};
use rustix::fs::FileType;

use crate::{
    escape::escape_json,
    record::AuditRecord,
    tail::{LinesBack, read_line},
};

/// Damaged lines at the end of a log that are passed over to find its last number; each start
/// after a crash leaves at most one.
const DAMAGED_LINES: u64 = 1024;

/// An open audit log. One process writes to it; the caller sees to that.
#[derive(Debug)]
pub struct AuditLog {
    file: File,
    folder: Folder,
    path: PathBuf,
    rotation: Rotation,
    len_bytes: u64,
    /// Size at which the next rotation is tried.
    full_at_bytes: u64,
    /// Why the last rotation failed.
    rotation_problem: Option<String>,
    last_seq: u64,
    /// Whether the file may end within a line, which the next record must not continue.
    torn: bool,
    write_errors: u64,
    damaged_lines: u64,
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// With its number.
    pub record: AuditRecord,
    /// The JSON, without a newline.
    pub text: String,
}

/// Why a log cannot be used. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call.
    #[error("cannot {action} audit log {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The log.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("audit log {} is not a regular file; name another file", path.display())]
    NotRegular {
        /// The log.
        path: PathBuf,
    },
    /// Numbering cannot be continued.
    #[error(
        "the last {lines} lines of audit log {} are not records; move the file away", path.display()
    )]
    Damaged {
        /// The log.
        path: PathBuf,
        /// How many lines were tried.
        lines: u64,
    },
}

/// A record that is not (or not wholly) in the log. Its number is used up, so a gap shows it.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The record has no form in JSON.
    #[error("cannot write audit record {seq} as JSON")]
    Json {
        /// Its number.
        seq: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// The file took none or only a part of it.
    #[error("cannot append record {seq} to audit log {}", path.display())]
    Write {
        /// Its number.
        seq: u64,
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

// === impl AuditLog ===

impl AuditLog {
    /// Opens the log at `path`, or makes it with mode 0600, and finds its last number, which may be in
    /// the file before if this one is empty.
    ///
    /// A last line that was torn by a crash is ended by the next record's write, and counted.
    ///
    /// # Errors
    /// [`OpenError`]; a symbolic link at `path` is one.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, OpenError> {
        let io = |action| {
            let path = path.to_owned();
            move |source: io::Error| OpenError::Io {
                action,
                path,
                source,
            }
        };
        let folder = Folder::of(path).map_err(io("open the folder of"))?;
        let file = folder.open().map_err(io("open"))?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| io("examine")(errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(OpenError::NotRegular {
                path: path.to_owned(),
            });
        }
        // The log may be older than this rule, or made under another hand's umask.
        rustix::fs::fchmod(&file, PRIVATE).map_err(|errno| io("set the mode of")(errno.into()))?;
        let mut log = Self {
            file,
            folder,
            path: path.to_owned(),
            rotation,
            len_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            full_at_bytes: rotation.file_bytes,
            rotation_problem: None,
            last_seq: 0,
            torn: false,
            write_errors: 0,
            damaged_lines: 0,
        };
        log.find_last_seq()?;
        Ok(log)
    }

    fn find_last_seq(&mut self) -> Result<(), OpenError> {
        let path = &self.path;
        let io = |action| {
            let path = path.clone();
            move |source| OpenError::Io {
                action,
                path,
                source,
            }
        };
        let end = End::of(&self.file).map_err(io("read"))?;
        self.torn = end.torn;
        self.damaged_lines = end.damaged_lines;
        let full = self.folder.full().map_err(io("list the files of"))?;
        // Numbers up to the one in a name are used up, whatever the files hold.
        let named = full.last().copied().unwrap_or(0);
        let found = match end.last_seq {
            Some(seq) => seq,
            None if end.damaged_lines >= DAMAGED_LINES => {
                let (path, lines) = (path.clone(), end.damaged_lines);
                return Err(OpenError::Damaged { path, lines });
            }
            None => match self.folder.read_full(named).map_err(io("read"))? {
                Some(file) => End::of(&file).map_err(io("read"))?.last_seq.unwrap_or(0),
                None => 0,
            },
        };
        self.last_seq = found.max(named);
        Ok(())
    }

    /// Numbers `record`, appends it and returns it as written. Durable after
    /// [`AuditLog::to_sync`].
    ///
    /// # Errors
    /// [`AppendError`]; it is counted too, and the next record begins on a line of its own.
    pub fn append(&mut self, mut record: AuditRecord) -> Result<Line, AppendError> {
        let seq = self.last_seq.saturating_add(1);
        self.last_seq = seq;
        record.seq = seq;
        let text = serde_json::to_string(&record).map_err(|source| {
            self.write_errors = self.write_errors.saturating_add(1);
            AppendError::Json { seq, source }
        })?;
        let text = escape_json(text);
        let mut bytes = Vec::with_capacity(text.len() + 2);
        bytes.extend(self.torn.then_some(b'\n'));
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'\n');
        let (written, result) = write_whole(&self.file, &bytes);
        self.len_bytes = self.len_bytes.saturating_add(written);
        match result {
            Ok(()) => {
                self.torn = false;
                Ok(Line { record, text })
            }
            Err(source) => {
                self.take_back(written);
                self.write_errors = self.write_errors.saturating_add(1);
                let path = self.path.clone();
                Err(AppendError::Write { seq, path, source })
            }
        }
    }

    /// Cuts off the `written` bytes of a record that did not fit, so that the log ends as it did before:
    /// the record would else be there and be counted as lost, or share its line with the next.
    fn take_back(&mut self, written: u64) {
        if written == 0 {
            return;
        }
        let cut = || {
            let len_bytes = self.file.metadata()?.len().saturating_sub(written);
            self.file.set_len(len_bytes)?;
            Ok::<_, io::Error>(len_bytes)
        };
        match cut() {
            Ok(len_bytes) => self.len_bytes = len_bytes,
            // The next record's write ends it.
            Err(_) => self.torn = true,
        }
    }

    /// The file, for [`File::sync_data`] to make all appended records durable while others are appended;
    /// full files are durable already.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn to_sync(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Counts that it failed as a write error, since records may be lost.
    pub fn sync_failed(&mut self) {
        self.write_errors = self.write_errors.saturating_add(1);
    }

    /// Number of the last record, 0 before the first.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Writes and syncs that failed since the log was opened.
    #[must_use]
    pub const fn write_errors(&self) -> u64 {
        self.write_errors
    }

    /// Lines at the log's end that were no records when it was opened, a torn one among them.
    #[must_use]
    pub const fn damaged_lines(&self) -> u64 {
        self.damaged_lines
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes `bytes`; returns how many of them are in the file, and whether all are.
fn write_whole(mut file: &File, bytes: &[u8]) -> (u64, io::Result<()>) {
    let mut rest = bytes;
    let result = loop {
        if rest.is_empty() {
            break Ok(());
        }
        match file.write(rest) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    ((bytes.len() - rest.len()) as u64, result)
}

/// What a file ends with.
struct End {
    /// The number of its last record.
    last_seq: Option<u64>,
    /// Whether it ends within a line.
    torn: bool,
    /// Lines after that record, a torn one among them, at most [`DAMAGED_LINES`].
    damaged_lines: u64,
}

// === impl End ===

impl End {
    fn of(file: &File) -> io::Result<Self> {
        let mut lines = LinesBack::new(file)?;
        let torn = lines.is_torn();
        let mut end = Self {
            last_seq: None,
            torn,
            damaged_lines: u64::from(torn),
        };
        while end.damaged_lines < DAMAGED_LINES {
            let Some(line) = lines.next_line()? else {
                break;
            };
            if let Ok(record) = read_line(&line) {
                end.last_seq = Some(record.seq);
                break;
            }
            end.damaged_lines += 1;
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests;
