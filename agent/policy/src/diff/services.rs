//! The ports that two policies tell apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clawd_common::decide::{PortKey, RuleValue};

use crate::{
    compile::MapImage,
    ports::{PortRange, PortSet},
};

/// A protocol as in a port's key: with the bit for what comes in, or without.
pub(super) type ProtocolKey = u16;

/// Ports of a protocol that neither policy tells apart.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) protocol: ProtocolKey,
    pub(super) ports: PortSet,
    /// The port class in the old policy and in the new one, 0 for none.
    classes: (u32, u32),
}

/// What two policies say of addresses and services.
pub(super) struct Services<'a> {
    all: Vec<Service>,
    /// For each policy, the positions of the services that a port class is cut into.
    of_class: [HashMap<u32, Vec<usize>>; 2],
    /// For each policy, the rules of an address class, by port class.
    rules: [HashMap<u32, BTreeMap<u32, &'a RuleValue>>; 2],
}

impl<'a> Services<'a> {
    pub(super) fn of(old: &'a MapImage, new: &'a MapImage) -> Self {
        let all = services(old, new);
        let mut of_class = [HashMap::new(), HashMap::new()];
        for (at, service) in all.iter().enumerate() {
            let (old, new) = service.classes;
            for (of_class, class) in of_class.iter_mut().zip([old, new]) {
                let services: &mut Vec<usize> = of_class.entry(class).or_default();
                services.push(at);
            }
        }
        Self {
            all,
            of_class,
            rules: [rules_of(old), rules_of(new)],
        }
    }

    /// The services of which either policy says anything for a pair of address classes, with what it
    /// says.
    pub(super) fn said(
        &self,
        (old, new): (u32, u32),
    ) -> Vec<(&Service, Option<&'a RuleValue>, Option<&'a RuleValue>)> {
        let [old_rules, new_rules] = &self.rules;
        let rules = [old_rules.get(&old), new_rules.get(&new)];
        let mut positions: BTreeSet<&usize> = BTreeSet::new();
        for (rules, of_class) in rules.iter().zip(&self.of_class) {
            let classes = rules.iter().flat_map(|rules| rules.keys());
            positions.extend(classes.filter_map(|class| of_class.get(class)).flatten());
        }
        let services = positions.into_iter().filter_map(|at| self.all.get(*at));
        let [old_rules, new_rules] = rules;
        services
            .map(|service| {
                let (old, new) = service.classes;
                let old = old_rules.and_then(|rules| rules.get(&old).copied());
                let new = new_rules.and_then(|rules| rules.get(&new).copied());
                (service, old, new)
            })
            .collect()
    }
}

fn rules_of(image: &MapImage) -> HashMap<u32, BTreeMap<u32, &RuleValue>> {
    let mut rules: HashMap<u32, BTreeMap<u32, &RuleValue>> = HashMap::new();
    for (key, rule) in &image.rules {
        let of_address = rules.entry(key.address_class).or_default();
        of_address.insert(key.port_class, rule);
    }
    rules
}

/// The ports of each protocol, cut where either policy cuts them.
fn services(old: &MapImage, new: &MapImage) -> Vec<Service> {
    // Where a class begins and where it ends, one past its last port: which policy, and which class.
    let mut edges: BTreeMap<(ProtocolKey, u32), Vec<(usize, u32)>> = BTreeMap::new();
    for (policy, image) in [old, new].into_iter().enumerate() {
        for (bits, key, class) in &image.ports {
            let first = u32::from(u16::from_be_bytes(key.port_be));
            let after = first + (1 << (PortKey::PORT_BITS - bits));
            edges
                .entry((key.protocol, first))
                .or_default()
                .push((policy, *class));
            // An end comes before a beginning at the same port.
            edges
                .entry((key.protocol, after))
                .or_default()
                .insert(0, (policy, 0));
        }
    }
    let mut ranges: BTreeMap<(ProtocolKey, u32, u32), Vec<PortRange>> = BTreeMap::new();
    let mut now = [0, 0];
    let mut from: Option<(ProtocolKey, u32)> = None;
    for ((protocol, port), changes) in edges {
        let [old, new] = now;
        if let Some((before, first)) = from
            && before == protocol
            && (old, new) != (0, 0)
            && let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(port - 1))
        {
            let range = PortRange { first, last };
            ranges.entry((protocol, old, new)).or_default().push(range);
        }
        for (policy, class) in changes {
            if let Some(now) = now.get_mut(policy) {
                *now = class;
            }
        }
        from = Some((protocol, port));
    }
    let services = ranges.into_iter();
    services
        .map(|((protocol, old, new), ranges)| Service {
            protocol,
            ports: ranges.into_iter().collect(),
            classes: (old, new),
        })
        .collect()
}
