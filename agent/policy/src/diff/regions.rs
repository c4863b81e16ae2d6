//! The addresses that two policies tell apart.

use std::collections::{BTreeMap, BTreeSet};

use clawd_common::addr::Addr;

use crate::{Policy, Prefix, compile::MapImage};

/// A prefix of either policy, or all addresses of a family: it stands for its addresses that are in no
/// longer one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) prefix: Prefix,
    /// Its address class in the old policy and in the new one, 0 for none.
    pub(super) classes: (u32, u32),
    /// The position of the shortest region around it.
    pub(super) parent: Option<usize>,
    /// Whether longer ones have all of its addresses.
    is_empty: bool,
}

/// The regions of two policies, each after those around it. None is without an address.
pub(super) fn regions(
    (old, old_image): (&Policy, &MapImage),
    (new, new_image): (&Policy, &MapImage),
) -> Vec<Region> {
    let mut prefixes = BTreeSet::from(Prefix::ALL);
    prefixes.extend(listed(old));
    prefixes.extend(listed(new));
    let classes = (classes_of(old_image), classes_of(new_image));
    let mut regions: Vec<Region> = Vec::with_capacity(prefixes.len());
    // The positions of those around the next one, outermost first.
    let mut around: Vec<usize> = Vec::new();
    // For each, how much of it longer ones have, as a part of 2^128; `None` once it is all.
    let mut covered: Vec<Option<u128>> = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        while let Some(last) = around.last().and_then(|at| regions.get(*at))
            && !last.prefix.contains(&prefix)
        {
            around.pop();
        }
        let parent = around.last().copied();
        let outer = parent.and_then(|at| regions.get(at)).copied();
        let inherited = outer.map_or((0, 0), |outer| outer.classes);
        let key = (prefix.addr(), prefix.bits());
        if let (Some(parent), Some(outer)) = (parent, outer)
            && let Some(covered) = covered.get_mut(parent)
        {
            let part = 1_u128 << (128 - (prefix.bits() - outer.prefix.bits()));
            *covered = covered.and_then(|sum| sum.checked_add(part));
        }
        around.push(regions.len());
        covered.push(Some(0));
        regions.push(Region {
            prefix,
            classes: (
                classes.0.get(&key).copied().unwrap_or(inherited.0),
                classes.1.get(&key).copied().unwrap_or(inherited.1),
            ),
            parent,
            is_empty: false,
        });
    }
    for (region, covered) in regions.iter_mut().zip(covered) {
        region.is_empty = covered.is_none();
    }
    without_empty(&regions)
}

/// Every prefix that a policy speaks of.
fn listed(policy: &Policy) -> impl Iterator<Item = Prefix> {
    let groups = policy.rules.iter().flat_map(|group| &group.endpoints);
    groups
        .chain(&policy.ingress)
        .map(|endpoint| endpoint.prefix)
}

fn classes_of(image: &MapImage) -> BTreeMap<(Addr, u32), u32> {
    let entries = image.addresses.iter();
    entries
        .map(|(bits, key, class)| ((key.addr, *bits), *class))
        .collect()
}

/// Those that have an address; what was in another one is in the next around that.
fn without_empty(regions: &[Region]) -> Vec<Region> {
    let mut left: Vec<Region> = Vec::with_capacity(regions.len());
    // For each, the position that it or the next around it has among those that are left.
    let mut moved: Vec<Option<usize>> = Vec::with_capacity(regions.len());
    for region in regions {
        let parent = region
            .parent
            .and_then(|at| moved.get(at).copied().flatten());
        if region.is_empty {
            moved.push(parent);
        } else {
            moved.push(Some(left.len()));
            left.push(Region { parent, ..*region });
        }
    }
    left
}
