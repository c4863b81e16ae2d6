//! What the tests of several modules need: the kernel's tables in memory, and keys from `fstat`.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use clawd_common::{
    decide::{MaskKey, MaskValue},
    record::{
        AdoptedValue, ChainKey, ChangedKey, FileKey, FileValue, LeasedKey, LeasedValue,
        LineageValue, OpenFile, ProcessValue, SeenValue,
    },
};

use clawd_sys::fanotify::Group;

use crate::{
    groups::{Reading, Seat},
    job::Job,
    mounts::View,
    protocol::{Policy, Watch},
    queue::{Step, Waiting},
    sandbox::Sandbox,
    tables::{Keys, Locate, TableError, Tables, Written},
};

/// Names of the tables, as the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    Adopted,
    Leased,
    Identity,
    File,
    Chain,
    Lineage,
    Mask,
    Seen,
    Changed,
}

/// The tables, with what was written to them, and how much more fits.
#[derive(Default)]
pub(crate) struct Maps {
    pub(crate) process: BTreeMap<u32, ProcessValue>,
    pub(crate) adopted: BTreeMap<u32, AdoptedValue>,
    pub(crate) leased: HashMap<LeasedKey, LeasedValue>,
    /// What a lease must say to count.
    pub(crate) epoch: u32,
    pub(crate) identity: HashMap<FileKey, u32>,
    pub(crate) file: BTreeMap<u32, FileValue>,
    pub(crate) chain: BTreeMap<ChainKey, u32>,
    pub(crate) lineage: BTreeMap<u32, LineageValue>,
    pub(crate) mask: BTreeMap<MaskKey, MaskValue>,
    pub(crate) seen: HashMap<FileKey, SeenValue>,
    pub(crate) changed: HashMap<ChangedKey, [u8; 32]>,
    /// Entries that fit into a table; those without an entry here have no end.
    pub(crate) room: HashMap<Table, usize>,
    /// Every entry that was written, in order.
    pub(crate) written: Vec<Table>,
    clock_ns: u64,
}

impl Maps {
    /// Whether one more entry fits.
    fn admit(&mut self, table: Table, len: usize, is_new: bool) -> Written {
        if is_new && self.room.get(&table).is_some_and(|room| len >= *room) {
            return Err(TableError(format!("{table:?} is full").into()));
        }
        self.written.push(table);
        Ok(())
    }

    /// As `executes` of `ebpf/src/task.rs`: the record with the line that was found later.
    pub(crate) fn executes(&self, tgid: u32) -> Option<ProcessValue> {
        let mut value = *self.process.get(&tgid)?;
        if value.chain == 0
            && let Some(adopted) = self.adopted.get(&tgid)
            && adopted.exec_boottime_ns == value.exec_boottime_ns
        {
            value.chain = adopted.chain;
            value.file_id = adopted.file_id;
        }
        Some(value)
    }

    /// As `process_exec` of `ebpf/src/process.rs`; returns the line that the process has now.
    pub(crate) fn exec(&mut self, tgid: u32, sandbox_id: u32, file: FileKey) -> u32 {
        let before = self.executes(tgid);
        let before = before.filter(|value| value.sandbox_id == sandbox_id);
        let parent_chain = before.map_or(0, |value| value.chain_before_next());
        let leased = self.leased.remove(&leased_key(tgid, file));
        let leased = leased.filter(|value| value.epoch == self.epoch);
        let file_id = self.identity.get(&file).copied();
        let file_id = file_id.or(leased.map(|value| value.file_id)).unwrap_or(0);
        let key = ChainKey {
            parent: parent_chain,
            file_id,
        };
        let chain = match file_id {
            0 => 0,
            _ => self.chain.get(&key).copied().unwrap_or(0),
        };
        self.clock_ns += 1;
        let value = ProcessValue {
            start_boottime_ns: before.map_or(self.clock_ns, |value| value.start_boottime_ns),
            exec_boottime_ns: self.clock_ns,
            exec_number: self.clock_ns,
            file,
            sandbox_id,
            file_id,
            chain,
            parent_chain,
        };
        self.process.insert(tgid, value);
        chain
    }

    /// As `fork` of `ebpf/src/process.rs`.
    pub(crate) fn fork(&mut self, parent: u32, child: u32) {
        self.clock_ns += 1;
        if let Some(value) = self.executes(parent) {
            let start_boottime_ns = self.clock_ns;
            let value = ProcessValue {
                start_boottime_ns,
                ..value
            };
            self.process.insert(child, value);
        }
    }

