//! The pinned maps of identities, opened for the exec gate, which alone writes them.

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use clawd_common::{
    decide::{MaskKey, MaskValue},
    ended::{EndedKey, EndedValue},
    record::{
        AdoptedValue, ChainKey, ChangedKey, FileKey, FileValue, LeasedKey, LeasedValue,
        LineageValue, ProcessValue, SeenValue,
    },
};

use crate::{
    error::{OpenError, TableError},
    pins::Pins,
    tables::{absent_is_done, failed, open_hash},
};

/// Files that `FILE` holds.
pub const FILES_MAX: u32 = 4096;
/// Chains that `LINEAGE` holds.
pub const CHAINS_MAX: u32 = 65_536;
/// Keys that `IDENTITY` holds.
pub const KEYS_MAX: u32 = 16_384;

/// Who is who: files, lines of executables, what each is granted.
pub struct IdentityTables {
    process: HashMap<MapData, u32, ProcessValue>,
    adopted: HashMap<MapData, u32, AdoptedValue>,
    identity: HashMap<MapData, FileKey, u32>,
    leased: HashMap<MapData, LeasedKey, LeasedValue>,
    chain: HashMap<MapData, ChainKey, u32>,
    mask: HashMap<MapData, MaskKey, MaskValue>,
    file: HashMap<MapData, u32, FileValue>,
    lineage: HashMap<MapData, u32, LineageValue>,
    seen: HashMap<MapData, FileKey, SeenValue>,
    changed: HashMap<MapData, ChangedKey, [u8; 32]>,
}

/// The record of a process, with the chain that it was found to have later, if it was.
fn executes(
    process: &HashMap<MapData, u32, ProcessValue>,
    adopted: &HashMap<MapData, u32, AdoptedValue>,
    tgid: u32,
) -> Option<ProcessValue> {
    let mut value = process.get(&tgid, 0).ok()?;
    if value.chain == 0
        && let Ok(adopted) = adopted.get(&tgid, 0)
        && adopted.exec_boottime_ns == value.exec_boottime_ns
    {
        value.chain = adopted.chain;
        value.file_id = adopted.file_id;
    }
    Some(value)
}

fn written(result: Result<(), MapError>, map: &'static str) -> Result<(), TableError> {
    result.map_err(failed("write", map))
}

fn cleared(result: Result<(), MapError>, map: &'static str) -> Result<(), TableError> {
    absent_is_done(result).map_err(failed("clear", map))
}

impl IdentityTables {
    /// Opens the maps of finished pins ([`crate::PinState::Ours`]).
    ///
    /// # Errors
    /// [`OpenError`], naming the pin.
    pub fn open(pins: &Pins) -> Result<Self, OpenError> {
        Ok(Self {
            process: open_hash(pins, "PROCESS")?,
            adopted: open_hash(pins, "ADOPTED")?,
            identity: open_hash(pins, "IDENTITY")?,
            leased: open_hash(pins, "LEASED")?,
            chain: open_hash(pins, "CHAIN")?,
            mask: open_hash(pins, "MASK")?,
            file: open_hash(pins, "FILE")?,
            lineage: open_hash(pins, "LINEAGE")?,
            seen: open_hash(pins, "SEEN")?,
            changed: open_hash(pins, "CHANGED")?,
        })
    }

    /// What a process executes, by its thread group id; with the chain that it was found to have
    /// later, if it was.
    #[must_use]
    pub fn process(&self, tgid: u32) -> Option<ProcessValue> {
        executes(&self.process, &self.adopted, tgid)
    }

    /// Every process's record.
    #[must_use]
    pub fn processes(&self) -> Vec<(u32, ProcessValue)> {
        let tgids: Vec<u32> = self.process.keys().filter_map(Result::ok).collect();
        let value = |tgid| self.process(tgid).map(|value| (tgid, value));
        tgids.into_iter().filter_map(value).collect()
    }

    /// Gives a process that runs the chain that it was found to have.
    ///
    /// # Errors
    /// [`TableError`]; then it has no grants.
    pub fn adopt(&mut self, tgid: u32, value: AdoptedValue) -> Result<(), TableError> {
        written(self.adopted.insert(tgid, value, 0), "ADOPTED")
    }

