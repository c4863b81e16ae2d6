//! Who may go where: identities and policies, and the kernel's tables that hold them.
//!
//! The one lock of the daemon's decisions. The exec gate takes it while a program waits, so nothing
//! under it blocks but writes to the kernel's maps.

mod seen;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clawd_audit::Digest;
use clawd_common::{
    decide::GrantMask,
    record::{Counters, FileKey, IDENTITY_PATH_BYTES, IdentityValue, SandboxValue},
    verdict::Reason,
};
use clawd_identity::{Identified, Identities as _, Keys, identify};
use clawd_kernel::{FileKeyReader, Kernel, TableError};
use clawd_policy::{BinaryMatcher, MapImage, Policy};

use crate::{
    ids::{IdError, Ids},
    state::{Grant, SandboxState},
};

/// Longest that hashing one file of a policy may take.
const HASH_DEADLINE: Duration = Duration::from_secs(10);
/// Files without identity whose path and reason are remembered for the audit log.
const UNIDENTIFIED_MAX: usize = 4096;
/// Policies and sandboxes that are gone whose names are kept for events that are still to be read.
const RETIRED_MAX: usize = 1024;
/// Keys whose hash is remembered.
const HASHES_MAX: usize = 16_384;

/// Why a table or a number could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Compile(#[from] clawd_policy::CompileError),
}

struct LivePolicy {
    generation: u64,
    grants: Vec<Grant>,
    /// What is in the tables; `None` for a policy of a daemon before.
    image: Option<MapImage>,
}

struct Inner {
    kernel: Kernel,
    ids: Ids,
    /// Published identities.
    files: HashMap<u32, (PathBuf, [u8; 32])>,
    published: HashMap<FileKey, u32>,
    /// Hashes of settled keys, published or not.
    hashes: HashMap<FileKey, [u8; 32]>,
    unidentified: HashMap<FileKey, (PathBuf, Reason)>,
    policies: HashMap<u32, LivePolicy>,
    sandboxes: HashMap<u32, String>,
    /// Gone, but named in events that may still be read: oldest first.
    retired_policies: VecDeque<(u32, LivePolicy)>,
    retired_sandboxes: VecDeque<u32>,
}

/// The registry.
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// For files of policies; the gate's workers have readers of their own.
    keys: Mutex<FileKeyReader>,
    /// clawd's own file, which is the first thing every sandbox executes.
    own_program: Option<(FileKey, String)>,
}

