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
    /// A packet out of the sandbox.
    Send = 5, "send";
    /// A packet into the sandbox.
    Receive = 6, "receive";
    /// An open flow that was ended. User space makes this one.
    Cut = 7, "cut";
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
    /// The process's line of executables, 0 for none.
    pub chain: u32,
    /// The line before its exec: what is known of the ancestors where `chain` is 0.
    pub parent_chain: u32,
    /// Packets: the sandbox's own port, else 0.
    pub local_port: u16,
    /// Zero.
    pub reserved1: u16,
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
        chain: 0,
        parent_chain: 0,
        local_port: 0,
        reserved1: 0,
    };
}
assert_layout!(Event, size 128, align 8, {
    boottime_ns @ 0, process @ 8, file @ 24, sandbox_id @ 64, policy_id @ 68, file_id @ 72,
    tid @ 76, grant_index @ 80, addr @ 84, port @ 104, kind_raw @ 106, action_raw @ 107,
    reason_raw @ 108, reserved0 @ 109, protocol @ 110, socket_kind @ 112, chain @ 116,
    parent_chain @ 120, local_port @ 124, reserved1 @ 126
});
