//! Who is who, and what each is granted: the gate's memory, and the kernel's tables kept equal to it.
//!
//! One lock holds it. An exec waits for whoever has that lock, so nothing here reads a file or
//! blocks; the one file that is written is that of the pins, when a path is used for the first time.

mod denied;
mod evict;
mod policies;
mod publish;
#[cfg(test)]
mod tests;

pub(crate) use publish::now_ns;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clawd_common::{
    decide::{MaskKey, MaskValue},
    record::{ChainKey, FileKey, FileValue, LINEAGE_MAX, LineageValue},
    verdict::Reason,
};

use crate::{
    chains::Chains,
    entries::{Alias, Line, PolicyBook},
    files::{Files, Known, fixed},
    mounts::{Place, WritableTrees},
    pins::Pins,
    protocol::Notice,
    tables::{TableError, Tables},
};

/// Executed files of one sandbox whose path was matched with its policies.
const WALKED_MAX: usize = 4096;

/// How long a path is not matched again: links that lead to it may come and go.
const WALKED_FOR: Duration = Duration::from_secs(1);

/// How much the kernel's tables hold.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Contents (`FILE`).
    pub files: usize,
    /// Lines of executables (`LINEAGE`), and steps between them (`CHAIN`).
    pub chains: usize,
    /// Keys (`IDENTITY`).
    pub keys: usize,
}

/// Why a content may be taken for what runs.
#[derive(Clone, Debug)]
pub(crate) enum Basis {
    /// No sandbox can write the file: it is known from now on.
    ReadOnly {
        place: Place,
        /// It has further names.
        linked: bool,
    },
    /// A lease says that nobody writes it: for this one exec.
    Leased {
        /// Its number.
        lease: u32,
    },
}

/// One exec that waits, its content known.
pub(crate) struct Exec<'a> {
    pub(crate) sandbox_id: u32,
    pub(crate) tgid: u32,
    pub(crate) key: FileKey,
    pub(crate) sha256: [u8; 32],
    /// In the sandbox's view.
    pub(crate) path: &'a Path,
    /// No name in `path` is one that a sandbox could have put there, so it may be pinned.
    pub(crate) is_path_trusted: bool,
    pub(crate) basis: Basis,
}

#[derive(Default)]
struct SandboxBook {
    name: String,
    policies: Vec<u32>,
    /// Lines that its processes have or had.
    chains: HashSet<u32>,
    /// Steps that its processes took.
    steps: HashSet<ChainKey>,
    /// [`SandboxBook::chains`] has those of its processes from when it was entered: they need not be
    /// asked for when its policy is loaded.
    has_lines: bool,
    /// Files whose path was matched with its policies, by the path that they were executed by.
    walked: HashMap<FileKey, (PathBuf, Instant)>,
}

/// The book.
pub(crate) struct Book {
    tables: Box<dyn Tables>,
    capacity: Capacity,
    files: Files,
    chains: Chains,
    policies: HashMap<u32, PolicyBook>,
    /// Lines that a gate before has written masks for, by policy; until that is loaded.
    left: HashMap<u32, HashMap<u32, MaskValue>>,
    sandboxes: HashMap<u32, SandboxBook>,
    told: HashMap<FileKey, (PathBuf, Reason)>,
    loaders: HashSet<[u8; 32]>,
    pins: Pins,
    notices: Vec<Notice>,
    /// What each sandbox can write; looked at once more whenever an identity is published.
    trees: Arc<WritableTrees>,
    last_lease: u32,
    /// When room was made last.
    evicted: Option<Instant>,
}

impl Book {
    /// Takes up what the kernel's tables hold.
    pub(crate) fn new(mut tables: Box<dyn Tables>, capacity: Capacity, pins: Pins) -> Self {
        let now = Instant::now();
        // Of a gate before, whose leases went with it.
        for key in tables.leases() {
            if let Err(error) = tables.lease(&key, None) {
                tracing::warn!(%error, "an entry stays in the kernel's tables");
            }
        }
        let mut files = Files::restore(tables.files(), tables.identities(), now);
        let lines = tables.lineages().into_iter().map(|(number, value)| {
            let count = usize::try_from(value.count).map_or(LINEAGE_MAX, |n| n.min(LINEAGE_MAX));
            (number, value.files.into_iter().take(count).collect())
        });
        let mut chains = Chains::restore(lines.collect(), tables.chains(), now);
        for (_, process) in tables.processes() {
            chains.pass(process.chain.max(process.parent_chain));
            files.pass(process.file_id);
        }
        let mut left: HashMap<u32, HashMap<u32, MaskValue>> = HashMap::new();
        for (MaskKey { policy_id, chain }, mask) in tables.masks() {
            left.entry(policy_id).or_default().insert(chain, mask);
        }
        Self {
            tables,
            capacity,
            files,
            chains,
            policies: HashMap::new(),
            left,
            sandboxes: HashMap::new(),
            told: HashMap::new(),
            loaders: HashSet::new(),
            pins,
            notices: Vec::new(),
            trees: Arc::default(),
            last_lease: 0,
            evicted: None,
        }
    }

