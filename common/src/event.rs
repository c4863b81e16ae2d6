//! The fixed-size record that hooks write to the ring buffers.

use crate::{
    abi::assert_layout,
    addr::Addr,
    record::{FileKey, ProcessKey},
};

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $raw:literal, $text:literal;)+) => {
        /// What was attempted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum EventKind { $($(#[$doc])+ $name = $raw,)+ }

        impl EventKind {
            /// Reads [`Event::kind_raw`]; `None` for a byte of another version.
            #[must_use]
            pub const fn from_raw(raw: u8) -> Option<Self> {
                match raw { $($raw => Some(Self::$name),)+ _ => None }
            }

            /// The name in audit records.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

kinds! {
    /// `connect(2)`.
    Connect = 1, "connect";
    /// A datagram with its own destination.
    Sendmsg = 2, "sendmsg";
    /// `socket(2)`.
    Socket = 3, "socket";
    /// `execve(2)` that succeeded.
    Exec = 4, "exec";
}

/// One attempt and its verdict.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot, suspended time included (`bpf_ktime_get_boot_ns`).
    pub boottime_ns: u64,
    /// The process that asked.
    pub process: ProcessKey,
    /// The file it executes, all zero where it has no record.
    pub file: FileKey,
    /// The sandbox, 0 where the task is in none.
    pub sandbox_id: u32,
    /// The policy that was in force.
    pub policy_id: u32,
    /// The executable's identity, 0 for none.
    pub file_id: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// [`crate::verdict::Verdict::grant_index`].
    pub grant_index: u32,
    /// Destination, canonical; family 0 where there is none.
    pub addr: Addr,
    /// Destination port.
    pub port: u16,
    /// [`EventKind`] as its raw byte.
    pub kind_raw: u8,
    /// [`crate::verdict::Action`] as its raw byte.
    pub action_raw: u8,
    /// [`crate::verdict::Reason`] as its raw byte.
    pub reason_raw: u8,
    /// Zero.
    pub reserved0: u8,
    /// IP protocol number, of `socket(2)` as it was asked for (262 is MPTCP).
    pub protocol: u16,
    /// `socket(2)`: address family and type (`family << 16 | type`), else 0.
    pub socket_kind: u32,
    /// Zero.
    pub reserved1: u32,
}
impl Event {
    /// An event of nothing, read as a denial.
    pub const ZERO: Self = Self {
        boottime_ns: 0,
        process: ProcessKey::ZERO,
        file: FileKey::ZERO,
        sandbox_id: 0,
        policy_id: 0,
        file_id: 0,
        tid: 0,
        grant_index: 0,
        addr: Addr::ZERO,
        port: 0,
        kind_raw: 0,
        action_raw: 0,
        reason_raw: 0,
        reserved0: 0,
        protocol: 0,
        socket_kind: 0,
        reserved1: 0,
    };
}
assert_layout!(Event, size 120, align 8, {
    boottime_ns @ 0, process @ 8, file @ 24, sandbox_id @ 64, policy_id @ 68, file_id @ 72,
    tid @ 76, grant_index @ 80, addr @ 84, port @ 104, kind_raw @ 106, action_raw @ 107,
    reason_raw @ 108, reserved0 @ 109, protocol @ 110, socket_kind @ 112, reserved1 @ 116
});
