//! The compiled rules as the decision function reads them: look-ups in the pinned maps.

use aya_ebpf::maps::lpm_trie::Key;
use clawd_common::{
    addr::FAMILY_V4,
    decide::{AddressKey, MaskKey, MaskValue, PortKey, RuleKey, RuleValue, Tables},
};

use crate::maps::{ADDRESS, MASK, PORT, RULE};

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
    fn port_class(&self, key: &PortKey) -> u32 {
        match PORT.get(Key::new(PortKey::FIXED_BITS + PortKey::PORT_BITS, *key)) {
            Some(class) => *class,
            None => 0,
        }
    }

    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<&RuleValue> {
        Self::find_rule(key)
    }

    #[inline(always)]
    fn mask(&self, key: &MaskKey) -> Option<&MaskValue> {
        Self::find_mask(key)
    }
}

impl KernelTables {
    /// [`Tables::rule`]; the entry lives for the run of the program.
    #[inline(always)]
    pub fn find_rule(key: &RuleKey) -> Option<&'static RuleValue> {
        // SAFETY: entries of a policy are never changed in place, only added before and removed
        // after it is in force.
        unsafe { RULE.get(key) }
    }

    /// [`Tables::mask`], likewise.
    #[inline(always)]
    pub fn find_mask(key: &MaskKey) -> Option<&'static MaskValue> {
        // SAFETY: as for `RULE`.
        unsafe { MASK.get(key) }
    }
}
