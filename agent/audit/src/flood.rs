//! How much of a flood is written: some records a second of each kind, and a count of the rest.

use std::{collections::HashMap, hash::Hash};

/// Records of one kind and second; the rest of it is counted.
pub const RECORDS_PER_SECOND: u64 = 10;

const SECOND_NS: u64 = 1_000_000_000;

/// Counts what is alike within a second. `K` tells what is alike, `V` is one of those that are.
///
/// Nothing is lost: the records and the counts together are all that was seen. A table of bounded size
/// cannot keep apart more kinds than it has room for: further ones share the kind that the caller names
/// for them. Those that would share one get an eighth of the room at most, so that nobody's storm takes
/// the room of others.
#[derive(Debug)]
pub struct Flood<K, V> {
    seconds: HashMap<K, Second<K, V>>,
    /// How many are kept apart of those that would share a kind.
    apart: HashMap<K, usize>,
    room: usize,
}

/// Shares of the room.
const SHARES: usize = 8;

#[derive(Debug)]
struct Second<K, V> {
    sample: V,
    /// The kind that it would share.
    shared: K,
    began_boottime_ns: u64,
    seen: u64,
}

/// So many of a kind there were besides those that have records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary<K, V> {
    /// What they have in common.
    pub kind: K,
    /// One of them.
    pub sample: V,
    /// How many, from 1.
    pub count: u64,
    /// When the second was over, in nanoseconds since boot.
    pub until_boottime_ns: u64,
}

/// What to write of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted<K, V> {
    /// The count of a second that is over.
    pub summary: Option<Summary<K, V>>,
    /// Whether it gets a record of its own.
    pub tell: bool,
}

// === impl Flood ===

impl<K: Copy + Eq + Hash, V: Copy> Flood<K, V> {
    /// With room for so many kinds that came within a second.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self {
            seconds: HashMap::new(),
            apart: HashMap::new(),
            room,
        }
    }

    /// Decides what becomes of `sample` at `now`, in nanoseconds since boot. Where there is no room for
    /// its kind it counts as one of `shared`, which always has room.
    pub fn admit(&mut self, (kind, shared): (K, K), sample: V, now: u64) -> Admitted<K, V> {
        let is_known = self.seconds.contains_key(&kind);
        let kind = if is_known || self.has_room(&shared) {
            kind
        } else {
            shared
        };
        let mut summary = None;
        if let Some(second) = self.seconds.get(&kind)
            && second.is_over(now)
        {
            summary = second.summary(kind);
            self.seconds.remove(&kind);
            leave(&mut self.apart, (kind, shared));
        }
        let second = self.seconds.entry(kind).or_insert_with(|| {
            if kind != shared {
                *self.apart.entry(shared).or_insert(0) += 1;
            }
            Second {
                sample,
                shared,
                began_boottime_ns: now,
                seen: 0,
            }
        });
        second.seen += 1;
        Admitted {
            summary,
            tell: second.seen <= RECORDS_PER_SECOND,
        }
    }

    /// Ends the seconds that are over at `now`, and tells their counts.
    pub fn over(&mut self, now: u64) -> Vec<Summary<K, V>> {
        let mut summaries = Vec::new();
        self.seconds.retain(|kind, second| {
            let over = second.is_over(now);
            if over {
                summaries.extend(second.summary(*kind));
                leave(&mut self.apart, (*kind, second.shared));
            }
            !over
        });
        summaries
    }

    fn has_room(&self, shared: &K) -> bool {
        let apart = self.apart.get(shared).copied().unwrap_or(0);
        self.seconds.len() < self.room && apart < self.room.div_ceil(SHARES)
    }
}

/// One of those that would share a kind is not kept apart any more.
fn leave<K: Copy + Eq + Hash>(apart: &mut HashMap<K, usize>, (kind, shared): (K, K)) {
    if kind == shared {
        return;
    }
    match apart.get_mut(&shared) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            apart.remove(&shared);
        }
    }
}