impl Registry {
    /// Starts with the identities that the kernel has.
    pub(crate) fn new(kernel: Kernel, mut ids: Ids, mut keys: FileKeyReader, own: &File) -> Self {
        let (mut files, mut published, mut hashes) =
            (HashMap::new(), HashMap::new(), HashMap::new());
        for (key, value) in kernel.identities() {
            files.insert(value.file_id, (path_of(&value), value.sha256));
            published.insert(key, value.file_id);
            hashes.insert(key, value.sha256);
        }
        // A state directory may be lost while pins live; a number given twice would be an identity
        // given to the wrong file.
        ids.pass(kernel.greatest_ids());
        let inner = Inner {
            kernel,
            ids,
            files,
            published,
            hashes,
            unidentified: HashMap::new(),
            policies: HashMap::new(),
            sandboxes: HashMap::new(),
            retired_policies: VecDeque::new(),
            retired_sandboxes: VecDeque::new(),
        };
        let own_path = std::env::current_exe().unwrap_or_default();
        let own_program = keys
            .read(own.as_fd())
            .ok()
            .map(|key| (key, own_path.to_string_lossy().into_owned()));
        Self {
            inner: Mutex::new(inner),
            keys: Mutex::new(keys),
            own_program,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh number for a sandbox, with its totals at zero.
    pub(crate) fn new_sandbox(&self, name: &str) -> Result<u32, RegistryError> {
        let mut inner = self.inner();
        let sandbox_id = inner.ids.sandbox()?;
        inner.kernel.start_counters(sandbox_id)?;
        inner.sandboxes.insert(sandbox_id, name.to_owned());
        Ok(sandbox_id)
    }

    /// Remembers a sandbox of a daemon before, with its policy.
    pub(crate) fn adopt(&self, state: &SandboxState) {
        let mut inner = self.inner();
        let policy = &state.policy;
        let live = LivePolicy {
            generation: policy.generation,
            grants: policy.grants.clone(),
            image: None,
        };
        inner
            .sandboxes
            .insert(state.sandbox_id, state.name.to_string());
        inner.policies.insert(policy.policy_id, live);
    }

    /// What each `binaries` entry of `policy` means now: the hash it names, or that of the file at
    /// its path. Reads files, so it is done before anything waits.
    pub(crate) fn resolve(&self, policy: &Policy) -> Vec<Grant> {
        let resolve = |entry: clawd_policy::GrantEntry| {
            let sha256 = match &entry.matcher {
                BinaryMatcher::Sha256(digest) => Some(Digest(*digest)),
                BinaryMatcher::Path(path) => self.hash_path(path),
            };
            Grant {
                label: entry.to_string(),
                sha256,
            }
        };
        policy.grants().into_iter().map(resolve).collect()
    }

    fn hash_path(&self, path: &Path) -> Option<Digest> {
        let file = open_regular(path)?;
        let key_of = |file: &File| {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.read(file.as_fd()).map_err(io::Error::other)
        };
        match identify(
            &file,
            key_of,
            |key| self.known(key),
            Instant::now() + HASH_DEADLINE,
        ) {
            Ok(Identified { key, sha256 }) => {
                remember(&mut self.inner().hashes, HASHES_MAX, key, sha256);
                Some(Digest(sha256))
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason = reason.name(), "a listed binary has no hash; its entry matches nothing");
                None
            }
        }
    }

    /// Writes a policy under a fresh id, with the masks of every known file; it decides nothing
    /// until a sandbox is switched to it.
    pub(crate) fn write_policy(
        &self,
        policy: &Policy,
        grants: &[Grant],
        generation: u64,
    ) -> Result<u32, RegistryError> {
        let mut inner = self.inner();
        let policy_id = inner.ids.policy()?;
        let image: MapImage = clawd_policy::compile(policy, policy_id)?;
        inner.kernel.write_policy(&image)?;
        let masks: Vec<(u32, GrantMask)> = inner
            .files
            .iter()
            .map(|(file_id, (_, sha256))| (*file_id, mask(grants, sha256)))
            .collect();
        for (file_id, mask) in masks {
            if !mask.is_empty()
                && let Err(error) = inner.kernel.set_mask(policy_id, file_id, &mask)
            {
                let file_ids = inner.files.keys().copied().collect::<Vec<_>>();
                inner.kernel.remove_policy(&image, file_ids.into_iter())?;
                return Err(error.into());
            }
        }
        let live = LivePolicy {
            generation,
            grants: grants.to_vec(),
            image: Some(image),
        };
        inner.policies.insert(policy_id, live);
        Ok(policy_id)
    }

    /// Puts a sandbox under a policy that was written.
    pub(crate) fn switch(&self, cgroup_id: u64, value: SandboxValue) -> Result<(), RegistryError> {
        Ok(self.inner().kernel.set_sandbox(cgroup_id, value)?)
    }

    /// Removes a policy that no sandbox is under any more. Blocks until no program still reads it.
    pub(crate) fn drop_policy(&self, policy_id: u32) {
        // Without the wait entries stay until the next start: nothing refers to them.
        match clawd_sys::rcu::wait_for_grace_period() {
            Ok(()) => self.forget_policy(policy_id),
            Err(error) => {
                tracing::warn!(%error, policy_id, "the rules of a replaced policy stay in the tables")
            }
        }
    }

    /// Removes a policy that no program can be reading.
    pub(crate) fn forget_policy(&self, policy_id: u32) {
        let mut inner = self.inner();
        let Some(policy) = inner.policies.remove(&policy_id) else {
            return;
        };
        if let Err(error) = inner.remove_from_tables(&policy) {
            tracing::warn!(%error, policy_id, "the rules of a policy stay in the tables");
        }
        let policy = LivePolicy {
            image: None,
            ..policy
        };
        inner.retired_policies.push_back((policy_id, policy));
        if inner.retired_policies.len() > RETIRED_MAX {
            inner.retired_policies.pop_front();
        }
    }

    /// Forgets a sandbox that has no process left, with its policy.
    pub(crate) fn forget_sandbox(&self, cgroup_id: u64, sandbox_id: u32) {
        let mut inner = self.inner();
        if let Err(error) = inner.kernel.remove_sandbox(cgroup_id, sandbox_id) {
            tracing::warn!(%error, sandbox_id, "a sandbox stays in the tables");
        }
        inner.retired_sandboxes.push_back(sandbox_id);
        if inner.retired_sandboxes.len() > RETIRED_MAX
            && let Some(oldest) = inner.retired_sandboxes.pop_front()
        {
            inner.sandboxes.remove(&oldest);
        }
    }

    /// Drops what the kernel has of sandboxes and policies that no daemon knows.
    pub(crate) fn collect(&self, live_cgroups: &HashSet<u64>) {
        let mut inner = self.inner();
        for (cgroup_id, value) in inner.kernel.sandboxes() {
            if !live_cgroups.contains(&cgroup_id)
                && let Err(error) = inner.kernel.remove_sandbox(cgroup_id, value.sandbox_id)
            {
                tracing::warn!(%error, cgroup_id, "a dead sandbox stays in the tables");
            }
        }
        let live: HashSet<u32> = inner.policies.keys().copied().collect();
        if let Err(error) = inner.kernel.retain_policies(&live) {
            tracing::warn!(%error, "rules of dead policies stay in the tables");
        }
    }

    /// The totals of a sandbox.
    pub(crate) fn counters(&self, sandbox_id: u32) -> Counters {
        self.inner().kernel.counters(sandbox_id)
    }
}

/// Opens a regular file. Looked at first, because opening a device or a pipe may act or wait.
fn open_regular(path: &Path) -> Option<File> {
    let place = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::PATH.bits().cast_signed())
        .open(path)
        .ok()?;
    if !place.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).ok()
}

