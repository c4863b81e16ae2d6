//! Where the pins lie, and whether they are ours.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    maps::{Array, Map, MapData, MapError},
    programs::{ProgramInfo, links::PinnedLink, loaded_programs},
};
use clawd_common::{
    ABI_VERSION,
    record::{HookValue, Meta, PROGRAM_NAME_BYTES},
};

use crate::{
    error::OpenError,
    install::{FILE_KEY_PROGRAM, PROGRAMS},
    object::object_sha256,
    tables::open_hash,
};

/// Names of the maps, as in the object.
pub(crate) const MAPS: &[&str] = &[
    "SANDBOX", "PROCESS", "ADOPTED", "IDENTITY", "LEASED", "EPOCH", "CHAIN", "ADDRESS", "PORT",
    "RULE", "MASK", "COUNTERS", "DENIED", "GRANTED", "EXECUTED", "FILE", "LINEAGE", "SEEN",
    "UNSEEN", "ENDED", "CHANGED", "FILE_KEY", "SOCKET", "UDP_PEER", "IN_FORCE", HOOK,
];
/// The map of what was put at each hook.
pub(crate) const HOOK: &str = "HOOK";
/// The map that is pinned last and removed first.
pub(crate) const META: &str = "META";

/// How the name of a pin begins that is about to take another's place.
const NEXT: &str = "next_";

/// Key of map [`HOOK`].
pub(crate) type HookKey = [u8; PROGRAM_NAME_BYTES];

/// The key of a program's entry in [`HOOK`].
pub(crate) fn hook_key(name: &str) -> HookKey {
    let mut key = [0; PROGRAM_NAME_BYTES];
    for (to, from) in key.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    key
}

/// A loaded program's entry in [`HOOK`].
pub(crate) fn hook_value(program_id: u32, tag: u64) -> HookValue {
    HookValue {
        tag,
        program_id,
        reserved: 0,
    }
}

/// The folder of pins of one daemon.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
}

/// What lies in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PinState {
    /// Nothing.
    Absent,
    /// The rest of a start or a removal that did not finish: no sandbox was ever judged by it.
    Unfinished,
    /// Pins of this very build.
    Ours,
    /// Pins of another build with the same [`ABI_VERSION`], or such whose programs were being
    /// replaced: see [`crate::replace`].
    Replaceable,
    /// Pins of another ABI version, which is not this build's.
    Other {
        /// [`clawd_common::ABI_VERSION`] of the daemon that made them; 0 where it cannot be told.
        abi_version: u32,
    },
}

/// One hook as the kernel reports it.
#[derive(Clone, Debug)]
pub struct HookStatus {
    /// The program.
    pub name: &'static str,
    /// Id of the program behind the pinned link; `None` where the link is missing.
    pub program_id: Option<u32>,
    /// Whether that is the program that a daemon put there, by number and tag.
    pub is_known: bool,
    /// Instructions that the verifier processed, where the kernel tells.
    pub instructions: Option<u32>,
}

