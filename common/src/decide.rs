//! The decision on one destination.
//!
//! Three look-ups, whatever the number of rules: the address gives an address class, the class with
//! protocol and port gives the mask of `binaries` entries that may go there, the binary's identity
//! gives the mask of entries that it matches. Where the masks share a bit, the attempt is allowed.
//! Everything else is denied: each missing answer has its own reason, and none of them allows.

use crate::{
    abi::assert_layout,
    addr::{Addr, AddrKind},
    record::SANDBOX_OWN_LOOPBACK,
    verdict::{Action, NO_GRANT, Reason, Verdict},
};

/// `binaries` entries of one policy, as bits: at most 256.
pub const GRANT_BITS: usize = 256;
/// Words of a [`GrantMask`].
pub const GRANT_WORDS: usize = GRANT_BITS / 64;

/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u16 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u16 = 17;

/// A set of `binaries` entries of one policy; bit `i` of word `i / 64` is entry `i`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantMask {
    /// Least significant bits first.
    pub words: [u64; GRANT_WORDS],
}
impl GrantMask {
    /// The empty set.
    pub const ZERO: Self = Self {
        words: [0; GRANT_WORDS],
    };

    /// Adds entry `index`; one past [`GRANT_BITS`] is not in any set and changes nothing.
    pub const fn insert(&mut self, index: usize) {
        if index < GRANT_BITS {
            self.words[index / 64] |= 1 << (index % 64);
        }
    }

    /// Adds every entry of `other`.
    pub const fn union(&mut self, other: &Self) {
        let mut i = 0;
        while i < GRANT_WORDS {
            self.words[i] |= other.words[i];
            i += 1;
        }
    }

    /// Whether no entry is in the set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words[0] | self.words[1] | self.words[2] | self.words[3] == 0
    }

    /// The lowest entry in both sets, or [`NO_GRANT`].
    #[must_use]
    #[inline(always)]
    pub const fn first_common(&self, other: &Self) -> u32 {
        let mut i = 0;
        let mut base = 0;
        while i < GRANT_WORDS {
            let both = self.words[i] & other.words[i];
            if both != 0 {
                return base + lowest_bit(both);
            }
            i += 1;
            base += u64::BITS;
        }
        NO_GRANT
    }
}
assert_layout!(GrantMask, size 32, align 8, { words @ 0 });

/// Position of the lowest bit of a word that is not zero.
///
/// By halving: eBPF has no instruction for `trailing_zeros`, and LLVM's table for it needs a
/// relocation into a section that the loader would have to carry.
#[inline(always)]
const fn lowest_bit(word: u64) -> u32 {
    let mut word = word;
    let mut at = 0;
    if word & 0xffff_ffff == 0 {
        word >>= 32;
        at += 32;
    }
    if word & 0xffff == 0 {
        word >>= 16;
        at += 16;
    }
    if word & 0xff == 0 {
        word >>= 8;
        at += 8;
    }
    if word & 0xf == 0 {
        word >>= 4;
        at += 4;
    }
    if word & 3 == 0 {
        word >>= 2;
        at += 2;
    }
    if word & 1 == 0 {
        at += 1;
    }
    at
}

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

/// Key of map `RULE`; value: [`GrantMask`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleKey {
    /// The policy.
    pub policy_id: u32,
    /// From map `ADDRESS`.
    pub address_class: u32,
    /// Destination port.
    pub port: u16,
    /// [`PROTOCOL_TCP`] or [`PROTOCOL_UDP`].
    pub protocol: u16,
}
impl RuleKey {
    /// No rule.
    pub const ZERO: Self = Self {
        policy_id: 0,
        address_class: 0,
        port: 0,
        protocol: 0,
    };
}
assert_layout!(RuleKey, size 12, align 4, { policy_id @ 0, address_class @ 4, port @ 8, protocol @ 10 });

/// Key of map `MASK`; value: [`GrantMask`], the entries that the file's hash matches.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MaskKey {
    /// The policy.
    pub policy_id: u32,
    /// The identity, from 1.
    pub file_id: u32,
}
impl MaskKey {
    /// No policy, no identity.
    pub const ZERO: Self = Self {
        policy_id: 0,
        file_id: 0,
    };
}
assert_layout!(MaskKey, size 8, align 4, { policy_id @ 0, file_id @ 4 });

/// One attempt to reach a destination, from a process that has a record.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The policy in force for the sandbox.
    pub policy_id: u32,
    /// [`crate::record::SandboxValue::flags`].
    pub sandbox_flags: u32,
    /// The identity of the binary that asks, 0 for none.
    pub file_id: u32,
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
    /// The entries that may reach the class on this protocol and port.
    fn rule(&self, key: &RuleKey) -> Option<&GrantMask>;
    /// The entries that the identity matches.
    fn mask(&self, key: &MaskKey) -> Option<&GrantMask>;
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
    let key = RuleKey {
        policy_id,
        address_class,
        port: query.port,
        protocol: query.protocol,
    };
    let Some(rule) = tables.rule(&key) else {
        return Verdict::deny(Reason::PortNotListed);
    };
    if query.file_id == 0 {
        return Verdict::deny(Reason::NoIdentity);
    }
    let Some(own) = tables.mask(&MaskKey {
        policy_id,
        file_id: query.file_id,
    }) else {
        return Verdict::deny(Reason::BinaryNotListed);
    };
    let grant_index = rule.first_common(own);
    if grant_index == NO_GRANT {
        return Verdict::deny(Reason::BinaryNotListed);
    }
    Verdict {
        action: Action::Allowed,
        reason: Reason::Rule,
        grant_index,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{GRANT_BITS, GrantMask, lowest_bit};
    use crate::verdict::NO_GRANT;

    proptest! {
        #[test]
        fn lowest_bit_agrees_with_std(word in 1..=u64::MAX, shift in 0..64_u32) {
            let word = (word << shift).max(1);
            prop_assert_eq!(lowest_bit(word), word.trailing_zeros());
        }

        #[test]
        fn first_common_is_the_least_shared_member(
            a in proptest::collection::btree_set(0..GRANT_BITS, 0..20),
            b in proptest::collection::btree_set(0..GRANT_BITS, 0..20),
        ) {
            let mask = |set: &std::collections::BTreeSet<usize>| {
                let mut mask = GrantMask::ZERO;
                set.iter().for_each(|i| mask.insert(*i));
                mask
            };
            let want = a.intersection(&b).next().map_or(NO_GRANT, |i| u32::try_from(*i).expect("small"));
            prop_assert_eq!(mask(&a).first_common(&mask(&b)), want);
        }
    }

    #[test]
    fn grant_mask_index_out_of_range_is_ignored() {
        let mut mask = GrantMask::ZERO;
        mask.insert(GRANT_BITS);
        assert!(mask.is_empty());
    }
}