    /// Takes a process's record away: it has no grants until it executes something again.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn revoke(&mut self, tgid: u32) -> Result<(), TableError> {
        cleared(self.process.remove(&tgid), "PROCESS")
    }

    /// Lets an exec that waits take its file for identified.
    ///
    /// # Errors
    /// [`TableError`]; then the exec has no identity.
    pub fn lease(&mut self, key: &LeasedKey, value: LeasedValue) -> Result<(), TableError> {
        written(self.leased.insert(key, value, 0), "LEASED")
    }

    /// Takes back [`IdentityTables::lease`].
    ///
    /// # Errors
    /// [`TableError`].
    pub fn end_lease(&mut self, key: &LeasedKey) -> Result<(), TableError> {
        cleared(self.leased.remove(key), "LEASED")
    }

    /// Every exec that was allowed to take its file for identified and is not known to be over.
    #[must_use]
    pub fn leases(&self) -> Vec<LeasedKey> {
        self.leased.keys().filter_map(Result::ok).collect()
    }

    /// Publishes a file's identity: its execs from now on carry it.
    ///
    /// # Errors
    /// [`TableError`]; then the file has no identity.
    pub fn insert_identity(&mut self, key: &FileKey, file_id: u32) -> Result<(), TableError> {
        written(self.identity.insert(key, file_id, 0), "IDENTITY")
    }

    /// Takes a file's identity back.
    ///
    /// # Errors
    /// [`TableError`]; then it keeps it.
    pub fn remove_identity(&mut self, key: &FileKey) -> Result<(), TableError> {
        cleared(self.identity.remove(key), "IDENTITY")
    }

    /// Every identity that is published.
    #[must_use]
    pub fn identities(&self) -> Vec<(FileKey, u32)> {
        self.identity.iter().filter_map(Result::ok).collect()
    }

    /// Tells reports of a content.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn insert_file(&mut self, file_id: u32, value: &FileValue) -> Result<(), TableError> {
        written(self.file.insert(file_id, value, 0), "FILE")
    }

    /// Forgets a content.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn remove_file(&mut self, file_id: u32) -> Result<(), TableError> {
        cleared(self.file.remove(&file_id), "FILE")
    }

    /// Every content.
    #[must_use]
    pub fn files(&self) -> Vec<(u32, FileValue)> {
        self.file.iter().filter_map(Result::ok).collect()
    }

    /// Publishes the chain of a process that executes a file.
    ///
    /// # Errors
    /// [`TableError`]; then such a process has no chain.
    pub fn insert_chain(&mut self, key: ChainKey, chain: u32) -> Result<(), TableError> {
        written(self.chain.insert(key, chain, 0), "CHAIN")
    }

    /// Takes a chain back.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn remove_chain(&mut self, key: ChainKey) -> Result<(), TableError> {
        cleared(self.chain.remove(&key), "CHAIN")
    }

    /// Every step from chain to chain.
    #[must_use]
    pub fn chains(&self) -> Vec<(ChainKey, u32)> {
        self.chain.iter().filter_map(Result::ok).collect()
    }

    /// Tells reports of a chain's executables.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn insert_lineage(&mut self, chain: u32, value: &LineageValue) -> Result<(), TableError> {
        written(self.lineage.insert(chain, value, 0), "LINEAGE")
    }

    /// Forgets a chain's executables.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn remove_lineage(&mut self, chain: u32) -> Result<(), TableError> {
        cleared(self.lineage.remove(&chain), "LINEAGE")
    }

    /// Every chain's executables.
    #[must_use]
    pub fn lineages(&self) -> Vec<(u32, LineageValue)> {
        self.lineage.iter().filter_map(Result::ok).collect()
    }

    /// Writes what a chain is granted under a policy.
    ///
    /// # Errors
    /// [`TableError`]; then it has what it had before.
    pub fn set_mask(&mut self, key: MaskKey, value: &MaskValue) -> Result<(), TableError> {
        if value.is_empty() {
            return cleared(self.mask.remove(&key), "MASK");
        }
        written(self.mask.insert(key, value, 0), "MASK")
    }

    /// What every chain is granted, by policy.
    #[must_use]
    pub fn masks(&self) -> Vec<(MaskKey, MaskValue)> {
        self.mask.iter().filter_map(Result::ok).collect()
    }

    /// Tells reports what became of a file at its exec.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn set_seen(&mut self, key: &FileKey, value: &SeenValue) -> Result<(), TableError> {
        written(self.seen.insert(key, value, 0), "SEEN")
    }

    /// Tells reports which content was pinned where another is now.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn set_changed(&mut self, key: ChangedKey, pinned: [u8; 32]) -> Result<(), TableError> {
        written(self.changed.insert(key, pinned, 0), "CHANGED")
    }
}