// === impl Second ===

impl<K, V: Copy> Second<K, V> {
    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.began_boottime_ns) >= SECOND_NS
    }

    fn summary(&self, kind: K) -> Option<Summary<K, V>> {
        let count = self.seen.checked_sub(RECORDS_PER_SECOND)?;
        (count > 0).then_some(Summary {
            kind,
            sample: self.sample,
            count,
            until_boottime_ns: self.began_boottime_ns.saturating_add(SECOND_NS),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::collections::HashMap;

    use super::{Flood, RECORDS_PER_SECOND, SECOND_NS};

    /// The kind that has all for which there is no room.
    const OTHERS: u32 = u32::MAX;

    #[test]
    fn flood_of_one_kind_is_ten_records_and_one_count_a_second() {
        let mut flood = Flood::new(16);
        let told = (0..1_000_u64).filter(|at| flood.admit((7, OTHERS), "a", *at).tell);
        assert_eq!(told.count(), 10);
        assert!(
            flood.admit((8, OTHERS), "b", 999).tell,
            "another is its own"
        );
        assert_eq!(flood.over(SECOND_NS - 1), []);
        let next = flood.admit((7, OTHERS), "c", SECOND_NS);
        let summary = next.summary.expect("a count");
        assert!(next.tell);
        assert_eq!((summary.sample, summary.count), ("a", 990));
        assert_eq!(summary.until_boottime_ns, SECOND_NS);
        assert_eq!(flood.over(u64::MAX), []);
    }

    #[test]
    fn flood_of_more_kinds_than_there_is_room_for_is_one_kind_more() {
        let mut flood = Flood::new(32);
        let told = (0..1_000_u32).filter(|kind| flood.admit((*kind, OTHERS), *kind, 0).tell);
        assert_eq!(told.count(), 4 + 10);
        let counts: Vec<_> = flood.over(u64::MAX).iter().map(|s| s.count).collect();
        assert_eq!(counts, [1_000 - 14]);
    }

    #[test]
    fn storm_of_one_takes_no_room_of_anothers() {
        let mut flood = Flood::new(32);
        for second in 0..3 {
            let now = second * SECOND_NS;
            for kind in 0..1_000_u32 {
                flood.admit((kind, OTHERS), "storm", now);
            }
            let quiet = (2_000..2_004_u32)
                .filter(|kind| flood.admit((*kind, OTHERS - 1), "quiet", now).tell);
            assert_eq!(quiet.count(), 4);
            assert_eq!(flood.apart, HashMap::from([(OTHERS, 4), (OTHERS - 1, 4)]));
            flood.over(now + SECOND_NS);
            assert!(flood.seconds.is_empty() && flood.apart.is_empty());
        }
    }

    proptest! {
        /// Whatever comes when: records and counts together are all that was seen.
        #[test]
        fn totals_are_exact(
            seen in proptest::collection::vec((0..8_u32, 0..SECOND_NS), 0..300),
            room in 0..10_usize,
            ends in any::<bool>(),
        ) {
            let mut flood = Flood::new(room);
            let (mut now, mut told, mut counted) = (0_u64, 0_u64, 0_u64);
            for (kind, later) in &seen {
                now += later / 16;
                let admitted = flood.admit((*kind, OTHERS - kind % 2), (), now);
                told += u64::from(admitted.tell);
                counted += admitted.summary.map_or(0, |summary| summary.count);
                if ends {
                    counted += flood.over(now).iter().map(|summary| summary.count).sum::<u64>();
                }
            }
            counted += flood.over(u64::MAX).iter().map(|summary| summary.count).sum::<u64>();
            prop_assert_eq!(told + counted, u64::try_from(seen.len()).expect("small"));
            let seconds = now / SECOND_NS + 1;
            prop_assert!(told <= 10 * seconds * RECORDS_PER_SECOND);
            prop_assert!(flood.apart.is_empty());
        }
    }
}
