//! The test internet, the daemon under test, and what is asked of them: everything real.
//!
//! Whatever is made carries the process that made it in its name, dies with it as far as the kernel
//! can see to that, and is swept away by the next run otherwise.
#![forbid(unsafe_code)]

pub mod binaries;
mod daemon;
mod digest;
mod internet;
mod leftovers;
mod mounts;
mod namespace;
mod prober;
mod scratch;

pub use daemon::{Daemon, Paths};
pub use digest::{sha256, sha256_of_file};
pub use internet::{Address, Contact, Internet, TCP_ECHO, Traffic, UDP_ECHO};
pub use leftovers::sweep;
pub use mounts::{BPFFS, cgroup2_mount};
pub use namespace::Namespace;
pub use prober::{PYTHON, Prober};
pub use scratch::Scratch;