/// Which gate's leases count.
pub struct Epoch(Array<MapData, u32>);

impl Epoch {
    /// Opens it.
    ///
    /// # Errors
    /// [`OpenError`], naming the pin.
    pub fn open(pins: &Pins) -> Result<Self, OpenError> {
        Map::from_map_data(pins.open_map("EPOCH")?)
            .and_then(Array::try_from)
            .map(Self)
            .map_err(|source| OpenError::Map {
                path: pins.map("EPOCH"),
                source: Box::new(source),
            })
    }

    /// The present one.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn get(&self) -> Result<u32, TableError> {
        self.0.get(&0, 0).map_err(failed("read", "EPOCH"))
    }

    /// No lease that was given before counts any more.
    ///
    /// # Errors
    /// [`TableError`]; then they count until their time is over.
    pub fn raise(&mut self) -> Result<(), TableError> {
        let next = self.get()?.wrapping_add(1);
        written(self.0.set(0, next, 0), "EPOCH")
    }
}

/// The maps that tell what the numbers in events stand for.
pub struct Reports {
    process: HashMap<MapData, u32, ProcessValue>,
    adopted: HashMap<MapData, u32, AdoptedValue>,
    ended: HashMap<MapData, EndedKey, EndedValue>,
    unseen: HashMap<MapData, FileKey, SeenValue>,
    file: HashMap<MapData, u32, FileValue>,
    lineage: HashMap<MapData, u32, LineageValue>,
    seen: HashMap<MapData, FileKey, SeenValue>,
    changed: HashMap<MapData, ChangedKey, [u8; 32]>,
}

impl Reports {
    /// Opens them.
    ///
    /// # Errors
    /// [`OpenError`], naming the pin.
    pub fn open(pins: &Pins) -> Result<Self, OpenError> {
        Ok(Self {
            process: open_hash(pins, "PROCESS")?,
            adopted: open_hash(pins, "ADOPTED")?,
            ended: open_hash(pins, "ENDED")?,
            file: open_hash(pins, "FILE")?,
            lineage: open_hash(pins, "LINEAGE")?,
            seen: open_hash(pins, "SEEN")?,
            unseen: open_hash(pins, "UNSEEN")?,
            changed: open_hash(pins, "CHANGED")?,
        })
    }

    /// What a process executes, by its thread group id.
    #[must_use]
    pub fn process(&self, tgid: u32) -> Option<ProcessValue> {
        executes(&self.process, &self.adopted, tgid)
    }

    /// What a process was that has ended, by its number in its own sandbox.
    #[must_use]
    pub fn ended(&self, key: EndedKey) -> Option<EndedValue> {
        self.ended.get(&key, 0).ok()
    }

    /// A content.
    #[must_use]
    pub fn file(&self, file_id: u32) -> Option<FileValue> {
        self.file.get(&file_id, 0).ok()
    }

    /// A chain's executables.
    #[must_use]
    pub fn lineage(&self, chain: u32) -> Option<LineageValue> {
        self.lineage.get(&chain, 0).ok()
    }

    /// What became of a file at its last exec.
    #[must_use]
    pub fn seen(&self, key: &FileKey) -> Option<SeenValue> {
        let seen = self.seen.get(key, 0);
        seen.or_else(|_absent| self.unseen.get(key, 0)).ok()
    }

    /// The content that was pinned where `file_id` is now.
    #[must_use]
    pub fn pinned(&self, key: ChangedKey) -> Option<[u8; 32]> {
        self.changed.get(&key, 0).ok()
    }
}