    /// As `exit` of `ebpf/src/process.rs`.
    pub(crate) fn exit(&mut self, tgid: u32) {
        self.process.remove(&tgid);
        self.adopted.remove(&tgid);
        self.leased.retain(|key, _| key.tgid != tgid);
    }

    /// The contents of a line, as the tables tell it, without the one that nobody knows.
    pub(crate) fn line(&self, chain: u32) -> Vec<[u8; 32]> {
        let value = self.lineage.get(&chain).copied();
        let value = value.unwrap_or(LineageValue::ZERO);
        let count = usize::try_from(value.count).expect("small");
        let files = value.files.iter().take(count).filter(|id| **id != 0);
        files.map(|file_id| self.file[file_id].sha256).collect()
    }

    pub(crate) fn mask(&self, policy_id: u32, chain: u32) -> MaskValue {
        let key = MaskKey { policy_id, chain };
        self.mask.get(&key).copied().unwrap_or(MaskValue::ZERO)
    }
}

pub(crate) fn leased_key(tgid: u32, file: FileKey) -> LeasedKey {
    LeasedKey {
        file,
        tgid,
        reserved: 0,
    }
}

/// [`Maps`] that a book writes while a test looks at them.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Maps>>);

impl Memory {
    pub(crate) fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn boxed(&self) -> Box<dyn Tables> {
        Box::new(self.clone())
    }
}

impl Tables for Memory {
    fn process(&self, tgid: u32) -> Option<ProcessValue> {
        self.maps().executes(tgid)
    }

    fn processes(&self) -> Vec<(u32, ProcessValue)> {
        let maps = self.maps();
        let tgids = maps.process.keys();
        tgids
            .filter_map(|tgid| Some((*tgid, maps.executes(*tgid)?)))
            .collect()
    }

    fn adopt(&mut self, tgid: u32, value: AdoptedValue) -> Written {
        let mut maps = self.maps();
        let (len, is_new) = (maps.adopted.len(), !maps.adopted.contains_key(&tgid));
        maps.admit(Table::Adopted, len, is_new)?;
        maps.adopted.insert(tgid, value);
        Ok(())
    }

    fn revoke(&mut self, tgid: u32) -> Written {
        self.maps().process.remove(&tgid);
        Ok(())
    }

    fn lease(&mut self, key: &LeasedKey, value: Option<LeasedValue>) -> Written {
        let mut maps = self.maps();
        let Some(value) = value else {
            maps.leased.remove(key);
            return Ok(());
        };
        let (len, is_new) = (maps.leased.len(), !maps.leased.contains_key(key));
        maps.admit(Table::Leased, len, is_new)?;
        maps.leased.insert(*key, value);
        Ok(())
    }

    fn leases(&self) -> Vec<LeasedKey> {
        self.maps().leased.keys().copied().collect()
    }

    fn epoch(&self) -> Result<u32, TableError> {
        Ok(self.maps().epoch)
    }

    fn set_identity(&mut self, key: &FileKey, file_id: Option<u32>) -> Written {
        let mut maps = self.maps();
        let Some(file_id) = file_id else {
            maps.identity.remove(key);
            return Ok(());
        };
        let (len, is_new) = (maps.identity.len(), !maps.identity.contains_key(key));
        maps.admit(Table::Identity, len, is_new)?;
        maps.identity.insert(*key, file_id);
        Ok(())
    }

    fn identities(&self) -> Vec<(FileKey, u32)> {
        let maps = self.maps();
        maps.identity.iter().map(|(key, id)| (*key, *id)).collect()
    }

    fn set_file(&mut self, file_id: u32, value: Option<&FileValue>) -> Written {
        let mut maps = self.maps();
        let Some(value) = value else {
            maps.file.remove(&file_id);
            return Ok(());
        };
        let (len, is_new) = (maps.file.len(), !maps.file.contains_key(&file_id));
        maps.admit(Table::File, len, is_new)?;
        maps.file.insert(file_id, *value);
        Ok(())
    }

    fn files(&self) -> Vec<(u32, FileValue)> {
        self.maps().file.iter().map(|(id, v)| (*id, *v)).collect()
    }

    fn set_chain(&mut self, key: ChainKey, chain: Option<u32>) -> Written {
        let mut maps = self.maps();
        let Some(chain) = chain else {
            maps.chain.remove(&key);
            return Ok(());
        };
        let (len, is_new) = (maps.chain.len(), !maps.chain.contains_key(&key));
        maps.admit(Table::Chain, len, is_new)?;
        maps.chain.insert(key, chain);
        Ok(())
    }