impl Pins {
    /// The pins below `dir`, a folder of a bpf file system.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(format!("map_{name}"))
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.dir.join(format!("link_{name}"))
    }

    /// Where a pin is made that takes the place of the one called `path` by a rename: names with dots
    /// are not allowed in bpffs.
    pub(crate) fn next(path: &Path) -> PathBuf {
        let mut name = OsString::from(NEXT);
        name.push(path.file_name().unwrap_or_default());
        path.with_file_name(name)
    }

    /// Removes the pins of what this build does not have, and what a replacement that did not finish
    /// has left beside them.
    pub(crate) fn remove_unknown(&self) -> Result<(), OpenError> {
        let known: HashSet<PathBuf> = (MAPS.iter().chain(&[META]).map(|name| self.map(name)))
            .chain(PROGRAMS.iter().map(|program| self.link(program.name)))
            .chain([self.program(FILE_KEY_PROGRAM)])
            .collect();
        for path in self.entries()? {
            if !known.contains(&path) {
                fs::remove_file(&path).map_err(|source| OpenError::File { path, source })?;
            }
        }
        Ok(())
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(format!("program_{name}"))
    }

    pub(crate) fn open_map(&self, name: &str) -> Result<MapData, OpenError> {
        let path = self.map(name);
        MapData::from_pin(&path).map_err(|source| OpenError::Map {
            path,
            source: Box::new(source),
        })
    }

    /// Looks at the folder; changes nothing.
    ///
    /// # Errors
    /// [`OpenError`] where the folder or `META` cannot be read.
    pub fn state(&self) -> Result<PinState, OpenError> {
        if self.entries()?.is_empty() {
            return Ok(PinState::Absent);
        }
        if !self.map(META).exists() {
            return Ok(PinState::Unfinished);
        }
        let meta = match self.meta() {
            // A version whose META has another size is another version.
            Err(OpenError::Map { source, .. })
                if matches!(*source, MapError::InvalidValueSize { .. }) =>
            {
                return Ok(PinState::Other { abi_version: 0 });
            }
            other => other?,
        };
        if meta.abi_version != ABI_VERSION {
            let abi_version = meta.abi_version;
            return Ok(PinState::Other { abi_version });
        }
        Ok(if meta.object_sha256 == object_sha256() {
            PinState::Ours
        } else {
            PinState::Replaceable
        })
    }

    /// What the daemon that made the pins wrote about them.
    ///
    /// # Errors
    /// [`OpenError`] where `META` cannot be opened or read, its size included.
    pub fn meta(&self) -> Result<Meta, OpenError> {
        let data = self.open_map(META)?;
        Map::from_map_data(data)
            .and_then(Array::<_, Meta>::try_from)
            .and_then(|meta| meta.get(&0, 0))
            .map_err(|source| OpenError::Map {
                path: self.map(META),
                source: Box::new(source),
            })
    }

    /// Removes every pin, `META` first: what is left after a crash in between is [`PinState::Unfinished`].
    ///
    /// # Errors
    /// [`OpenError::File`] naming the pin that could not be removed.
    pub fn remove(&self) -> Result<(), OpenError> {
        let mut entries = self.entries()?;
        let meta = self.map(META);
        entries.sort_by_key(|path| *path != meta);
        for path in entries {
            fs::remove_file(&path).map_err(|source| OpenError::File { path, source })?;
        }
        match fs::remove_dir(&self.dir) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(OpenError::File {
                path: self.dir.clone(),
                source,
            }),
        }
    }

    fn entries(&self) -> Result<Vec<PathBuf>, OpenError> {
        let failed = |source| OpenError::File {
            path: self.dir.clone(),
            source,
        };
        match fs::read_dir(&self.dir) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<_>>()
                .map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(failed(source)),
        }
    }

    /// Asks the kernel which program each pinned link runs.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookStatus> {
        let programs: Vec<_> = loaded_programs().filter_map(Result::ok).collect();
        let known = open_hash::<HookKey, HookValue>(self, HOOK).ok();
        let known = |name| known.as_ref()?.get(&hook_key(name), 0).ok();
        PROGRAMS
            .iter()
            .map(|program| {
                let link = PinnedLink::from_pin(self.link(program.name)).ok();
                let info =
                    link.and_then(|link| aya::programs::links::FdLink::from(link).info().ok());
                let program_id = info.map(|info| info.program_id());
                let loaded =
                    program_id.and_then(|id| programs.iter().find(|loaded| loaded.id() == id));
                HookStatus {
                    name: program.name,
                    program_id,
                    is_known: loaded.is_some_and(|loaded| {
                        known(program.name) == Some(hook_value(loaded.id(), loaded.tag()))
                    }),
                    instructions: loaded.and_then(ProgramInfo::verified_instruction_count),
                }
            })
            .collect()
    }
}
