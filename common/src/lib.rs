//! What user space and the eBPF programs share: the layouts of map values and events, and the
//! pure decision functions.
//!
//! Everything here is `no_std` and free of I/O, so the very same code is unit-tested and
//! property-tested on the host and runs inside the hooks.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod addr;
pub mod decide;
pub mod event;
pub mod record;
pub mod verdict;

/// Version of every layout in this crate that is pinned in bpffs.
///
/// A daemon refuses pins of another version instead of reading their bytes under a wrong layout.
pub const ABI_VERSION: u32 = 1;
