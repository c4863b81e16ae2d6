//! Verdicts and their reasons.
//!
//! On the wire (event records) both are raw bytes: a map or a ring buffer can hold any byte, and
//! an unknown one must read as a denial.

/// What was decided. Anything that is not exactly [`Action::Allowed`] denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The attempt was refused.
    Denied,
    /// The attempt went on.
    Allowed,
}

impl Action {
    /// The byte in an event record: 1 for allowed, 0 for denied.
    #[must_use]
    pub const fn to_raw(self) -> u8 {
        match self {
            Self::Denied => 0,
            Self::Allowed => 1,
        }
    }

    /// Reads an event record's byte; every value but 1 is a denial.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Self {
        if raw == 1 {
            Self::Allowed
        } else {
            Self::Denied
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $raw:literal, $text:literal;)+) => {
        /// Why a verdict came out as it did: a closed set, stable across releases.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])+ $name = $raw,)+ }

        impl Reason {
            /// Every reason, in the order of its raw byte.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The byte in an event record.
            #[must_use]
            pub const fn to_raw(self) -> u8 { self as u8 }

            /// Reads an event record's byte; an unknown one is [`Reason::Unknown`].
            #[must_use]
            pub const fn from_raw(raw: u8) -> Self {
                match raw { $($raw => Self::$name,)+ _ => Self::Unknown }
            }

            /// The name in audit records.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// A byte that this version does not know.
    Unknown = 0, "unknown";
    /// A rule lists the destination and the binary.
    Rule = 1, "rule";
    /// The sandbox's own loopback, in a network namespace of its own.
    OwnLoopback = 2, "own_loopback";
    /// No endpoint covers the address.
    AddressNotListed = 3, "address_not_listed";
    /// An endpoint covers the address, but not this protocol and port.
    PortNotListed = 4, "port_not_listed";
    /// The destination is listed, but not for this binary's hash.
    BinaryNotListed = 5, "binary_not_listed";
    /// The binary that asks has no identity (see the exec record).
    NoIdentity = 6, "no_identity";
    /// The process has no record: it was not seen to exec, or the table was full.
    NoProcessRecord = 7, "no_process_record";
    /// The socket belongs to another sandbox than the task, or the task to none.
    ForeignSocket = 8, "foreign_socket";
    /// The socket's record could not be made or read.
    NoSocketRecord = 9, "no_socket_record";
    /// A multicast destination.
    Multicast = 10, "multicast";
    /// A broadcast destination.
    Broadcast = 11, "broadcast";
    /// A link-local IPv6 destination without a scope.
    LinkLocalNoScope = 12, "link_local_without_scope";
    /// An IPv6 form with an IPv4 address inside (NAT64, 6to4, Teredo, IPv4-compatible, ISATAP).
    EmbeddedAddress = 13, "embedded_address";
    /// A socket type or protocol other than TCP, UDP and MPTCP.
    ProtocolNotSupported = 14, "protocol_not_supported";
    /// The file was executed and carries an identity.
    Identified = 15, "identified";
    /// The executable's mount is writable in the sandbox's view, so its bytes may change.
    WritableMount = 16, "no_identity_writable_mount";
    /// The file that runs is not one that was hashed before the exec.
    NotHashed = 17, "no_identity_not_hashed";
    /// The executable lies on a file system whose content the kernel does not vouch for.
    FileSystem = 18, "no_identity_file_system";
    /// The executable could not be read.
    Unreadable = 19, "no_identity_unreadable";
    /// The executable is larger than the gate hashes.
    TooLarge = 20, "no_identity_too_large";
    /// The executable changed while it was hashed.
    ChangedWhileHashed = 21, "no_identity_changed_while_hashed";
    /// The executable has no name any more.
    Unlinked = 22, "no_identity_unlinked";
    /// Hashing took longer than an exec may wait.
    Deadline = 23, "no_identity_deadline";
    /// The table of identities is full.
    TableFull = 24, "no_identity_table_full";
    /// clawd's own first process of a sandbox; it never has grants.
    SandboxInit = 25, "sandbox_init";
    /// An entry names the executable's path, but pinned another content for it.
    BinaryChanged = 26, "binary_changed";
    /// The file that the process says it executes is not the one that it was seen to execute.
    ExeFileDiffers = 27, "exe_file_differs";
    /// The executable's identity is known, but not the line of executables that led to it.
    ChainUnknown = 28, "no_identity_chain_unknown";
    /// Somebody had the executable open for writing, or opened it before the exec was over.
    LeasedWriter = 29, "no_identity_leased_writer";
    /// The executable lies on an overlay whose layers, or itself, a sandbox can write.
    OverlayWritable = 30, "no_identity_overlay_writable";
    /// The dynamic loader, which executes whatever file it is given.
    Loader = 31, "no_identity_loader";
    /// The sandbox has as many processes and threads as it may: forks were refused.
    PidsLimit = 32, "pids_limit";
    /// The sandbox has as much memory as it may: processes of it were killed.
    MemoryLimit = 33, "memory_limit";
    /// A system call that the sandbox's profile refuses, in this use.
    SyscallDenied = 34, "syscall_denied";
    /// A system call of a 32-bit or x32 table: refused, and its program killed.
    ForeignSyscall = 35, "foreign_syscall";
    /// A rule with `action: deny` lists the destination and the binary, or every binary.
    DeniedByRule = 36, "denied_by_rule";
    /// A packet of a socket that no hook has judged.
    UnjudgedSocket = 48, "unjudged_socket";
    /// A packet of a flow that was allowed before and is not any more.
    PolicyChanged = 49, "policy_changed";
    /// A packet in pieces.
    Fragment = 50, "fragment";
    /// A packet whose IP header has options or extensions, which may send it elsewhere.
    HeaderNotPlain = 51, "header_not_plain";
    /// Nothing lets this peer reach this port of the sandbox.
    IngressNotListed = 52, "ingress_not_listed";
    /// The policy's `ingress` lists the port.
    IngressRule = 53, "ingress_rule";
    /// The other side is a socket of the same sandbox.
    OwnSandbox = 54, "own_sandbox";
    /// A packet of a socket whose sandbox is not known.
    UnknownSandbox = 55, "unknown_sandbox";
}

/// The outcome of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// Allowed or denied.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The lowest bit of the binary mask that granted or denied it: the position of the `binaries` entry
    /// in the compiled policy, from 0. From [`crate::mask::GRANT_BITS`] on, the position of the entry of
    /// `network_policies` that denies everybody, after that number. [`NO_GRANT`] where none did.
    pub grant_index: u32,
}

/// [`Verdict::grant_index`] where no `binaries` entry decided.
pub const NO_GRANT: u32 = u32::MAX;

impl Verdict {
    /// A denial for `reason`.
    pub const fn deny(reason: Reason) -> Self {
        Self {
            action: Action::Denied,
            reason,
            grant_index: NO_GRANT,
        }
    }

    /// Whether the attempt may go on.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self.action, Action::Allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Reason};

    #[test]
    fn action_unknown_byte_is_a_denial() {
        for raw in (0..=u8::MAX).filter(|raw| *raw != 1) {
            assert_eq!(Action::from_raw(raw), Action::Denied);
        }
    }

    #[test]
    fn reason_every_byte_round_trips_or_is_unknown() {
        for raw in 0..=u8::MAX {
            let reason = Reason::from_raw(raw);
            assert!(reason == Reason::Unknown || reason.to_raw() == raw);
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_raw(reason.to_raw()), *reason);
        }
    }
}
