//! `clawd gate`: the exec gate's own process.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clawd_common::{
    decide::{MaskKey, MaskValue},
    record::{
        AdoptedValue, ChainKey, ChangedKey, Executed, FileKey, FileValue, LeasedKey, LeasedValue,
        LineageValue, OpenFile, ProcessValue, SeenValue,
    },
};
use clawd_identity::{
    Capacity, ExecutedRing, GROUPS_MAX, Keys, Locate, Parts, TableError, Tables, WORKERS, Written,
};
use clawd_kernel::{
    CHAINS_MAX, Epoch, EventReader, EventRing, FILES_MAX, FileKeyReader, IdentityTables, KEYS_MAX,
    Pins,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Resource, Rlimit, Signal, getppid, getrlimit, setrlimit},
};

/// Where the gate finds what it works on.
#[derive(Clone, Debug)]
pub(crate) struct GateConfig {
    pub(crate) bpffs: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// The daemon that started it.
    pub(crate) parent: u32,
}

/// First of the key readers' slots; the daemon has one of its own ([`super::DAEMON_SLOT`]).
const FIRST_SLOT: u32 = 0;

/// Serves the daemon at the other end of standard input, until it is gone.
pub(crate) fn run(config: &GateConfig) -> anyhow::Result<()> {
    crate::enforcement::require_root()?;
    crate::log_to_stderr();
    die_with_the_daemon(config.parent)?;
    keep_going()?;
    let stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("cannot take the daemon's socket from standard input")?;
    let socket = UnixStream::from(stdin);
    let pins = Pins::new(&config.bpffs);
    let mut slots = FIRST_SLOT..super::DAEMON_SLOT;
    let mut reader = || -> anyhow::Result<SlotKeys> {
        let slot = slots.next().context("too few slots for file keys")?;
        Ok(SlotKeys(FileKeyReader::open(&pins, slot)?))
    };
    let mut worker_keys: Vec<Box<dyn Keys>> = Vec::new();
    for _ in 0..WORKERS {
        worker_keys.push(Box::new(reader()?));
    }
    let mut locates: Vec<Box<dyn Locate>> = Vec::new();
    for _ in 0..GROUPS_MAX {
        locates.push(Box::new(reader()?));
    }
    let parts = Parts {
        tables: Box::new(GateTables {
            tables: IdentityTables::open(&pins)?,
            epoch: Epoch::open(&pins)?,
        }),
        capacity: Capacity {
            files: usize::try_from(FILES_MAX)?,
            chains: usize::try_from(CHAINS_MAX)?,
            keys: usize::try_from(KEYS_MAX)?,
        },
        worker_keys,
        locates,
        keys: Box::new(reader()?),
        pins_file: config.state_dir.join("pins.json"),
    };
    let ring = Box::new(Ring(EventReader::open(&pins, EventRing::Executed)?));
    clawd_identity::serve(parts, ring, socket).context("the exec gate ends")
}

/// Without its daemon nobody would tell it of new sandboxes, nor end it when it hangs: its death
/// lets execs go on, without identity.
fn die_with_the_daemon(parent: u32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask to end with the daemon")?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    anyhow::ensure!(now == Some(parent), "the daemon is gone");
    Ok(())
}

/// A sandbox that uses up memory or files must not take the gate with it.
fn keep_going() -> anyhow::Result<()> {
    // Not permitted where CAP_SYS_RESOURCE is missing, as in some containers; it serves all the same.
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-900") {
        tracing::debug!(%error, "the exec gate is not spared when memory runs out");
    }
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Each exec that waits is a descriptor, of as many sandboxes as there are.
    let host = fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
    let most = host.trim().parse().ok().max(maximum);
    let raised = [most, maximum].into_iter().any(|maximum| {
        let all = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Nofile, all).is_ok()
    });
    anyhow::ensure!(raised, "cannot raise the limit of open files");
    Ok(())
}

struct SlotKeys(FileKeyReader);

