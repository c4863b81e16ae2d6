//! Sets of ports, as ranges.

use std::fmt;

/// The ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// From 1: 0 asks the kernel for any.
    pub first: u16,
    /// Not below `first`.
    pub last: u16,
}

/// A set of ports: ranges in ascending order, with at least one port between two of them. So the same
/// ports are the same value.
///
/// Displays as `22, 9000-9010`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortSet {
    ranges: Vec<PortRange>,
}

// === impl PortSet ===

impl PortSet {
    /// Every port but 0.
    #[must_use]
    pub fn all() -> Self {
        Self::from_iter([PortRange {
            first: 1,
            last: u16::MAX,
        }])
    }

    /// A single port.
    #[must_use]
    pub fn single(port: u16) -> Self {
        Self::from_iter([PortRange {
            first: port,
            last: port,
        }])
    }

    /// Its ranges.
    #[must_use]
    pub fn ranges(&self) -> &[PortRange] {
        &self.ranges
    }

    /// Whether no port is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `port` is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let after = self.ranges.partition_point(|range| range.last < port);
        self.ranges
            .get(after)
            .is_some_and(|range| range.first <= port)
    }

    /// The ports that are in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.ranges.iter().chain(&other.ranges).copied().collect()
    }

    /// The ports that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.ranges.iter().peekable();
        for range in &self.ranges {
            // The first port of the range that is not looked at yet; past the last port there is none.
            let mut next = Some(range.first);
            while let Some(from) = next
                && from <= range.last
            {
                while holes.next_if(|hole| hole.last < from).is_some() {}
                let hole = holes.peek().filter(|hole| hole.first <= range.last);
                let last = match hole {
                    None => range.last,
                    Some(hole) if hole.first <= from => {
                        next = hole.last.checked_add(1);
                        continue;
                    }
                    Some(hole) => hole.first - 1,
                };
                left.push(PortRange { first: from, last });
                next = last.checked_add(1);
            }
        }
        Self { ranges: left }
    }
}

/// Of ranges in any order, which may overlap; one that ends before it begins has no port.
impl FromIterator<PortRange> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        let mut sorted: Vec<PortRange> = ranges
            .into_iter()
            .filter(|range| range.first <= range.last)
            .collect();
        sorted.sort_unstable();
        let mut ranges: Vec<PortRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match ranges.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => ranges.push(range),
            }
        }
        Self { ranges }
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, PortRange { first, last }) in self.ranges.iter().enumerate() {
            if i > 0 {
                write!(f, ", ")?;
            }
            match first == last {
                true => write!(f, "{first}")?,
                false => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{PortRange, PortSet};

    /// Ranges of few ports, some at the upper edge.
    fn ranges() -> impl Strategy<Value = Vec<PortRange>> {
        let first = prop_oneof![3 => 1..60_u16, 1 => u16::MAX - 20..=u16::MAX, 1 => 1..=u16::MAX];
        let range = (first, 0..12_u16).prop_map(|(first, more)| PortRange {
            first,
            last: first.saturating_add(more),
        });
        prop::collection::vec(range, 0..12)
    }

    fn written_out(ranges: &[PortRange]) -> BTreeSet<u16> {
        ranges
            .iter()
            .flat_map(|range| range.first..=range.last)
            .collect()
    }

    proptest! {
        #[test]
        fn sets_are_what_they_are_written_out(a in ranges(), b in ranges()) {
            let (set_a, set_b) = (PortSet::from_iter(a.clone()), PortSet::from_iter(b.clone()));
            let (a, b) = (written_out(&a), written_out(&b));
            let same = |set: &PortSet, want: &BTreeSet<u16>| {
                prop_assert_eq!(&written_out(set.ranges()), want);
                for pair in set.ranges().windows(2) {
                    prop_assert!(pair[0].last + 1 < pair[1].first, "{set}");
                }
                for port in (1..80).chain(u16::MAX - 24..=u16::MAX) {
                    prop_assert_eq!(set.contains(port), want.contains(&port));
                }
                Ok(())
            };
            same(&set_a, &a)?;
            same(&set_a.union(&set_b), &(&a | &b))?;
            same(&set_a.without(&set_b), &(&a - &b))?;
            same(&PortSet::all().without(&set_a), &(&(1..=u16::MAX).collect() - &a))?;
        }
    }

    #[test]
    fn set_shows_as_in_a_policy() {
        let range = |first, last| PortRange { first, last };
        let set = PortSet::from_iter([range(9000, 9010), range(22, 22), range(5, 4)]);
        assert_eq!(set.to_string(), "22, 9000-9010");
        assert_eq!(PortSet::all().to_string(), "1-65535");
        assert_eq!(PortSet::single(7).ranges(), [range(7, 7)]);
    }
}
