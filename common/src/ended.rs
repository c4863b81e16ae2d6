//! Processes that have ended, for reports of what they did before.

use crate::{abi::assert_layout, record::ProcessValue};

/// Key of map `ENDED`: a process as its own sandbox numbers it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndedKey {
    /// The sandbox.
    pub sandbox_id: u32,
    /// Thread group id in the process's own pid namespace.
    pub inside_tgid: u32,
}
impl EndedKey {
    /// No process.
    pub const ZERO: Self = Self {
        sandbox_id: 0,
        inside_tgid: 0,
    };
}
assert_layout!(EndedKey, size 8, align 4, { sandbox_id @ 0, inside_tgid @ 4 });

/// Value of map `ENDED`: what the process was, when it ended. For reports alone; the oldest entries
/// give way, and a later process with the same number takes the place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedValue {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
    /// What it executed.
    pub process: ProcessValue,
}
impl EndedValue {
    /// Nothing known.
    pub const ZERO: Self = Self {
        tgid: 0,
        reserved: 0,
        process: ProcessValue::ZERO,
    };
}
assert_layout!(EndedValue, size 88, align 8, { tgid @ 0, reserved @ 4, process @ 8 });
