//! Map `IN_FORCE`: the policy of each sandbox where a packet finds it without a hash.

use std::collections::BTreeSet;

use aya::maps::{Array, Map, MapData};
use clawd_common::record::IN_FORCE_SLOTS;

use crate::{
    error::{OpenError, TableError},
    pins::Pins,
    tables::failed,
};

/// The map, and who has which entry.
pub(crate) struct InForce {
    map: Array<MapData, u32>,
    slots: Slots,
}

/// Which entries are taken. The first one stands for none.
#[derive(Debug, Default)]
struct Slots {
    taken: BTreeSet<u32>,
}

// === impl InForce ===

impl InForce {
    /// Opens the pinned map, of which these entries are taken.
    ///
    /// # Errors
    /// [`OpenError`], naming the pin.
    pub(crate) fn open(pins: &Pins, taken: impl Iterator<Item = u32>) -> Result<Self, OpenError> {
        const NAME: &str = "IN_FORCE";
        let map = Map::from_map_data(pins.open_map(NAME)?)
            .and_then(Array::try_from)
            .map_err(|source| OpenError::Map {
                path: pins.map(NAME),
                source: Box::new(source),
            })?;
        let slots = Slots {
            taken: taken.collect(),
        };
        Ok(Self { map, slots })
    }

    /// An entry for one more sandbox; 0 where there is none left, and `SANDBOX` will do.
    pub(crate) fn take(&mut self) -> u32 {
        self.slots.take()
    }

    /// Nobody has the entry any more. What it holds must be 0.
    pub(crate) fn give_back(&mut self, slot: u32) {
        self.slots.taken.remove(&slot);
    }

    /// Writes an entry; 0 is never written to.
    ///
    /// # Errors
    /// [`TableError`].
    pub(crate) fn set(&mut self, slot: u32, policy_id: u32) -> Result<(), TableError> {
        if slot == 0 {
            return Ok(());
        }
        self.map
            .set(slot, policy_id, 0)
            .map_err(failed("write", "IN_FORCE"))
    }
}

// === impl Slots ===

impl Slots {
    fn take(&mut self) -> u32 {
        let free = (1..IN_FORCE_SLOTS).find(|slot| !self.taken.contains(slot));
        let slot = free.unwrap_or(0);
        if slot != 0 {
            self.taken.insert(slot);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use clawd_common::record::IN_FORCE_SLOTS;

    use super::Slots;

    #[test]
    fn slots_are_taken_once_and_again_when_they_were_given_back() {
        let mut slots = Slots {
            taken: [0, 1, 3].into(),
        };
        assert_eq!([slots.take(), slots.take()], [2, 4]);
        slots.taken.remove(&1);
        assert_eq!(slots.take(), 1);
    }

    #[test]
    fn slots_that_are_all_taken_leave_none() {
        let mut slots = Slots::default();
        let taken: std::collections::BTreeSet<u32> =
            (1..IN_FORCE_SLOTS).map(|_| slots.take()).collect();
        assert_eq!(taken.len() + 1, usize::try_from(IN_FORCE_SLOTS).unwrap());
        assert_eq!((slots.take(), taken.contains(&0)), (0, false));
    }

    #[test]
    fn slots_fit_into_a_sockets_record() {
        assert!(u16::try_from(IN_FORCE_SLOTS - 1).is_ok());
    }
}
