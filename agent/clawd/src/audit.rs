//! The audit log as the daemon's parts share it: one sink, any number of followers.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clawd_audit::{
    AuditLog, AuditRecord, Clock, DaemonEvent, Line, LogFiles, OpenError, Timestamp,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::broadcast;

use crate::{config::Config, explain};

/// Lines that a slow follower may lag behind before it misses some (and is told).
const FOLLOWER_LINES: usize = 16_384;

/// The sink.
pub(crate) struct Audit {
    log: Mutex<AuditLog>,
    lines: broadcast::Sender<Arc<Line>>,
    path: PathBuf,
}

impl Audit {
    /// Opens `audit.jsonl` in the state directory.
    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        let path = config.state_dir.join("audit.jsonl");
        let log = Mutex::new(AuditLog::open(&path, config.rotation)?);
        Ok(Self {
            log,
            lines: broadcast::Sender::new(FOLLOWER_LINES),
            path,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The files of the log as they are now, to read them back.
    pub(crate) fn files(&self) -> io::Result<LogFiles> {
        self.log().files()
    }

    /// Appends a record, in a new file where the one before is full. A failure is counted by the log and
    /// shown in `status`; what was decided stays decided.
    pub(crate) fn write(&self, record: AuditRecord) {
        let mut log = self.log();
        if let Err(error) = log.rotate_if_full() {
            tracing::error!(error = %explain(&error), "the audit log goes on in a full file");
        }
        match log.append(record) {
            // No follower is no failure.
            Ok(line) => drop(self.lines.send(Arc::new(line))),
            Err(error) => tracing::error!(error = %explain(&error), "an audit record is lost"),
        }
    }

    /// Appends a record of the daemon's own.
    pub(crate) fn daemon(&self, event: &DaemonEvent<'_>) {
        self.write(event.record(now()));
    }

    /// Lines from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        self.lines.subscribe()
    }

    /// Sees to it that what was appended survives a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // Records come while the disk works, and the kernel's rings hold only so many.
        let file = self.log().to_sync();
        let synced = file.and_then(|file| file.sync_data());
        synced.inspect_err(|_| self.log().sync_failed())
    }

    /// Records that could not be written.
    pub(crate) fn write_errors(&self) -> u64 {
        self.log().write_errors()
    }

    /// Why the log does not go on in a new file, though this one is full.
    pub(crate) fn rotation_problem(&self) -> Option<String> {
        self.log().rotation_problem().map(str::to_owned)
    }

    fn log(&self) -> std::sync::MutexGuard<'_, AuditLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    Timestamp::from_unix_ns(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec))
}

/// Nanoseconds since boot.
pub(crate) fn boottime_ns() -> u64 {
    let boot = clock_gettime(ClockId::Boottime);
    u64::try_from(boot.tv_sec)
        .ok()
        .zip(u64::try_from(boot.tv_nsec).ok())
        .map_or(0, |(seconds, nanoseconds)| {
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds)
        })
}

/// The distance of the kernel's boot clock from the wall clock.
pub(crate) fn clock() -> Clock {
    Clock::new(boottime_ns(), now())
}
