//! The last policies of each sandbox that runs, a file each, in a folder of the sandbox's.
//!
//! A policy's file is there before the policy comes into force, and a generation above the one in force is
//! none: whatever a daemon was doing when it was killed, no file tells of a policy that never was in force.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clawd_control::{PolicySource, limits};
use serde::{Deserialize, Serialize};

use crate::{
    files::{Durable, replace_json},
    state::PolicyState,
};

/// Bytes of a sandbox's files that are kept: the largest policy several times, or all generations of usual
/// ones.
const KEPT_BYTES: u64 = 4 * 1024 * 1024;

/// The folder of those folders.
#[derive(Clone, Debug)]
pub(crate) struct History {
    dir: PathBuf,
}

/// A policy that is or was in force for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) generation: u64,
    /// RFC 3339; `None` where a daemon put it in force that kept no history.
    pub(crate) pushed_at: Option<String>,
    /// Who asked for it; `None` likewise.
    pub(crate) caller_uid: Option<u32>,
    /// The generation that it has its text of, where it came by a rollback.
    pub(crate) rolled_back_to: Option<u64>,
    pub(crate) source: PolicySource,
}

impl Kept {
    /// One that comes into force now, asked for by `caller_uid`.
    pub(crate) fn now(policy: &PolicyState, caller_uid: u32, rolled_back_to: Option<u64>) -> Self {
        Self {
            generation: policy.generation,
            pushed_at: Some(crate::audit::now().to_string()),
            caller_uid: Some(caller_uid),
            rolled_back_to,
            source: policy.source.clone(),
        }
    }
}

impl History {
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("history");
        make(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, name: &str, generation: u64) -> PathBuf {
        self.dir.join(name).join(format!("{generation}.json"))
    }

    /// Begins a sandbox's history with its first policy.
    pub(crate) fn begin(&self, name: &str, first: &Kept) -> io::Result<()> {
        // What a sandbox of that name left which could not be removed.
        self.forget(name)?;
        self.keep(name, first)
    }

    /// Writes a policy down that is about to come into force.
    pub(crate) fn keep(&self, name: &str, kept: &Kept) -> io::Result<()> {
        make(&self.dir.join(name))?;
        // As a sandbox's state, of which it is a part: neither survives a power cut.
        replace_json(&self.path(name, kept.generation), kept, Durable::No)
    }

    /// Removes one that did not come into force.
    pub(crate) fn drop_one(&self, name: &str, generation: u64) -> io::Result<()> {
        gone(fs::remove_file(self.path(name, generation)))
    }

    /// The policies up to `in_force`, oldest first. One that is not understood is left out.
    pub(crate) fn all(&self, name: &str, in_force: u64) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        for (generation, _) in self.files(name)? {
            if generation <= in_force {
                all.extend(self.one(name, generation)?);
            }
        }
        Ok(all)
    }

    /// One policy; `None` where it is not kept, or not understood.
    pub(crate) fn one(&self, name: &str, generation: u64) -> io::Result<Option<Kept>> {
        let path = self.path(name, generation);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.generation == generation => Ok(Some(kept)),
            Ok(_) => Ok(None),
            Err(error) => {
                // Its text says nothing of a policy's: serde quotes what it expected.
                tracing::warn!(path = %path.display(), line = error.line(), "no policy of a sandbox's history");
                Ok(None)
            }
        }
    }

    /// Removes the oldest until no more are left than are kept; `in_force` always stays.
    pub(crate) fn trim(&self, name: &str, in_force: u64) -> io::Result<()> {
        let (mut count, mut bytes) = (0, 0);
        for (generation, len_bytes) in self.files(name)?.into_iter().rev() {
            count += 1;
            bytes += len_bytes;
            let fits = count <= limits::GENERATIONS && bytes <= KEPT_BYTES;
            if !fits && generation != in_force {
                self.drop_one(name, generation)?;
            }
        }
        Ok(())
    }

    /// Makes the history of a sandbox that was taken over agree with its state: `policy` is the last.
    pub(crate) fn settle(&self, name: &str, policy: &PolicyState) -> io::Result<()> {
        let dir = self.dir.join(name);
        make(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let file = path.file_name().and_then(|file| file.to_str());
            let generation = file.and_then(generation_of);
            if generation.is_none_or(|generation| generation > policy.generation) {
                gone(fs::remove_file(path))?;
            }
        }
        let last = self.one(name, policy.generation)?;
        if last.is_none_or(|last| last.source != policy.source) {
            let unknown = Kept {
                generation: policy.generation,
                pushed_at: None,
                caller_uid: None,
                rolled_back_to: None,
                source: policy.source.clone(),
            };
            self.keep(name, &unknown)?;
        }
        self.trim(name, policy.generation)
    }

    /// Removes all of a sandbox.
    pub(crate) fn forget(&self, name: &str) -> io::Result<()> {
        gone(fs::remove_dir_all(self.dir.join(name)))
    }

    /// Removes those of sandboxes that are gone.
    pub(crate) fn retain(&self, live: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| live.contains(name)) {
                gone(fs::remove_dir_all(entry.path()))?;
            }
        }
        Ok(())
    }

    /// The generations that have a file, oldest first, with its bytes.
    fn files(&self, name: &str) -> io::Result<Vec<(u64, u64)>> {
        let entries = match fs::read_dir(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Some(generation) = entry.file_name().to_str().and_then(generation_of) else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => files.push((generation, metadata.len())),
                // A push that has come since has trimmed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.sort_unstable();
        Ok(files)
    }
}

/// The generation that a file's name says, where it is one that [`History::path`] gives.
fn generation_of(file: &str) -> Option<u64> {
    let number = file.strip_suffix(".json")?;
    let generation: u64 = number.parse().ok()?;
    (generation.to_string() == number).then_some(generation)
}

/// Makes a folder for root alone, where it is not there.
fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// That nothing was there is as good.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
