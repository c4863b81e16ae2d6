//! The sink: JSON lines appended to a file, numbered without gaps across restarts.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags};

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
    path: PathBuf,
    last_seq: u64,
    /// Whether the file may end within a line, which the next record must not continue.
    torn: bool,
    write_errors: u64,
    damaged_lines: u64,
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub seq: u64,
    /// Its sandbox.
    pub sandbox: Option<String>,
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
    /// Opens the log at `path`, or makes it with mode 0600, and finds its last number.
    ///
    /// A last line that was torn by a crash is ended by the next record's write, and counted.
    ///
    /// # Errors
    /// [`OpenError`]; a symbolic link at `path` is one.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |action| {
            let path = path.to_owned();
            move |source: rustix::io::Errno| OpenError::Io {
                action,
                path,
                source: source.into(),
            }
        };
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            // A pipe in the log's place must not hold up the start.
            | OFlags::NONBLOCK;
        let private = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::open(path, flags, private).map_err(io("open"))?;
        let stat = rustix::fs::fstat(&file).map_err(io("examine"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(OpenError::NotRegular {
                path: path.to_owned(),
            });
        }
        // The log may be older than this rule, or made under another hand's umask.
        rustix::fs::fchmod(&file, private).map_err(io("set the mode of"))?;
        let mut log = Self {
            file: file.into(),
            path: path.to_owned(),
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
        let read = |source| OpenError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let mut lines = LinesBack::new(&self.file).map_err(read)?;
        self.torn = lines.is_torn();
        self.damaged_lines = u64::from(self.torn);
        while let Some(line) = lines.next_line().map_err(read)? {
            if let Ok(record) = read_line(&line) {
                self.last_seq = record.seq;
                return Ok(());
            }
            self.damaged_lines += 1;
            if self.damaged_lines >= DAMAGED_LINES {
                let (path, lines) = (self.path.clone(), self.damaged_lines);
                return Err(OpenError::Damaged { path, lines });
            }
        }
        Ok(())
    }

    /// Numbers `record`, appends it and returns it as written. Durable after [`AuditLog::sync`].
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
        match self.file.write_all(&bytes) {
            Ok(()) => {
                self.torn = false;
                let sandbox = record.sandbox;
                Ok(Line { seq, sandbox, text })
            }
            Err(source) => {
                self.torn = true;
                self.write_errors = self.write_errors.saturating_add(1);
                let path = self.path.clone();
                Err(AppendError::Write { seq, path, source })
            }
        }
    }

    /// Makes all appended records durable (`fdatasync`).
    ///
    /// # Errors
    /// The disk's error; it is counted as a write error, since records may be lost.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|_| {
            self.write_errors = self.write_errors.saturating_add(1);
        })
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

#[cfg(test)]
mod tests;
