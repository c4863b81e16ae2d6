//! Loads, attaches and pins the eBPF programs, and writes their maps: the only user of aya.
//!
//! [`install`] runs once on a host: it leaves programs, links and maps pinned in bpffs, so they
//! decide whether or not a daemon lives. [`replace`] puts those of another build in their place while
//! sandboxes live. [`Kernel::open`] takes pinned maps over. `META` is pinned
//! last, so pins without it are the rest of a start that did not finish and decide for nobody.
#![forbid(unsafe_code)]

mod btf;
mod error;
mod events;
mod file_key;
mod flows;
mod identity;
mod in_force;
mod install;
mod object;
mod pins;
mod replace;
mod tables;

pub use btf::{BtfError, read_offsets};
pub use error::{InstallError, OpenError, TableError};
pub use events::{EventReader, EventRing};
pub use file_key::{FILE_KEY_SLOTS, FileKeyError, FileKeyReader};
pub use flows::{Flows, OpenFlow};
pub use identity::{CHAINS_MAX, Epoch, FILES_MAX, IdentityTables, KEYS_MAX, Reports};
pub use install::{Attachment, Installed, ProgramReport, install, verify};
pub use object::object_sha256;
pub use pins::{HookStatus, PinState, Pins};
pub use replace::replace;
pub use tables::Kernel;
