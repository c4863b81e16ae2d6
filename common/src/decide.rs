//! The decision on one destination.
//!
//! Three look-ups for the destination, whatever the number of rules: the address gives an address
//! class, protocol and port give a port class, and both classes give the masks of `binaries` entries
//! that may go there and that may not. The binary's identity gives the mask of entries that it
//! matches. Where it shares a bit with what denies, the attempt is denied; else, where it shares one
//! with what allows, it is allowed. Everything else is denied: each missing answer has its own reason,
//! and none of them allows.

pub use crate::mask::{GRANT_BITS, GRANT_WORDS, GrantMask};
use crate::{
    abi::assert_layout,
    addr::{Addr, AddrKind},
    record::SANDBOX_OWN_LOOPBACK,
    verdict::{Action, NO_GRANT, Reason, Verdict},
};

/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u16 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u16 = 17;
/// Added to the protocol in a [`PortKey`] whose port is the sandbox's own: peers may reach it. No IP
/// protocol has a number that large.
pub const INGRESS: u16 = 0x8000;

/// Data of the longest-prefix-match key of map `ADDRESS`; value: address class (u32, from 1).
///
/// `prefix_len` of the trie counts the bits of `policy_id` and `family` too: 64 + the prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressKey {
    /// The policy.
    pub policy_id: u32,
    /// The prefix.
    pub addr: Addr,
}
impl AddressKey {
    /// No policy, no address.
    pub const ZERO: Self = Self {
        policy_id: 0,
        addr: Addr::ZERO,
    };
    /// Bits before the address itself.
    pub const FIXED_BITS: u32 = 64;
}
assert_layout!(AddressKey, size 24, align 4, { policy_id @ 0, addr @ 4 });

/// Data of the longest-prefix-match key of map `PORT`; value: port class (u32, from 1).
///
/// `prefix_len` of the trie counts the bits of `policy_id` and `protocol` too: 48 + the prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// The policy.
    pub policy_id: u32,
    /// [`PROTOCOL_TCP`] or [`PROTOCOL_UDP`], with [`INGRESS`] or without.
    pub protocol: u16,
    /// The prefix, most significant octet first.
    pub port_be: [u8; 2],
}
impl PortKey {
    /// No policy, no port.
    pub const ZERO: Self = Self {
        policy_id: 0,
        protocol: 0,
        port_be: [0; 2],
    };
    /// Bits before the port itself.
    pub const FIXED_BITS: u32 = 48;
    /// Bits of the port.
    pub const PORT_BITS: u32 = 16;
}
assert_layout!(PortKey, size 8, align 4, { policy_id @ 0, protocol @ 4, port_be @ 6 });

/// Key of map `RULE`; value: [`RuleValue`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleKey {
    /// The policy.
    pub policy_id: u32,
    /// From map `ADDRESS`.
    pub address_class: u32,
    /// From map `PORT`.
    pub port_class: u32,
}
impl RuleKey {
    /// No rule.
    pub const ZERO: Self = Self {
        policy_id: 0,
        address_class: 0,
        port_class: 0,
    };
}
assert_layout!(RuleKey, size 12, align 4, { policy_id @ 0, address_class @ 4, port_class @ 8 });

/// Who may and who may not use destinations of one address class and one port class.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleValue {
    /// Entries that may.
    pub allow: GrantMask,
    /// Entries that may not, whatever else allows it.
    pub deny: GrantMask,
    /// The [`Verdict::grant_index`] of the rule for which nobody may, [`NO_GRANT`] where there is none.
    pub deny_all: u32,
    /// Zero.
    pub reserved: u32,
}
impl RuleValue {
    /// Nothing said: a destination that is listed, for nobody.
    pub const LISTED: Self = Self {
        deny_all: NO_GRANT,
        ..Self::ZERO
    };
    /// All bytes zero: nobody may.
    pub const ZERO: Self = Self {
        allow: GrantMask::ZERO,
        deny: GrantMask::ZERO,
        deny_all: 0,
        reserved: 0,
    };
}
assert_layout!(RuleValue, size 72, align 8, {
    allow @ 0, deny @ 32, deny_all @ 64, reserved @ 68
});

/// Key of map `MASK`; value: [`MaskValue`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MaskKey {
    /// The policy.
    pub policy_id: u32,
    /// The line of executables, from 1.
    pub chain: u32,
}
impl MaskKey {
    /// No policy, no chain.
    pub const ZERO: Self = Self {
        policy_id: 0,
        chain: 0,
    };
}
assert_layout!(MaskKey, size 8, align 4, { policy_id @ 0, chain @ 4 });

/// What a line of executables is granted under one policy.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskValue {
    /// Entries that the running executable matches.
    pub own: GrantMask,
    /// Entries for descendants too that one of its ancestors matches.
    pub lineage: GrantMask,
    /// Entries that name the running executable's path and did not pin its content: they grant
    /// nothing, and tell why. Where they deny, they deny it all the same.
    pub changed: GrantMask,
}
impl MaskValue {
    /// Nothing.
    pub const ZERO: Self = Self {
        own: GrantMask::ZERO,
        lineage: GrantMask::ZERO,
        changed: GrantMask::ZERO,
    };

