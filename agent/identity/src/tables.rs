//! The kernel's tables as the gate writes them; a test has its own.

use std::{error::Error, io, os::fd::BorrowedFd};

use clawd_common::{
    decide::{MaskKey, MaskValue},
    record::{
        AdoptedValue, ChainKey, ChangedKey, FileKey, FileValue, LeasedKey, LeasedValue,
        LineageValue, OpenFile, ProcessValue, SeenValue,
    },
};

/// Computes file keys; each thread that needs them has one of its own.
pub trait Keys: Send {
    /// The key of an open file, `O_PATH` descriptors included.
    ///
    /// # Errors
    /// Whatever kept the kernel from telling it.
    fn key(&mut self, file: BorrowedFd<'_>) -> io::Result<FileKey>;
}

/// Tells whose an exec event is; each thread that reads events has one of its own.
pub trait Locate: Send {
    /// The key of an open file, and the mount namespace that it was opened in.
    ///
    /// # Errors
    /// Whatever kept the kernel from telling it.
    fn locate(&mut self, file: BorrowedFd<'_>) -> io::Result<OpenFile>;
}

/// A table could not be written: it is full, or the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the kernel's tables")]
pub struct TableError(#[source] pub Box<dyn Error + Send + Sync>);

/// What a write returns.
pub type Written = Result<(), TableError>;

/// Reads one table whole.
type All<K, V> = Vec<(K, V)>;

/// The maps of `clawd_common::record` that the gate alone writes.
pub trait Tables: Send {
    /// A process's record, with the chain that it was found to have later.
    fn process(&self, tgid: u32) -> Option<ProcessValue>;
    /// Every process's record.
    fn processes(&self) -> All<u32, ProcessValue>;
    /// Map `ADOPTED`.
    ///
    /// # Errors
    /// [`TableError`]: the process has no grants.
    fn adopt(&mut self, tgid: u32, value: AdoptedValue) -> Written;
    /// Takes a process's record away.
    ///
    /// # Errors
    /// [`TableError`].
    fn revoke(&mut self, tgid: u32) -> Written;
    /// Map `LEASED`; `None` takes the entry back.
    ///
    /// # Errors
    /// [`TableError`]: the exec has no identity.
    fn lease(&mut self, key: &LeasedKey, value: Option<LeasedValue>) -> Written;
    /// The keys of map `LEASED`.
    fn leases(&self) -> Vec<LeasedKey>;
    /// Map `EPOCH`: what a lease must say to count.
    ///
    /// # Errors
    /// [`TableError`]: no lease can be given.
    fn epoch(&self) -> Result<u32, TableError>;
    /// Map `IDENTITY`; `None` takes the entry back.
    ///
    /// # Errors
    /// [`TableError`]: the file has no identity.
    fn set_identity(&mut self, key: &FileKey, file_id: Option<u32>) -> Written;
    /// Map `IDENTITY`.
    fn identities(&self) -> All<FileKey, u32>;
    /// Map `FILE`; `None` takes the entry back.
    ///
    /// # Errors
    /// [`TableError`].
    fn set_file(&mut self, file_id: u32, value: Option<&FileValue>) -> Written;
    /// Map `FILE`.
    fn files(&self) -> All<u32, FileValue>;
    /// Map `CHAIN`; `None` takes the entry back.
    ///
    /// # Errors
    /// [`TableError`]: such a process has no chain.
    fn set_chain(&mut self, key: ChainKey, chain: Option<u32>) -> Written;
    /// Map `CHAIN`.
    fn chains(&self) -> All<ChainKey, u32>;
    /// Map `LINEAGE`; `None` takes the entry back.
    ///
    /// # Errors
    /// [`TableError`].
    fn set_lineage(&mut self, chain: u32, value: Option<&LineageValue>) -> Written;
    /// Map `LINEAGE`.
    fn lineages(&self) -> All<u32, LineageValue>;
    /// Map `MASK`; an empty value is no entry.
    ///
    /// # Errors
    /// [`TableError`]: it has what it had before.
    fn set_mask(&mut self, key: MaskKey, value: &MaskValue) -> Written;
    /// Map `MASK`.
    fn masks(&self) -> All<MaskKey, MaskValue>;
    /// Map `SEEN`.
    ///
    /// # Errors
    /// [`TableError`].
    fn set_seen(&mut self, key: &FileKey, value: &SeenValue) -> Written;
    /// Map `CHANGED`.
    ///
    /// # Errors
    /// [`TableError`].
    fn set_changed(&mut self, key: ChangedKey, pinned: [u8; 32]) -> Written;
}
