//! The compiled rules as the decision function reads them: look-ups in the pinned maps.

use aya_ebpf::maps::lpm_trie::Key;
use clawd_common::{
    addr::FAMILY_V4,
    decide::{AddressKey, GrantMask, MaskKey, RuleKey, Tables},
};

use crate::maps::{ADDRESS, MASK, RULE};

/// The kernel's tables.
pub struct KernelTables;

impl Tables for KernelTables {
    #[inline(always)]
    fn address_class(&self, key: &AddressKey) -> u32 {
        let bits = if key.addr.family == FAMILY_V4 {
            32
        } else {
            128
        };
        match ADDRESS.get(Key::new(AddressKey::FIXED_BITS + bits, *key)) {
            Some(class) => *class,
            None => 0,
        }
    }

    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<&GrantMask> {
        // SAFETY: entries of a policy are never changed in place, only added before and removed
        // after it is in force.
        unsafe { RULE.get(key) }
    }

    #[inline(always)]
    fn mask(&self, key: &MaskKey) -> Option<&GrantMask> {
        // SAFETY: as for `RULE`.
        unsafe { MASK.get(key) }
    }
}
