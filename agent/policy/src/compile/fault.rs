//! Why a policy does not fit, and which of its rules to look at.

use std::{collections::BTreeMap, fmt};

use clawd_common::decide::GRANT_BITS;

use crate::{
    limits::{MAX_ADDRESS_CLASSES, MAX_COMPILE_STEPS, MAX_PORT_PREFIXES, MAX_RULES},
    model::Policy,
};

/// Rules that a message names.
const NAMED_MAX: usize = 3;

/// The entries of a policy that need most of what there is too little of, most first.
///
/// Displays as `network_policies.web (line 12) and network_policies.git (line 30)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtFault(Vec<(String, u32)>);

/// Why a policy does not fit into the maps. Nothing was made of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The id 0 stands for no policy.
    #[error("policy id 0 is not an id; ids start at 1")]
    PolicyId,
    /// More entries of `network_policies` than have numbers.
    #[error("`network_policies` has {found} entries; merge those that say the same")]
    Groups {
        /// How many it has.
        found: usize,
    },
    /// Too many `binaries` entries.
    #[error(
        "the policy has {found} `binaries` entries, the limit is {GRANT_BITS}; \
         merge entries that list the same binaries"
    )]
    Binaries {
        /// How many it has.
        found: usize,
    },
    /// Too many address classes.
    #[error(
        "the policy tells more than {MAX_ADDRESS_CLASSES} kinds of addresses apart, most of them for \
         {at_fault}; give more addresses the same ports and binaries, or list wider prefixes"
    )]
    AddressClasses {
        /// The entries with most addresses.
        at_fault: AtFault,
    },
    /// Too many prefixes of port numbers.
    #[error(
        "the policy cuts the ports into more than {MAX_PORT_PREFIXES} pieces, most of them for \
         {at_fault}; list fewer ranges of ports, or ranges that begin and end alike"
    )]
    Ports {
        /// The entries with most ranges.
        at_fault: AtFault,
    },
    /// Too many pairs of an address class and a port class.
    #[error(
        "the policy needs more than {MAX_RULES} rules (kinds of addresses times kinds of ports), most \
         of them for {at_fault}; give fewer addresses ports of their own inside prefixes with many \
         ports, or list wider prefixes"
    )]
    Rules {
        /// The entries with most rules.
        at_fault: AtFault,
    },
    /// Too much work.
    #[error(
        "the policy takes more than {MAX_COMPILE_STEPS} steps to compile, most of them for {at_fault}; \
         list fewer ranges of ports inside each other, or wider prefixes"
    )]
    Steps {
        /// The entries with most steps.
        at_fault: AtFault,
    },
}

/// How much each entry of a policy needs, by its position in [`super::Sources`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    by_source: BTreeMap<usize, usize>,
    total: usize,
}

impl Tally {
    /// Counts `more` for an entry.
    pub(super) fn add(&mut self, source: usize, more: usize) {
        *self.by_source.entry(source).or_default() += more;
        self.total += more;
    }

    /// How much all need.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// Those that need most.
    pub(super) fn at_fault(&self, policy: &Policy) -> AtFault {
        let mut by_need: Vec<_> = self.by_source.iter().collect();
        by_need.sort_by_key(|(source, count)| (std::cmp::Reverse(**count), **source));
        let named = by_need.into_iter().take(NAMED_MAX);
        let name = |(source, _): (&usize, &usize)| match policy.rules.get(*source) {
            Some(group) => (format!("network_policies.{}", group.name), group.line),
            None => ("ingress".to_owned(), 0),
        };
        AtFault(named.map(name).collect())
    }
}

impl fmt::Display for AtFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, line)) in self.0.iter().enumerate() {
            match i {
                0 => {}
                _ if i + 1 == self.0.len() => write!(f, " and ")?,
                _ => write!(f, ", ")?,
            }
            write!(f, "{name}")?;
            if *line > 0 {
                write!(f, " (line {line})")?;
            }
        }
        Ok(())
    }
}