impl Keys for SlotKeys {
    fn key(&mut self, file: BorrowedFd<'_>) -> io::Result<FileKey> {
        self.0.read(file).map_err(io::Error::other)
    }
}

impl Locate for SlotKeys {
    fn locate(&mut self, file: BorrowedFd<'_>) -> io::Result<OpenFile> {
        self.0.look(file).map_err(io::Error::other)
    }
}

struct Ring(EventReader);

impl ExecutedRing for Ring {
    fn wait(&mut self, patience: Duration, each: &mut dyn FnMut(Executed)) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout))?;
        self.0.drain(|bytes| {
            // struct Executed: tgid u32, lease u32.
            let word = |at: usize| {
                let bytes = bytes.get(at..at + 4)?;
                Some(u32::from_ne_bytes(bytes.try_into().ok()?))
            };
            if let (Some(tgid), Some(lease)) = (word(0), word(4)) {
                each(Executed { tgid, lease });
            }
        });
        Ok(())
    }
}

struct GateTables {
    tables: IdentityTables,
    epoch: Epoch,
}

fn written(result: Result<(), clawd_kernel::TableError>) -> Written {
    result.map_err(|error| TableError(Box::new(error)))
}

impl Tables for GateTables {
    fn process(&self, tgid: u32) -> Option<ProcessValue> {
        self.tables.process(tgid)
    }

    fn processes(&self) -> Vec<(u32, ProcessValue)> {
        self.tables.processes()
    }

    fn adopt(&mut self, tgid: u32, value: AdoptedValue) -> Written {
        written(self.tables.adopt(tgid, value))
    }

    fn revoke(&mut self, tgid: u32) -> Written {
        written(self.tables.revoke(tgid))
    }

    fn lease(&mut self, key: &LeasedKey, value: Option<LeasedValue>) -> Written {
        written(match value {
            Some(value) => self.tables.lease(key, value),
            None => self.tables.end_lease(key),
        })
    }

    fn leases(&self) -> Vec<LeasedKey> {
        self.tables.leases()
    }

    fn epoch(&self) -> Result<u32, TableError> {
        self.epoch
            .get()
            .map_err(|error| TableError(Box::new(error)))
    }

    fn set_identity(&mut self, key: &FileKey, file_id: Option<u32>) -> Written {
        written(match file_id {
            Some(file_id) => self.tables.insert_identity(key, file_id),
            None => self.tables.remove_identity(key),
        })
    }

    fn identities(&self) -> Vec<(FileKey, u32)> {
        self.tables.identities()
    }

    fn set_file(&mut self, file_id: u32, value: Option<&FileValue>) -> Written {
        written(match value {
            Some(value) => self.tables.insert_file(file_id, value),
            None => self.tables.remove_file(file_id),
        })
    }

    fn files(&self) -> Vec<(u32, FileValue)> {
        self.tables.files()
    }

    fn set_chain(&mut self, key: ChainKey, chain: Option<u32>) -> Written {
        written(match chain {
            Some(chain) => self.tables.insert_chain(key, chain),
            None => self.tables.remove_chain(key),
        })
    }

    fn chains(&self) -> Vec<(ChainKey, u32)> {
        self.tables.chains()
    }

    fn set_lineage(&mut self, chain: u32, value: Option<&LineageValue>) -> Written {
        written(match value {
            Some(value) => self.tables.insert_lineage(chain, value),
            None => self.tables.remove_lineage(chain),
        })
    }

    fn lineages(&self) -> Vec<(u32, LineageValue)> {
        self.tables.lineages()
    }

    fn set_mask(&mut self, key: MaskKey, value: &MaskValue) -> Written {
        written(self.tables.set_mask(key, value))
    }

    fn masks(&self) -> Vec<(MaskKey, MaskValue)> {
        self.tables.masks()
    }

    fn set_seen(&mut self, key: &FileKey, value: &SeenValue) -> Written {
        written(self.tables.set_seen(key, value))
    }

    fn set_changed(&mut self, key: ChangedKey, pinned: [u8; 32]) -> Written {
        written(self.tables.set_changed(key, pinned))
    }
}
