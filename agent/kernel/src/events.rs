//! The ring buffers of events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{Map, MapData, RingBuf};

use crate::{error::OpenError, pins::Pins};

/// Which ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventRing {
    /// Denials; the kernel wakes the reader.
    Denied,
    /// Allowed attempts and execs; the reader looks by the clock.
    Granted,
    /// Execs whose file was leased, for the exec gate; the kernel wakes it.
    Executed,
}

/// Reads one ring buffer. A ring has one reader position, shared by all who open it, so a daemon
/// that takes over goes on where the one before stopped.
pub struct EventReader {
    ring: RingBuf<MapData>,
}

impl EventReader {
    /// Opens the pinned ring.
    ///
    /// # Errors
    /// [`OpenError`], naming the pin.
    pub fn open(pins: &Pins, ring: EventRing) -> Result<Self, OpenError> {
        let name = match ring {
            EventRing::Denied => "DENIED",
            EventRing::Granted => "GRANTED",
            EventRing::Executed => "EXECUTED",
        };
        let ring = Map::from_map_data(pins.open_map(name)?)
            .and_then(RingBuf::try_from)
            .map_err(|source| OpenError::Map {
                path: pins.map(name),
                source: Box::new(source),
            })?;
        Ok(Self { ring })
    }

    /// Hands every waiting record to `each`, oldest first; the kernel may reuse its room afterwards.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        while let Some(record) = self.ring.next() {
            each(&record);
        }
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
