//! Port classes: what a policy never tells apart of the ports of a protocol, and the rules of the pairs.

use std::collections::{BTreeMap, HashMap, HashSet};

use clawd_common::decide::{PortKey, RuleKey, RuleValue};

use super::{
    Sources,
    addresses::Classes,
    fault::{CompileError, Tally},
    merge,
};
use crate::{
    limits::{MAX_COMPILE_STEPS, MAX_PORT_PREFIXES, MAX_RULES},
    model::Policy,
    ports::{PortRange, PortSet},
};

/// The port classes of all protocols.
pub(super) struct Services {
    /// Each protocol's ranges of ports with their class, ascending; no two overlap.
    ranges: Vec<(u16, PortRange, u32)>,
    /// The classes that make up a set of ports of a protocol.
    classes: HashMap<(u16, PortSet), Vec<u32>>,
    /// Who has which range of a set.
    tally: Tally,
}

impl Services {
    /// The port classes that address classes need.
    pub(super) fn of(classes: &Classes<'_>, policy: &Policy) -> Result<Self, CompileError> {
        // The sets of each protocol, in the order in which they come up, and who has them.
        let mut sets: BTreeMap<u16, Vec<(&PortSet, usize)>> = BTreeMap::new();
        let mut seen: HashSet<(u16, &PortSet)> = HashSet::new();
        for (_, terms) in classes.iter() {
            for ((protocol, source), ports) in terms {
                if seen.insert((*protocol, ports)) {
                    sets.entry(*protocol).or_default().push((ports, *source));
                }
            }
        }
        let mut services = Self {
            ranges: Vec::new(),
            classes: HashMap::new(),
            tally: Tally::default(),
        };
        let mut last_class = 0;
        for (protocol, sets) in sets {
            services.add(protocol, &sets, &mut last_class, policy)?;
        }
        Ok(services)
    }