    /// What happened since that somebody should hear of.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(crate) fn tables(&mut self) -> &mut dyn Tables {
        self.tables.as_mut()
    }

    pub(crate) fn pins(&mut self) -> &mut Pins {
        &mut self.pins
    }

    /// Contents and lines of executables.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.files.len(), self.chains.len())
    }

    /// What is known of a file that no sandbox could write since.
    pub(crate) fn known(&self, key: &FileKey) -> Option<&Known> {
        self.files.known(key)
    }

    /// The hash of a file that no sandbox could write since.
    pub(crate) fn hash_of(&self, key: &FileKey) -> Option<[u8; 32]> {
        self.files.known(key).map(|known| known.sha256)
    }

    /// The path that the file was executed by in the sandbox lately.
    pub(crate) fn walked_path(&self, sandbox_id: u32, key: &FileKey) -> Option<PathBuf> {
        let (path, time) = self.sandboxes.get(&sandbox_id)?.walked.get(key)?;
        (time.elapsed() < WALKED_FOR).then(|| path.clone())
    }

    /// Whether the file was executed by that path in the sandbox lately.
    pub(crate) fn is_walked(&self, sandbox_id: u32, key: &FileKey, path: &Path) -> bool {
        self.sandboxes
            .get(&sandbox_id)
            .and_then(|sandbox| sandbox.walked.get(key))
            .is_some_and(|(walked, time)| walked == path && time.elapsed() < WALKED_FOR)
    }

    /// Remembers a hash of a file that no sandbox can write, without an exec.
    pub(crate) fn remember(&mut self, key: FileKey, sha256: [u8; 32], place: Place, linked: bool) {
        if self.files.keys() >= self.capacity.keys {
            self.evict();
        }
        if self.is_writable(&place, linked) {
            return;
        }
        if self.files.known(&key).is_none() && self.files.keys() < self.capacity.keys {
            let known = Known {
                sha256,
                place: Some(place),
                linked,
                published: false,
            };
            self.files.remember(key, known);
        }
    }

    /// A dynamic loader: its content has no identity, under whatever name.
    pub(crate) fn add_loader(&mut self, sha256: [u8; 32]) {
        if !self.loaders.insert(sha256) {
            return;
        }
        let keys = self.files.forget_keys(|_, known| known.sha256 == sha256);
        self.unpublish(keys);
    }

    /// Whether the content is a dynamic loader.
    pub(crate) fn is_loader(&self, sha256: &[u8; 32]) -> bool {
        self.loaders.contains(sha256)
    }

    /// What the sandboxes can write.
    pub(crate) fn trees(&self) -> Arc<WritableTrees> {
        Arc::clone(&self.trees)
    }

    /// A sandbox can write in `trees` from now on: what is known of files there does not hold any more.
    pub(crate) fn set_writable(&mut self, sandbox_id: u32, trees: Vec<Place>) {
        let keys = self.files.forget_writable(&trees);
        self.unpublish(keys);
        self.take_up_writable(sandbox_id, trees);
    }

    /// A sandbox could write in `trees` before this gate began.
    pub(crate) fn take_up_writable(&mut self, sandbox_id: u32, trees: Vec<Place>) {
        Arc::make_mut(&mut self.trees).set(sandbox_id, trees);
    }

    /// A sandbox is gone with all its processes.
    pub(crate) fn clear_writable(&mut self, sandbox_id: u32) {
        Arc::make_mut(&mut self.trees).remove(sandbox_id);
    }

    /// Whether a sandbox can write a file, under this name or another.
    fn is_writable(&self, place: &Place, linked: bool) -> bool {
        self.trees.covers(place) || (linked && self.trees.any_on(place.dev))
    }

    /// A number for a lease.
    pub(crate) fn next_lease(&mut self) -> u32 {
        self.last_lease = self.last_lease.wrapping_add(1);
        self.last_lease
    }

    fn unpublish(&mut self, keys: Vec<FileKey>) {
        for key in keys {
            if let Err(error) = self.tables.set_identity(&key, None) {
                tracing::error!(%error, "a file keeps an identity that it should lose");
            }
        }
    }

    /// Publishes all that the kernel must know before the exec goes on.
    ///
    /// `links` are paths of entries that lead to the file now; they are looked at only where the file
    /// was not executed by this path before.
    pub(crate) fn exec(&mut self, exec: &Exec<'_>, links: &[Alias]) -> Result<(), Reason> {
        let now = Instant::now();
        if self.is_loader(&exec.sha256) {
            return Err(Reason::Loader);
        }
        let file_id = self.number(exec, now)?;
        if !self.is_walked(exec.sandbox_id, &exec.key, exec.path) {
            self.walk(exec, file_id, links);
        }
        let before = self.tables.process(exec.tgid);
        let parent = before
            .filter(|process| process.sandbox_id == exec.sandbox_id)
            .map_or(0, |process| process.chain_before_next());
        self.step(exec.sandbox_id, ChainKey { parent, file_id }, now)?;
        self.publish(exec, file_id)?;
        self.tell(&exec.key, exec.path, Some(exec.sha256), Reason::Identified);
        Ok(())
    }

    /// The number of the content of a program that runs already.
    pub(crate) fn number_for_adoption(&mut self, exec: &Exec<'_>) -> Result<u32, Reason> {
        if self.is_loader(&exec.sha256) {
            return Err(Reason::Loader);
        }
        let file_id = self.number(exec, Instant::now())?;
        self.walk(exec, file_id, &[]);
        Ok(file_id)
    }

    /// The number of the content.
    fn number(&mut self, exec: &Exec<'_>, now: Instant) -> Result<u32, Reason> {
        if let Some(number) = self.files.number(&exec.sha256, now) {
            return Ok(number);
        }
        // One sandbox must not use the table up for all others.
        let share = self.capacity.files / 4;
        let is_full = |book: &Self| {
            book.files.len() >= book.capacity.files
                || book.files.of_sandbox(exec.sandbox_id) >= share
        };
        if is_full(self) {
            self.evict();
        }
        if is_full(self) {
            return Err(Reason::TableFull);
        }
        let number = self
            .files
            .add(exec.sha256, exec.sandbox_id, now)
            .ok_or(Reason::TableFull)?;
        let (path, path_len_bytes) = fixed(exec.path);
        let value = FileValue {
            sha256: exec.sha256,
            path_len_bytes,
            path,
            ..FileValue::ZERO
        };
        if let Err(error) = self.tables.set_file(number, Some(&value)) {
            self.files.remove(number);
            return Err(full(&error));
        }
        Ok(number)
    }

    /// Sees to it that the kernel has the line of a process that takes this step; returns it.
    pub(crate) fn step(
        &mut self,
        sandbox_id: u32,
        key: ChainKey,
        now: Instant,
    ) -> Result<u32, Reason> {
        // One sandbox must not use the table up for all others.
        let share = self.capacity.chains / 4;
        let is_full = |book: &Self| {
            let sandbox = book.sandboxes.get(&sandbox_id);
            book.chains.len().max(book.chains.steps()) >= book.capacity.chains
                || sandbox
                    .is_some_and(|sandbox| sandbox.chains.len().max(sandbox.steps.len()) >= share)
        };
        if is_full(self) {
            self.evict();
        }
        if is_full(self) && !self.chains.is_known(key) {
            return Err(Reason::TableFull);
        }
        let step = self.chains.step(key, now).ok_or(Reason::TableFull)?;
        let chain = step.chain;
        if let Some(sandbox) = self.sandboxes.get_mut(&sandbox_id) {
            sandbox.steps.insert(key);
        }
        let written = self
            .write_line(chain, step.new_chain)
            .and_then(|()| self.write_masks(sandbox_id, chain))
            .and_then(|()| match step.new_step {
                true => self.tables.set_chain(key, Some(chain)),
                false => Ok(()),
            });
        if let Err(error) = written {
            self.chains.forget_step(key, &step);
            if step.new_chain {
                self.forget_masks(chain);
            }
            return Err(full(&error));
        }
        Ok(chain)
    }

    fn write_line(&mut self, chain: u32, new_chain: bool) -> Result<(), TableError> {
        if !new_chain {
            return Ok(());
        }
        let mut value = LineageValue::ZERO;
        for (room, file_id) in value.files.iter_mut().zip(self.chains.files(chain)) {
            *room = *file_id;
            value.count += 1;
        }
        self.tables.set_lineage(chain, Some(&value))
    }

    /// Writes what the line is granted under each policy of the sandbox, unless that is written.
    fn write_masks(&mut self, sandbox_id: u32, chain: u32) -> Result<(), TableError> {
        let Some(sandbox) = self.sandboxes.get_mut(&sandbox_id) else {
            return Ok(());
        };
        sandbox.chains.insert(chain);
        for policy_id in &sandbox.policies {
            let policy_id = *policy_id;
            let Some(policy) = self.policies.get_mut(&policy_id) else {
                continue;
            };
            if !policy.masked.contains_key(&chain) {
                let line = line(&self.chains, &self.files, chain);
                let mask = policy.mask(&line, &self.pins);
                write_mask(self.tables.as_mut(), policy_id, chain, &mask)?;
                policy.masked.insert(chain, mask);
            }
        }
        Ok(())
    }
}

fn full(error: &TableError) -> Reason {
    tracing::error!(%error, cause = error.0, "a program has no identity");
    Reason::TableFull
}

/// What is known of a line. A content that was forgotten ends it: what is not known grants nothing.
fn line(chains: &Chains, files: &Files, chain: u32) -> Line {
    let line = chains.files(chain);
    let known = line.iter();
    let contents: Vec<_> = known
        .map_while(|file_id| Some((*file_id, files.sha256(*file_id)?)))
        .collect();
    Line {
        // One with as many as there can be may have lost the farthest.
        is_whole: contents.len() == line.len() && line.len() < LINEAGE_MAX,
        contents,
    }
}

fn write_mask(
    tables: &mut dyn Tables,
    policy_id: u32,
    chain: u32,
    mask: &MaskValue,
) -> Result<(), TableError> {
    tables.set_mask(MaskKey { policy_id, chain }, mask)
}
