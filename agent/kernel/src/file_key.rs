//! The key of an open file, computed in the kernel by the code that runs at exec.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use aya::programs::{ProgramFd, ProgramInfo};
use clawd_common::record::{FileKey, OpenFile};
use clawd_sys::bpf::ArrayView;

use crate::{error::OpenError, install::FILE_KEY_PROGRAM, pins::Pins};

/// Readers that may work at the same time (`FILE_KEY` in the object).
pub const FILE_KEY_SLOTS: u32 = 64;

/// Why a key could not be computed. The file then has no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileKeyError {
    /// The program could not be run.
    #[error("cannot run program `file_key`")]
    Run(#[source] io::Error),
    /// The program could not read the file.
    #[error("program `file_key` cannot read the file")]
    File(#[source] io::Error),
    /// The reader's slot lies behind the end of map `FILE_KEY`.
    #[error("map `FILE_KEY` has no slot {slot}")]
    Slot {
        /// The slot.
        slot: u32,
    },
}

/// Words of a slot.
const SLOT_WORDS: usize = size_of::<OpenFile>() / size_of::<u64>();

/// Computes keys; each has a slot of the answer map for itself.
pub struct FileKeyReader {
    program: ProgramFd,
    answers: ArrayView,
    slot: u32,
}

impl FileKeyReader {
    /// Opens the pinned program. `slot` must be this reader's alone and below [`FILE_KEY_SLOTS`].
    ///
    /// # Errors
    /// [`OpenError`], naming the pin.
    pub fn open(pins: &Pins, slot: u32) -> Result<Self, OpenError> {
        let path = pins.program(FILE_KEY_PROGRAM);
        let program = ProgramInfo::from_pin(&path)
            .and_then(|info| info.fd())
            .map_err(|source| OpenError::Program {
                path,
                source: Box::new(source),
            })?;
        let slots = usize::try_from(FILE_KEY_SLOTS).unwrap_or(usize::MAX);
        let answers = ArrayView::new(
            pins.open_map("FILE_KEY")?.fd().as_fd(),
            slots * size_of::<OpenFile>(),
        )
        .map_err(|source| OpenError::Map {
            path: pins.map("FILE_KEY"),
            source: Box::new(aya::maps::MapError::IoError(source)),
        })?;
        Ok(Self {
            program,
            answers,
            slot,
        })
    }

    /// The key of `file`, a descriptor of the calling process.
    ///
    /// # Errors
    /// [`FileKeyError`].
    pub fn read(&mut self, file: BorrowedFd<'_>) -> Result<FileKey, FileKeyError> {
        self.look(file).map(|opened| opened.key)
    }

    /// The key of `file`, a descriptor of the calling process, and the mount namespace that it was
    /// opened in.
    ///
    /// `&mut`, because the answer lies in this reader's slot until it is read.
    ///
    /// # Errors
    /// [`FileKeyError`].
    pub fn look(&mut self, file: BorrowedFd<'_>) -> Result<OpenFile, FileKeyError> {
        let fd = u64::from(file.as_raw_fd().unsigned_abs());
        let status =
            clawd_sys::bpf::run_raw_tracepoint(self.program.as_fd(), &[fd, u64::from(self.slot)])
                .map_err(FileKeyError::Run)?;
        if status != 0 {
            return Err(FileKeyError::File(io::Error::from_raw_os_error(
                status.saturating_neg(),
            )));
        }
        self.answer().ok_or(FileKeyError::Slot { slot: self.slot })
    }

    /// What the program has left in the slot; it ran in this thread, and has ended.
    fn answer(&self) -> Option<OpenFile> {
        let first = usize::try_from(self.slot).ok()?.checked_mul(SLOT_WORDS)?;
        let word = |index: usize| self.answers.word(first + index);
        let halves = |index: usize| -> Option<[u32; 2]> {
            let [a, b, c, d, e, f, g, h] = word(index)?.to_ne_bytes();
            Some([[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes))
        };
        let [ctime_nsec, dev] = halves(3)?;
        let [generation, fs_magic] = halves(4)?;
        let [mount_namespace, reserved] = halves(5)?;
        Some(OpenFile {
            key: FileKey {
                ino: word(0)?,
                size_bytes: word(1)?,
                ctime_sec: word(2)?.cast_signed(),
                ctime_nsec,
                dev,
                generation,
                fs_magic,
            },
            mount_namespace,
            reserved,
        })
    }
}