    fn chains(&self) -> Vec<(ChainKey, u32)> {
        self.maps().chain.iter().map(|(k, c)| (*k, *c)).collect()
    }

    fn set_lineage(&mut self, chain: u32, value: Option<&LineageValue>) -> Written {
        let mut maps = self.maps();
        let Some(value) = value else {
            maps.lineage.remove(&chain);
            return Ok(());
        };
        let (len, is_new) = (maps.lineage.len(), !maps.lineage.contains_key(&chain));
        maps.admit(Table::Lineage, len, is_new)?;
        maps.lineage.insert(chain, *value);
        Ok(())
    }

    fn lineages(&self) -> Vec<(u32, LineageValue)> {
        self.maps().lineage.iter().map(|(c, v)| (*c, *v)).collect()
    }

    fn set_mask(&mut self, key: MaskKey, value: &MaskValue) -> Written {
        let mut maps = self.maps();
        if value.is_empty() {
            maps.mask.remove(&key);
            return Ok(());
        }
        let (len, is_new) = (maps.mask.len(), !maps.mask.contains_key(&key));
        maps.admit(Table::Mask, len, is_new)?;
        maps.mask.insert(key, *value);
        Ok(())
    }

    fn masks(&self) -> Vec<(MaskKey, MaskValue)> {
        let maps = self.maps();
        maps.mask.iter().map(|(key, mask)| (*key, *mask)).collect()
    }

    fn set_seen(&mut self, key: &FileKey, value: &SeenValue) -> Written {
        let mut maps = self.maps();
        let (len, is_new) = (maps.seen.len(), !maps.seen.contains_key(key));
        maps.admit(Table::Seen, len, is_new)?;
        maps.seen.insert(*key, *value);
        Ok(())
    }

    fn set_changed(&mut self, key: ChangedKey, pinned: [u8; 32]) -> Written {
        let mut maps = self.maps();
        let (len, is_new) = (maps.changed.len(), !maps.changed.contains_key(&key));
        maps.admit(Table::Changed, len, is_new)?;
        maps.changed.insert(key, pinned);
        Ok(())
    }
}

/// Keys made of what `fstat` tells, on a file system that vouches for content.
pub(crate) struct StatKeys;

impl Keys for StatKeys {
    fn key(&mut self, file: BorrowedFd<'_>) -> io::Result<FileKey> {
        const TMPFS: u32 = 0x0102_1994;

        let stat = rustix::fs::fstat(file)?;
        Ok(FileKey {
            ino: stat.st_ino,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
            ctime_sec: stat.st_ctime,
            ctime_nsec: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            dev: u32::try_from(stat.st_dev).unwrap_or(u32::MAX),
            generation: 0,
            fs_magic: TMPFS,
        })
    }
}

/// Keys as [`StatKeys`] makes them, of files that are all seen in the mount namespace with this
/// number.
pub(crate) struct StatLocate(pub(crate) Arc<AtomicU32>);

impl Locate for StatLocate {
    fn locate(&mut self, file: BorrowedFd<'_>) -> io::Result<OpenFile> {
        Ok(OpenFile {
            key: StatKeys.key(file)?,
            mount_namespace: self.0.load(Ordering::Relaxed),
            reserved: 0,
        })
    }
}

/// A sandbox of this process's own mounts, of which none is marked.
pub(crate) fn sandbox(sandbox_id: u32) -> Arc<Sandbox> {
    let sandbox = entering(sandbox_id);
    sandbox.enter();
    sandbox
}

/// The same before its policy is loaded.
pub(crate) fn entering(sandbox_id: u32) -> Arc<Sandbox> {
    let watch = Watch {
        sandbox_id,
        name: format!("box-{sandbox_id}"),
        init_pid: std::process::id(),
        exec_mounts: Vec::new(),
        policy: Policy {
            policy_id: sandbox_id,
            entries: Vec::new(),
        },
    };
    let view = View::read(watch.init_pid).expect("mounts");
    Arc::new(Sandbox::new(&watch, view, Seat::take(&READING)).expect("watched"))
}

/// One group for all tests, which knows of no exec: the host bounds how many there are.
static READING: LazyLock<Arc<Reading>> =
    LazyLock::new(|| Reading::new(Group::new().expect("a group")));

/// An exec of a sandbox's that waits for its hash.
pub(crate) fn waits(job: Job) -> Waiting {
    Waiting {
        sandbox: Arc::clone(&job.sandbox),
        reading: Arc::clone(&READING),
        step: Step::Job(Box::new(job)),
    }
}