    /// Entries that mean the line in whatever way.
    #[must_use]
    #[inline(always)]
    pub const fn any(&self) -> GrantMask {
        let mut any = self.own;
        any.union(&self.lineage);
        any.union(&self.changed);
        any
    }

    /// Whether the value says nothing that its absence would not say.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.own.is_empty() && self.lineage.is_empty() && self.changed.is_empty()
    }
}
assert_layout!(MaskValue, size 96, align 8, { own @ 0, lineage @ 32, changed @ 64 });

/// One attempt to reach a destination, from a process that has a record.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The policy in force for the sandbox.
    pub policy_id: u32,
    /// [`crate::record::SandboxValue::flags`].
    pub sandbox_flags: u32,
    /// The line of executables of the process that asks, 0 for none.
    pub chain: u32,
    /// `sin6_scope_id` of the request, 0 for none.
    pub scope_id: u32,
    /// The destination.
    pub addr: Addr,
    /// The destination's port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u16,
}

/// The compiled rules: maps in the kernel, ordinary collections in tests and `explain`.
pub trait Tables {
    /// The class of the longest prefix of `key.policy_id` that covers `key.addr`, 0 for none.
    fn address_class(&self, key: &AddressKey) -> u32;
    /// The class of the longest prefix of the key's policy and protocol that covers the port, 0 for
    /// none.
    fn port_class(&self, key: &PortKey) -> u32;
    /// Who may and who may not use destinations of both classes.
    fn rule(&self, key: &RuleKey) -> Option<&RuleValue>;
    /// The entries that the line of executables matches.
    fn mask(&self, key: &MaskKey) -> Option<&MaskValue>;
}

/// Decides one attempt. Pure; denies whatever no rule allows.
#[inline(always)]
pub fn decide<T: Tables>(tables: &T, query: &Query) -> Verdict {
    if query.protocol != PROTOCOL_TCP && query.protocol != PROTOCOL_UDP {
        return Verdict::deny(Reason::ProtocolNotSupported);
    }
    match query.addr.kind(query.scope_id) {
        AddrKind::Refused(reason) => return Verdict::deny(reason),
        AddrKind::Loopback if query.sandbox_flags & SANDBOX_OWN_LOOPBACK != 0 => {
            return Verdict {
                action: Action::Allowed,
                reason: Reason::OwnLoopback,
                grant_index: NO_GRANT,
            };
        }
        AddrKind::Loopback | AddrKind::Ordinary => {}
    }
    let policy_id = query.policy_id;
    let address_class = tables.address_class(&AddressKey {
        policy_id,
        addr: query.addr,
    });
    if address_class == 0 {
        return Verdict::deny(Reason::AddressNotListed);
    }
    let service = (query.protocol, query.port);
    let Some(rule) = rule(tables, (policy_id, address_class), service) else {
        return Verdict::deny(Reason::PortNotListed);
    };
    if rule.deny_all != NO_GRANT {
        return denied_by(rule.deny_all);
    }
    if query.chain == 0 {
        return Verdict::deny(Reason::NoIdentity);
    }
    let Some(mask) = tables.mask(&MaskKey {
        policy_id,
        chain: query.chain,
    }) else {
        return Verdict::deny(Reason::BinaryNotListed);
    };
    by_mask(rule, mask)
}

/// What is said of an address class and a port of a protocol.
#[inline(always)]
pub fn rule<T: Tables>(
    tables: &T,
    (policy_id, address_class): (u32, u32),
    (protocol, port): (u16, u16),
) -> Option<&RuleValue> {
    let port_class = tables.port_class(&PortKey {
        policy_id,
        protocol,
        port_be: port.to_be_bytes(),
    });
    if port_class == 0 {
        return None;
    }
    tables.rule(&RuleKey {
        policy_id,
        address_class,
        port_class,
    })
}

/// A denial by a rule that says so.
#[inline(always)]
const fn denied_by(grant_index: u32) -> Verdict {
    Verdict {
        grant_index,
        ..Verdict::deny(Reason::DeniedByRule)
    }
}

/// Whether one of the destination's entries denies it to the line of executables, or else grants it.
#[inline(always)]
fn by_mask(rule: &RuleValue, mask: &MaskValue) -> Verdict {
    let any = mask.any();
    // What no entry denies, which is usual, is told from the rest by one branch.
    if rule.deny.meets(&any) {
        return denied_by(rule.deny.first_common(&any));
    }
    let mut grant_index = rule.allow.first_common(&mask.own);
    if grant_index == NO_GRANT {
        grant_index = rule.allow.first_common(&mask.lineage);
    }
    if grant_index != NO_GRANT {
        return Verdict {
            action: Action::Allowed,
            reason: Reason::Rule,
            grant_index,
        };
    }
    match rule.allow.first_common(&mask.changed) {
        NO_GRANT => Verdict::deny(Reason::BinaryNotListed),
        grant_index => Verdict {
            grant_index,
            ..Verdict::deny(Reason::BinaryChanged)
        },
    }
}
