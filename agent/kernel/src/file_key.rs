//! The key of an open file, computed in the kernel by the code that runs at exec.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use aya::{
    maps::{Array, Map, MapData, MapError},
    programs::{ProgramFd, ProgramInfo},
};
use clawd_common::record::FileKey;

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
    /// The answer could not be read.
    #[error("cannot read map `FILE_KEY`")]
    Map(#[source] Box<MapError>),
}

/// Computes keys; each has a slot of the answer map for itself.
pub struct FileKeyReader {
    program: ProgramFd,
    answers: Array<MapData, FileKey>,
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
        let answers = Map::from_map_data(pins.open_map("FILE_KEY")?)
            .and_then(Array::try_from)
            .map_err(|source| OpenError::Map {
                path: pins.map("FILE_KEY"),
                source: Box::new(source),
            })?;
        Ok(Self {
            program,
            answers,
            slot,
        })
    }

    /// The key of `file`, a descriptor of the calling process.
    ///
    /// `&mut`, because the answer lies in this reader's slot until it is read.
    ///
    /// # Errors
    /// [`FileKeyError`].
    pub fn read(&mut self, file: BorrowedFd<'_>) -> Result<FileKey, FileKeyError> {
        let fd = u64::from(file.as_raw_fd().unsigned_abs());
        let status =
            clawd_sys::bpf::run_raw_tracepoint(self.program.as_fd(), &[fd, u64::from(self.slot)])
                .map_err(FileKeyError::Run)?;
        if status != 0 {
            return Err(FileKeyError::File(io::Error::from_raw_os_error(
                status.saturating_neg(),
            )));
        }
        self.answers
            .get(&self.slot, 0)
            .map_err(|source| FileKeyError::Map(Box::new(source)))
    }
}
