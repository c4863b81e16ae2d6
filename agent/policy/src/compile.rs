//! From a checked policy to the contents of the maps that decide about destinations.
//!
//! The kernel's trie answers with the longest prefix alone, so what shorter prefixes allow is
//! pushed down: each prefix of the policy carries the union of its own endpoints and of all those
//! around it. Prefixes for which that union is the same share one address class.

use std::collections::{BTreeMap, HashMap};

use clawd_common::decide::{AddressKey, GRANT_BITS, GrantMask, RuleKey};

use crate::{
    limits::{MAX_ADDRESS_CLASSES, MAX_RULES},
    model::{Endpoint, Policy},
    prefix::Prefix,
};

/// The contents of the maps `ADDRESS` and `RULE` for one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapImage {
    /// In every key.
    pub policy_id: u32,
    /// Map `ADDRESS`: bits of the address's prefix (without [`AddressKey::FIXED_BITS`]), key, and
    /// address class, from 1.
    pub addresses: Vec<(u32, AddressKey, u32)>,
    /// Map `RULE`, ascending by key.
    pub rules: Vec<(RuleKey, GrantMask)>,
}

/// Why a policy does not fit into the maps. Nothing was made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The id 0 stands for no policy.
    #[error("policy id 0 is not an id; ids start at 1")]
    PolicyId,
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
        "the policy needs more than {MAX_ADDRESS_CLASSES} address classes; \
         give more addresses the same ports and binaries, or list wider prefixes"
    )]
    AddressClasses,
    /// Too many rules.
    #[error(
        "the policy needs more than {MAX_RULES} rules (address class, protocol, port); \
         list fewer ports, or wider prefixes"
    )]
    Rules,
}

/// Protocol and port.
type Service = (u16, u16);
/// The words of a [`GrantMask`]: they have the order and hash that it lacks.
type Words = [u64; GrantMask::ZERO.words.len()];
/// What a class allows.
type Allowed = BTreeMap<Service, Words>;

/// Lowers a policy to the contents of the maps. `policy_id` goes into every key, from 1.
///
/// The rules depend on the policy alone: the same policy gives the same bytes.
///
/// # Errors
/// [`CompileError`] where the policy is larger than the maps allow for.
pub fn compile(policy: &Policy, policy_id: u32) -> Result<MapImage, CompileError> {
    if policy_id == 0 {
        return Err(CompileError::PolicyId);
    }
    let mut classes = Classes::default();
    let mut addresses = Vec::new();
    // The prefixes around the present one, widest first, with their classes.
    let mut around: Vec<(Prefix, u32)> = Vec::new();
    for (prefix, endpoints) in by_prefix(policy)? {
        while around
            .last()
            .is_some_and(|(outer, _)| !outer.contains(&prefix))
        {
            around.pop();
        }
        let parent = around.last().map_or(Classes::NOTHING, |(_, class)| *class);
        let class = classes.extend(parent, &endpoints)?;
        around.push((prefix, class));
        if class != Classes::NOTHING {
            let addr = prefix.addr();
            addresses.push((prefix.bits(), AddressKey { policy_id, addr }, class));
        }
    }
    Ok(MapImage {
        policy_id,
        addresses,
        rules: classes.into_rules(policy_id),
    })
}

/// The endpoints of each distinct prefix, each with its group's grants; wider prefixes first.
type ByPrefix<'a> = BTreeMap<Prefix, Vec<(&'a Endpoint, GrantMask)>>;

fn by_prefix(policy: &Policy) -> Result<ByPrefix<'_>, CompileError> {
    let mut by_prefix = ByPrefix::new();
    let mut next_bit = 0;
    for group in &policy.rules {
        let mut grants = GrantMask::ZERO;
        for _ in &group.binaries {
            grants.insert(next_bit);
            next_bit += 1;
        }
        for endpoint in &group.endpoints {
            let endpoints = by_prefix.entry(endpoint.prefix).or_default();
            endpoints.push((endpoint, grants));
        }
    }
    if next_bit > GRANT_BITS {
        return Err(CompileError::Binaries { found: next_bit });
    }
    Ok(by_prefix)
}

// === Classes ===

/// The distinct sets of what addresses allow, numbered from 1.
#[derive(Default)]
struct Classes {
    /// By class number less 1.
    allowed: Vec<Allowed>,
    by_allowed: HashMap<Allowed, u32>,
    /// What a class becomes by an addition, so that it is computed once for a thousand siblings.
    extended: HashMap<(u32, Allowed), u32>,
    rule_count: usize,
}

impl Classes {
    /// The class of addresses that are not listed.
    const NOTHING: u32 = 0;

    /// The class that allows what `parent` and `endpoints` allow.
    fn extend(
        &mut self,
        parent: u32,
        endpoints: &[(&Endpoint, GrantMask)],
    ) -> Result<u32, CompileError> {
        let nothing = Allowed::new();
        let base = self.get(parent).unwrap_or(&nothing);
        // Only what changes, as it becomes: equal changes of one parent have equal results.
        let mut changes = Allowed::new();
        for (endpoint, grants) in endpoints {
            let protocol = endpoint.protocol.number();
            for port in &endpoint.ports {
                let service = (protocol, *port);
                let before = changes.get(&service).or_else(|| base.get(&service));
                let mut mask = before.map_or(GrantMask::ZERO, |words| GrantMask { words: *words });
                mask.union(grants);
                // A service without grants is an entry too: the denial then names the binary.
                if before != Some(&mask.words) {
                    changes.insert(service, mask.words);
                }
            }
        }
        if changes.is_empty() {
            return Ok(parent);
        }
        let extension = (parent, changes);
        if let Some(class) = self.extended.get(&extension) {
            return Ok(*class);
        }
        let mut allowed = base.clone();
        allowed.extend(&extension.1);
        let class = self.intern(allowed)?;
        self.extended.insert(extension, class);
        Ok(class)
    }

    fn get(&self, class: u32) -> Option<&Allowed> {
        let index = usize::try_from(class.checked_sub(1)?).ok()?;
        self.allowed.get(index)
    }

    fn intern(&mut self, allowed: Allowed) -> Result<u32, CompileError> {
        if let Some(class) = self.by_allowed.get(&allowed) {
            return Ok(*class);
        }
        self.rule_count += allowed.len();
        if self.rule_count > MAX_RULES {
            return Err(CompileError::Rules);
        }
        if self.allowed.len() >= MAX_ADDRESS_CLASSES {
            return Err(CompileError::AddressClasses);
        }
        self.allowed.push(allowed.clone());
        let class = u32::try_from(self.allowed.len())
            .ok()
            .ok_or(CompileError::AddressClasses)?;
        self.by_allowed.insert(allowed, class);
        Ok(class)
    }

    fn into_rules(self, policy_id: u32) -> Vec<(RuleKey, GrantMask)> {
        let mut rules = Vec::with_capacity(self.rule_count);
        for (address_class, allowed) in (1..).zip(self.allowed) {
            rules.extend(allowed.into_iter().map(|((protocol, port), words)| {
                let key = RuleKey {
                    policy_id,
                    address_class,
                    port,
                    protocol,
                };
                (key, GrantMask { words })
            }));
        }
        rules.sort_by_key(|(key, _)| *key);
        rules
    }
}
