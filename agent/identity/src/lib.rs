//! Who a file is: its content's SHA-256, found before the file's first instruction runs.
//!
//! The gate answers fanotify's exec permission events. It hashes the very file that the kernel is
//! about to execute and publishes the identity before it lets the exec go on, so a program's first
//! connect is never denied for lack of a hash. It denies no exec: a file without identity runs, and
//! has no grants.
#![forbid(unsafe_code)]

mod digest;
mod gate;
mod settle;

pub use digest::{HASH_LIMIT_BYTES, HashError, sha256};
pub use gate::{Gate, GateError, Identities, Keys, Missing, Outcome, Seen, WORKERS};
pub use settle::{Identified, identify};
