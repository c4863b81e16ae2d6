//! What user space and the eBPF programs share: the layouts of map values and events, and the
//! pure decision functions.
//!
//! Everything here is `no_std` and free of I/O, so the very same code is unit-tested and
//! property-tested on the host and runs inside the hooks.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod addr;
pub mod decide;
pub mod ended;
pub mod event;
pub mod mask;
pub mod packet;
pub mod record;
pub mod syscall;
pub mod verdict;

/// Version of everything that outlives a daemon while sandboxes live: the maps that are pinned in
/// bpffs (layouts, capacities, what the values mean), the files of the state directory, and what a
/// sandbox's first process is told.
///
/// A daemon of another build takes live sandboxes over where this is the same, and puts its own
/// programs in the place of those that run: old and new ones then work on the same maps for a
/// moment. So it is raised with every change of one of these. A new map may be added without it if
/// the programs deny, or report less, as long as it is empty. Pins of another version are never read.
pub const ABI_VERSION: u32 = 7;
