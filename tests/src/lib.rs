//! The test internet, the daemon under test, and what is asked of them: everything real.
//!
//! Whatever is made carries the process that made it in its name, dies with it as far as the kernel
//! can see to that, and is swept away by the next run otherwise.
#![forbid(unsafe_code)]

mod api;
pub mod binaries;
mod daemon;
mod digest;
mod filesystem;
mod forge;
mod internet;
mod leftovers;
mod mounts;
mod namespace;
mod prober;
mod random;
mod rebuilt;
mod scratch;
mod terminal;

pub use api::{Api, Begun};
pub use daemon::{Busy, Daemon, Paths, Stopped};
pub use digest::{sha256, sha256_of_file};
pub use filesystem::{FileSystem, FuseMirror, Kind, mounts_below};
pub use forge::Forge;
pub use internet::{Address, Contact, Internet, TCP_ECHO, Traffic, UDP_ECHO};
pub use leftovers::sweep;
pub use mounts::{BPFFS, cgroup1_mounts, cgroup2_mount};
pub use namespace::Namespace;
pub use prober::{PYTHON, Prober};
pub use random::Random;
pub use rebuilt::{ebpf_object, other_build};
pub use scratch::Scratch;
pub use terminal::Terminal;