fn mask(grants: &[Grant], sha256: &[u8; 32]) -> GrantMask {
    let mut mask = GrantMask::ZERO;
    for (index, grant) in grants.iter().enumerate() {
        if grant.sha256.is_some_and(|digest| digest.0 == *sha256) {
            mask.insert(index);
        }
    }
    mask
}

/// A bounded cache that starts anew when it is full: what it forgets is found again.
fn remember<V>(cache: &mut HashMap<FileKey, V>, max: usize, key: FileKey, value: V) {
    if cache.len() >= max {
        cache.clear();
    }
    cache.insert(key, value);
}

fn path_of(value: &IdentityValue) -> PathBuf {
    let len = usize::try_from(value.path_len_bytes).unwrap_or(usize::MAX);
    let bytes = value.path.get(..len).unwrap_or(&value.path);
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn identity(file_id: u32, sha256: [u8; 32], path: &Path) -> IdentityValue {
    let mut value = IdentityValue {
        file_id,
        sha256,
        ..IdentityValue::ZERO
    };
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.get(..IDENTITY_PATH_BYTES).unwrap_or(bytes);
    if let Some(room) = value.path.get_mut(..bytes.len()) {
        room.copy_from_slice(bytes);
        value.path_len_bytes = u32::try_from(bytes.len()).unwrap_or(0);
    }
    value
}

/// A key reader as the gate's workers use it.
pub(crate) struct WorkerKeys(pub(crate) FileKeyReader);

impl Keys for WorkerKeys {
    fn key(&mut self, file: BorrowedFd<'_>) -> io::Result<FileKey> {
        self.0.read(file).map_err(io::Error::other)
    }
}
