//! From a checked policy to the contents of the maps that decide about destinations.
//!
//! The kernel's tries answer with the longest prefix alone. So what shorter prefixes of addresses say
//! is pushed down: each prefix of the policy carries the union of its own endpoints and of all those
//! around it. Prefixes for which that union is the same share one address class. Ports are cut where
//! the policy tells one from the next; what it never tells apart is one port class. For each pair of
//! classes of which the policy says anything, the rule has what all of it comes to.

mod addresses;
mod fault;
mod services;

use clawd_common::decide::{AddressKey, GRANT_BITS, GrantMask, PortKey, RuleKey, RuleValue};

pub use self::fault::{AtFault, CompileError};
use self::{addresses::Classes, services::Services};
use crate::model::{Policy, RuleAction};

/// The contents of the maps `ADDRESS`, `PORT` and `RULE` for one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapImage {
    /// In every key.
    pub policy_id: u32,
    /// Map `ADDRESS`: bits of the address's prefix (without [`AddressKey::FIXED_BITS`]), key, and
    /// address class, from 1. Ascending by address, then by bits.
    pub addresses: Vec<(u32, AddressKey, u32)>,
    /// Map `PORT`: bits of the port's prefix (without [`PortKey::FIXED_BITS`]), key, and port class, from
    /// 1. No prefix is in another; ascending by protocol, then by port.
    pub ports: Vec<(u32, PortKey, u32)>,
    /// Map `RULE`, ascending by key.
    pub rules: Vec<(RuleKey, RuleValue)>,
}

/// Lowers a policy to the contents of the maps. `policy_id` goes into every key, from 1.
///
/// The rules depend on the policy alone: the same policy gives the same bytes.
///
/// # Errors
/// [`CompileError`] where the policy is larger than the maps allow for; nothing was made of it.
pub fn compile(policy: &Policy, policy_id: u32) -> Result<MapImage, CompileError> {
    if policy_id == 0 {
        return Err(CompileError::PolicyId);
    }
    let sources = sources(policy)?;
    let (addresses, classes) = Classes::of(policy, &sources)?;
    let services = Services::of(&classes, policy)?;
    Ok(MapImage {
        policy_id,
        addresses: addresses
            .into_iter()
            .map(|(prefix, class)| {
                let addr = prefix.addr();
                (prefix.bits(), AddressKey { policy_id, addr }, class)
            })
            .collect(),
        ports: services.prefixes(policy_id, policy)?,
        rules: services.rules(policy_id, (&classes, &sources), policy)?,
    })
}

/// What the entries of `network_policies` do with what they list, by position; last, what `ingress`
/// does: the entry alone allows, whoever listens is not asked for.
pub(crate) type Sources = Vec<RuleValue>;

pub(crate) fn sources(policy: &Policy) -> Result<Sources, CompileError> {
    let mut sources = Sources::new();
    let mut next_bit = 0;
    for (at, group) in policy.rules.iter().enumerate() {
        let mut entries = GrantMask::ZERO;
        for _ in &group.binaries {
            entries.insert(next_bit);
            next_bit += 1;
        }
        let mut source = RuleValue::LISTED;
        match group.action {
            RuleAction::Allow => source.allow = entries,
            RuleAction::Deny => source.deny = entries,
        }
        if group.denies_everybody() {
            source.deny_all = u32::try_from(GRANT_BITS + at)
                .ok()
                .ok_or(CompileError::Groups {
                    found: policy.rules.len(),
                })?;
        }
        sources.push(source);
    }
    if next_bit > GRANT_BITS {
        return Err(CompileError::Binaries { found: next_bit });
    }
    sources.push(RuleValue::LISTED);
    Ok(sources)
}

/// Adds what `more` says of the same destinations.
pub(crate) fn merge(into: &mut RuleValue, more: &RuleValue) {
    into.allow.union(&more.allow);
    into.deny.union(&more.deny);
    // `NO_GRANT` is the greatest number; of several groups the first is named.
    into.deny_all = into.deny_all.min(more.deny_all);
}