    /// Cuts the ports of a protocol where one of its sets begins or ends.
    fn add(
        &mut self,
        protocol: u16,
        sets: &[(&PortSet, usize)],
        last_class: &mut u32,
        policy: &Policy,
    ) -> Result<(), CompileError> {
        let ranges = sets.iter().flat_map(|(ports, _)| ports.ranges());
        // One past the last port is a number too.
        let mut cuts: Vec<u32> = ranges
            .flat_map(|range| [u32::from(range.first), u32::from(range.last) + 1])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        // Between two cuts: the sets that the ports there are in.
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); cuts.len()];
        for (set, (ports, source)) in sets.iter().enumerate() {
            for range in ports.ranges() {
                let from = cuts.partition_point(|cut| *cut < u32::from(range.first));
                let to = cuts.partition_point(|cut| *cut <= u32::from(range.last));
                self.tally.add(*source, to - from);
                if self.tally.total() > MAX_COMPILE_STEPS {
                    let at_fault = self.tally.at_fault(policy);
                    return Err(CompileError::Steps { at_fault });
                }
                for between in members.iter_mut().take(to).skip(from) {
                    between.push(set);
                }
            }
        }
        let mut by_members: HashMap<Vec<usize>, u32> = HashMap::new();
        let mut of_set: Vec<Vec<u32>> = vec![Vec::new(); sets.len()];
        for (cut, (from, members)) in cuts.iter().zip(members).enumerate() {
            let (false, Some(to)) = (members.is_empty(), cuts.get(cut + 1)) else {
                continue;
            };
            let class = *by_members.entry(members).or_insert_with_key(|members| {
                *last_class += 1;
                for set in members {
                    if let Some(classes) = of_set.get_mut(*set) {
                        classes.push(*last_class);
                    }
                }
                *last_class
            });
            if let (Ok(first), Ok(last)) = (u16::try_from(*from), u16::try_from(to - 1)) {
                self.ranges
                    .push((protocol, PortRange { first, last }, class));
            }
        }
        for ((ports, _), classes) in sets.iter().zip(of_set) {
            self.classes.insert((protocol, (*ports).clone()), classes);
        }
        Ok(())
    }

    /// The contents of map `PORT`.
    pub(super) fn prefixes(
        &self,
        policy_id: u32,
        policy: &Policy,
    ) -> Result<Vec<(u32, PortKey, u32)>, CompileError> {
        let mut prefixes = Vec::new();
        for (protocol, range, class) in &self.ranges {
            for (bits, port) in split(*range) {
                let key = PortKey {
                    policy_id,
                    protocol: *protocol,
                    port_be: port.to_be_bytes(),
                };
                prefixes.push((bits, key, *class));
            }
            if prefixes.len() > MAX_PORT_PREFIXES {
                let at_fault = self.tally.at_fault(policy);
                return Err(CompileError::Ports { at_fault });
            }
        }
        Ok(prefixes)
    }

    /// The contents of map `RULE`.
    pub(super) fn rules(
        &self,
        policy_id: u32,
        (classes, sources): (&Classes<'_>, &Sources),
        policy: &Policy,
    ) -> Result<Vec<(RuleKey, RuleValue)>, CompileError> {
        let mut rules = Vec::new();
        let mut tally = Tally::default();
        for (address_class, terms) in classes.iter() {
            let mut of_class: BTreeMap<u32, RuleValue> = BTreeMap::new();
            for ((protocol, source), ports) in terms {
                // Both are there: the sets were collected from these terms.
                let key = (*protocol, ports.clone());
                let (Some(classes), Some(more)) = (self.classes.get(&key), sources.get(*source))
                else {
                    continue;
                };
                tally.add(*source, classes.len());
                for port_class in classes {
                    let rule = of_class.entry(*port_class);
                    merge(rule.or_insert(RuleValue::LISTED), more);
                }
            }
            if rules.len() + of_class.len() > MAX_RULES {
                let at_fault = tally.at_fault(policy);
                return Err(CompileError::Rules { at_fault });
            }
            rules.extend(of_class.into_iter().map(|(port_class, rule)| {
                let key = RuleKey {
                    policy_id,
                    address_class,
                    port_class,
                };
                (key, rule)
            }));
        }
        Ok(rules)
    }
}

/// The fewest prefixes that make up a range: their bits, and their first port.
fn split(range: PortRange) -> impl Iterator<Item = (u32, u16)> {
    let last = u32::from(range.last);
    let mut next = u32::from(range.first);
    std::iter::from_fn(move || {
        if next > last {
            return None;
        }
        // As wide as the first port's trailing zeros and what is left allow.
        let aligned = next.trailing_zeros().min(u16::BITS);
        let left = (last - next + 1).ilog2();
        let width = aligned.min(left);
        let port = u16::try_from(next).ok()?;
        next += 1 << width;
        Some((u16::BITS - width, port))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PortRange, split};

    proptest! {
        #[test]
        fn split_covers_the_range_and_nothing_else(a in any::<u16>(), b in any::<u16>()) {
            let (first, last) = (a.min(b), a.max(b));
            let mut next = u32::from(first);
            let mut count = 0;
            for (bits, port) in split(PortRange { first, last }) {
                prop_assert_eq!(u32::from(port), next, "without gap or overlap");
                let size = 1_u32 << (16 - bits);
                prop_assert_eq!(next % size, 0, "a prefix has zeros behind its bits");
                next += size;
                count += 1;
            }
            prop_assert_eq!(next, u32::from(last) + 1);
            prop_assert!(count <= 30);
        }
    }

    #[test]
    fn split_takes_all_ports_as_one() {
        let all = PortRange {
            first: 0,
            last: u16::MAX,
        };
        assert_eq!(split(all).collect::<Vec<_>>(), [(0, 0)]);
        let one = PortRange {
            first: 443,
            last: 443,
        };
        assert_eq!(split(one).collect::<Vec<_>>(), [(16, 443)]);
    }
}
