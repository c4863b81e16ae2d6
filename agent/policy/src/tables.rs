//! A compiled policy as tables in memory, for tests and for explaining a decision.

use std::collections::BTreeMap;

use clawd_common::decide::{AddressKey, GrantMask, MaskKey, RuleKey, Tables};

use crate::compile::MapImage;

/// What the kernel's maps would answer with a [`MapImage`] in them.
#[derive(Clone, Copy, Debug)]
pub struct ImageTables<'a> {
    image: &'a MapImage,
    masks: &'a BTreeMap<u32, GrantMask>,
}

impl MapImage {
    /// The tables for [`clawd_common::decide::decide`]. `masks` has, by `file_id`, the grants that
    /// each binary matches: map `MASK` of this policy.
    #[must_use]
    pub const fn lookup<'a>(&'a self, masks: &'a BTreeMap<u32, GrantMask>) -> ImageTables<'a> {
        ImageTables { image: self, masks }
    }
}

impl Tables for ImageTables<'_> {
    fn address_class(&self, key: &AddressKey) -> u32 {
        self.image
            .addresses
            .iter()
            .filter(|(bits, prefix, _)| {
                prefix.policy_id == key.policy_id && prefix.addr.covers(*bits, &key.addr)
            })
            .max_by_key(|(bits, ..)| *bits)
            .map_or(0, |(.., class)| *class)
    }

    fn rule(&self, key: &RuleKey) -> Option<&GrantMask> {
        let rules = &self.image.rules;
        let index = rules.binary_search_by_key(key, |(key, _)| *key).ok()?;
        rules.get(index).map(|(_, mask)| mask)
    }

    fn mask(&self, key: &MaskKey) -> Option<&GrantMask> {
        (key.policy_id == self.image.policy_id)
            .then(|| self.masks.get(&key.file_id))
            .flatten()
    }
}
