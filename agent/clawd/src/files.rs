//! Files of the state directory, replaced as a whole.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::Serialize;

/// Whether a file must survive a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// It is written out before it replaces the old one.
    Yes,
    /// What it speaks of does not survive one either.
    No,
}

/// Writes `value` as JSON under `path`, readable by root alone: a reader sees the old file or the
/// new one.
pub(crate) fn replace_json(
    path: &Path,
    value: &impl Serialize,
    durable: Durable,
) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let bytes = serde_json::to_vec(value)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&bytes)?;
    if durable == Durable::Yes {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)
}
