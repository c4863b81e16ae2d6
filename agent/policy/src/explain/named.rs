//! The decision about a name: what entries say of it, in the form that the decision takes.

use clawd_common::{
    addr::{Addr, FAMILY_V4},
    decide::{AddressKey, MaskKey, MaskValue, PortKey, RuleKey, RuleValue, Tables},
};

use super::{listed::listed, question::Question};
use crate::{
    compile::{Sources, merge},
    model::Policy,
};

/// Tables in which there is one destination: the name that is asked about.
pub(super) struct NameTables {
    is_listed: bool,
    rule: Option<RuleValue>,
    mask: MaskValue,
}

/// The class of the name, and of the port, where there is one.
const CLASS: u32 = 1;

impl NameTables {
    /// Stands for the address in a query: an ordinary one, so that the rules alone decide.
    pub(super) const STAND_IN: Addr = Addr {
        family: FAMILY_V4,
        octets: [192, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// What the entries say of the question's name; `sources` are those of the policy.
    pub(super) fn new(
        policy: &Policy,
        sources: &Sources,
        question: &Question,
        mask: MaskValue,
    ) -> Self {
        let mut tables = Self {
            is_listed: false,
            rule: None,
            mask,
        };
        for (group, source) in policy.rules.iter().zip(sources) {
            let mut covers = false;
            for listed in listed(group, None, question) {
                covers |= listed.covers(question);
                // What denies all addresses at one port says nothing of the name at another.
                tables.is_listed |= covers || (listed.has_host && listed.is_name);
            }
            if covers {
                merge(tables.rule.get_or_insert(RuleValue::LISTED), source);
            }
        }
        tables
    }
}

impl Tables for NameTables {
    fn address_class(&self, _key: &AddressKey) -> u32 {
        if self.is_listed { CLASS } else { 0 }
    }

    fn port_class(&self, _key: &PortKey) -> u32 {
        if self.rule.is_some() { CLASS } else { 0 }
    }

    fn rule(&self, _key: &RuleKey) -> Option<&RuleValue> {
        self.rule.as_ref()
    }

    fn mask(&self, _key: &MaskKey) -> Option<&MaskValue> {
        Some(&self.mask)
    }
}
