//! Who a file is: its content's SHA-256, found before the file's first instruction runs.
//!
//! The gate is a process of its own, so that nothing else ever delays an exec. It answers fanotify's
//! exec permission events: it hashes the very file that the kernel is about to execute and publishes
//! identity, line of executables and grants before it lets the exec go on, so a program's first
//! connect is never denied for lack of a hash. It denies no exec: a file without identity runs, and
//! has no grants.
//!
//! [`serve`] is the process; [`protocol`] is what a daemon says to it.
#![forbid(unsafe_code)]

mod adopt;
mod basis;
mod book;
mod chains;
mod digest;
mod entries;
#[doc(hidden)]
pub mod executable;
mod files;
mod gate;
mod groups;
mod job;
mod judge;
mod lease;
mod load;
#[doc(hidden)]
pub mod mounts;
mod pins;
pub mod protocol;
mod queue;
mod reader;
mod resolve;
mod sandbox;
mod server;
mod settle;
mod tables;
mod take_up;
#[cfg(test)]
mod tests;
mod text_busy;
mod watchdog;
mod watched;
mod worker;

pub use book::Capacity;
pub use digest::{HASH_LIMIT_BYTES, HashError, sha256};
pub use entries::{Entry, Matcher};
pub use gate::{Parts, StartError, WORKERS};
pub use groups::GROUPS_MAX;
pub use pins::{Pin, PinError};
pub use sandbox::WatchError;
pub use server::{ExecutedRing, ServeError, serve};
pub use tables::{Keys, Locate, TableError, Tables, Written};
