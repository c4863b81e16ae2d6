//! Address classes: the distinct sets of what a policy says of an address.

use std::collections::{BTreeMap, HashMap};

use clawd_common::{decide::INGRESS, verdict::NO_GRANT};

use super::{
    Sources,
    fault::{CompileError, Tally},
};
use crate::{
    limits::{MAX_ADDRESS_CLASSES, MAX_COMPILE_STEPS},
    model::{Endpoint, Policy},
    ports::PortSet,
    prefix::Prefix,
};

/// What is said of an address: the ports of each protocol (with [`INGRESS`] where they are the sandbox's
/// own) and source, which is a position in [`Sources`]. The order is that of protocols first.
pub(super) type Terms = BTreeMap<(u16, usize), PortSet>;

/// The distinct terms, numbered from 1.
pub(super) struct Classes<'a> {
    sources: &'a Sources,
    /// By class number less 1.
    terms: Vec<Terms>,
    by_terms: HashMap<Terms, u32>,
    /// What a class becomes by an addition, so that it is computed once for a thousand siblings.
    extended: HashMap<(u32, Terms), u32>,
    /// Ranges of ports that all classes have.
    steps: Tally,
    /// Prefixes that needed a class of their own.
    needed: Tally,
}

/// The class of addresses that are not listed.
const NOTHING: u32 = 0;

impl<'a> Classes<'a> {
    /// Every prefix of the policy with its class, wider ones first, and the classes.
    pub(super) fn of(
        policy: &Policy,
        sources: &'a Sources,
    ) -> Result<(Vec<(Prefix, u32)>, Self), CompileError> {
        let mut classes = Self {
            sources,
            terms: Vec::new(),
            by_terms: HashMap::new(),
            extended: HashMap::new(),
            steps: Tally::default(),
            needed: Tally::default(),
        };
        let mut addresses = Vec::new();
        // The prefixes around the present one, widest first, with their classes.
        let mut around: Vec<(Prefix, u32)> = Vec::new();
        for (prefix, more) in by_prefix(policy) {
            while around
                .last()
                .is_some_and(|(outer, _)| !outer.contains(&prefix))
            {
                around.pop();
            }
            let parent = around.last().map_or(NOTHING, |(_, class)| *class);
            let class = classes.extend(parent, more, policy)?;
            around.push((prefix, class));
            if class != NOTHING && class != parent {
                addresses.push((prefix, class));
            }
        }
        Ok((addresses, classes))
    }

    /// Each class's number and terms, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Terms)> {
        (1..).zip(&self.terms)
    }

    /// The class that says what `parent` says and `more`.
    fn extend(&mut self, parent: u32, more: Terms, policy: &Policy) -> Result<u32, CompileError> {
        let extension = (parent, more);
        if let Some(class) = self.extended.get(&extension) {
            return Ok(*class);
        }
        let mut terms = self.get(parent).cloned().unwrap_or_default();
        for (key, ports) in &extension.1 {
            let before = terms.entry(*key).or_default();
            *before = before.union(ports);
        }
        self.remove_dead(&mut terms);
        let class = self.intern(terms, policy)?;
        self.extended.insert(extension, class);
        Ok(class)
    }

    fn get(&self, class: u32) -> Option<&Terms> {
        let index = usize::try_from(class.checked_sub(1)?).ok()?;
        self.terms.get(index)
    }

    /// Takes away what changes nothing because nobody may go there at all: then a thousand addresses
    /// inside a prefix that is denied are one class.
    fn remove_dead(&self, terms: &mut Terms) {
        let denies_all = |source: usize| {
            let rule = self.sources.get(source);
            rule.is_some_and(|rule| rule.deny_all != NO_GRANT)
        };
        let mut denied: BTreeMap<u16, PortSet> = BTreeMap::new();
        // The first one is named, so it keeps what others deny too.
        for ((protocol, source), ports) in terms.iter_mut() {
            if denies_all(*source) {
                let so_far = denied.entry(*protocol).or_default();
                *ports = ports.without(so_far);
                *so_far = so_far.union(ports);
            }
        }
        for ((protocol, source), ports) in terms.iter_mut() {
            if let Some(denied) = denied.get(protocol)
                && !denies_all(*source)
            {
                *ports = ports.without(denied);
            }
        }
        terms.retain(|_, ports| !ports.is_empty());
    }

    fn intern(&mut self, terms: Terms, policy: &Policy) -> Result<u32, CompileError> {
        if terms.is_empty() {
            return Ok(NOTHING);
        }
        if let Some(class) = self.by_terms.get(&terms) {
            return Ok(*class);
        }
        for ((_, source), ports) in &terms {
            self.steps.add(*source, ports.ranges().len());
            self.needed.add(*source, 1);
        }
        if self.terms.len() >= MAX_ADDRESS_CLASSES {
            let at_fault = self.needed.at_fault(policy);
            return Err(CompileError::AddressClasses { at_fault });
        }
        if self.steps.total() > MAX_COMPILE_STEPS {
            let at_fault = self.steps.at_fault(policy);
            return Err(CompileError::Steps { at_fault });
        }
        self.terms.push(terms.clone());
        let class = u32::try_from(self.terms.len()).ok();
        let class = class.ok_or_else(|| CompileError::AddressClasses {
            at_fault: self.needed.at_fault(policy),
        })?;
        self.by_terms.insert(terms, class);
        Ok(class)
    }
}

/// What the policy says of each of its prefixes itself; wider prefixes first.
fn by_prefix(policy: &Policy) -> BTreeMap<Prefix, Terms> {
    let mut by_prefix: BTreeMap<Prefix, Terms> = BTreeMap::new();
    let mut add = |endpoint: &Endpoint, protocol, source| {
        let terms = by_prefix.entry(endpoint.prefix).or_default();
        let ports = terms.entry((protocol, source)).or_default();
        *ports = ports.union(&endpoint.ports);
    };
    for (source, group) in policy.rules.iter().enumerate() {
        for endpoint in &group.endpoints {
            add(endpoint, endpoint.protocol.number(), source);
        }
    }
    for endpoint in &policy.ingress {
        let protocol = endpoint.protocol.number() | INGRESS;
        add(endpoint, protocol, policy.rules.len());
    }
    by_prefix
}
