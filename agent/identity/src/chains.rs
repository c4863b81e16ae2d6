//! Lines of executables, numbered: the policy-free identity of a process.
//!
//! A line has each executable once, at its latest place, so that programs which call each other in
//! turn make few lines, not ever longer ones.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use clawd_common::record::{ChainKey, LINEAGE_MAX, UNKNOWN_CHAIN};

/// What nobody knows, as the farthest ancestor of a line.
const UNKNOWN_FILE: u32 = 0;

/// A line of executables.
pub(crate) struct Chain {
    /// File ids, the running executable first.
    pub(crate) files: Vec<u32>,
    last_used: Instant,
}

/// All lines.
#[derive(Default)]
pub(crate) struct Chains {
    by_number: HashMap<u32, Chain>,
    by_files: HashMap<Vec<u32>, u32>,
    steps: HashMap<ChainKey, u32>,
    last_number: u32,
}

/// What [`Chains::step`] came to.
pub(crate) struct Step {
    pub(crate) chain: u32,
    /// The line is new: `LINEAGE` lacks it.
    pub(crate) new_chain: bool,
    /// The step is new: `CHAIN` lacks it.
    pub(crate) new_step: bool,
}

impl Chains {
    /// Takes up what the kernel's tables hold.
    pub(crate) fn restore(
        lines: Vec<(u32, Vec<u32>)>,
        steps: Vec<(ChainKey, u32)>,
        now: Instant,
    ) -> Self {
        let mut chains = Self::default();
        for (number, files) in lines {
            chains.last_number = chains.last_number.max(number);
            chains.by_files.insert(files.clone(), number);
            let last_used = now;
            chains.by_number.insert(number, Chain { files, last_used });
        }
        for (key, number) in steps {
            chains.pass(number);
            chains.pass(key.parent);
            chains.steps.insert(key, number);
        }
        chains
    }

    /// Lines.
    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Steps from line to line.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The executables of a line, the running one first; none of a line that is not known.
    pub(crate) fn files(&self, chain: u32) -> &[u32] {
        if chain == UNKNOWN_CHAIN {
            return &[UNKNOWN_FILE];
        }
        self.by_number
            .get(&chain)
            .map_or(&[], |chain| chain.files.as_slice())
    }

    /// Sees to it that no line from now on has a number up to `number`, which is one.
    pub(crate) fn pass(&mut self, number: u32) {
        if number != UNKNOWN_CHAIN {
            self.last_number = self.last_number.max(number);
        }
    }

    /// Whether the step was taken before, so that it needs no room.
    pub(crate) fn is_known(&self, key: ChainKey) -> bool {
        self.steps
            .get(&key)
            .is_some_and(|chain| self.by_number.contains_key(chain))
    }

    /// The line of a process of line `key.parent` that executes `key.file_id`; `None` where numbers
    /// are used up.
    pub(crate) fn step(&mut self, key: ChainKey, now: Instant) -> Option<Step> {
        if let Some(&chain) = self.steps.get(&key)
            && let Some(line) = self.by_number.get_mut(&chain)
        {
            line.last_used = now;
            return Some(Step {
                chain,
                new_chain: false,
                new_step: false,
            });
        }
        let files = extended(self.files(key.parent), key.file_id);
        let known = self.by_files.get(&files).copied();
        let chain = match known {
            Some(chain) => chain,
            None => {
                let next = self.last_number.checked_add(1)?;
                if next == UNKNOWN_CHAIN {
                    return None;
                }
                self.last_number = next;
                next
            }
        };
        self.by_files.insert(files.clone(), chain);
        let last_used = now;
        self.by_number.insert(chain, Chain { files, last_used });
        self.steps.insert(key, chain);
        Some(Step {
            chain,
            new_chain: known.is_none(),
            new_step: true,
        })
    }

    /// Takes a step back that could not be written down, with its line if that was new.
    pub(crate) fn forget_step(&mut self, key: ChainKey, step: &Step) {
        self.steps.remove(&key);
        if step.new_chain
            && let Some(line) = self.by_number.remove(&step.chain)
        {
            self.by_files.remove(&line.files);
        }
    }

    /// Every number.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.by_number.keys().copied()
    }

    /// Removes every line that is neither in `live` nor was used since `since`; returns the lines and
    /// the steps that are gone.
    pub(crate) fn retain(
        &mut self,
        live: &HashSet<u32>,
        since: Instant,
    ) -> (Vec<u32>, Vec<ChainKey>) {
        let dead: Vec<u32> = self
            .by_number
            .iter()
            .filter(|(number, line)| !live.contains(number) && line.last_used < since)
            .map(|(number, _)| *number)
            .collect();
        for number in &dead {
            if let Some(line) = self.by_number.remove(number) {
                self.by_files.remove(&line.files);
            }
        }
        let is_line = |number: u32| number != 0 && number != UNKNOWN_CHAIN;
        let gone = |number: &u32| is_line(*number) && !self.by_number.contains_key(number);
        let steps: Vec<ChainKey> = self
            .steps
            .iter()
            .filter(|(key, chain)| gone(&key.parent) || gone(chain))
            .map(|(key, _)| *key)
            .collect();
        for key in &steps {
            self.steps.remove(key);
        }
        (dead, steps)
    }
}

/// The line after `file_id` was executed.
fn extended(line: &[u32], file_id: u32) -> Vec<u32> {
    let others = line.iter().copied().filter(|file| *file != file_id);
    std::iter::once(file_id)
        .chain(others)
        .take(LINEAGE_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        time::{Duration, Instant},
    };

    use clawd_common::record::{ChainKey, LINEAGE_MAX, UNKNOWN_CHAIN};
    use proptest::prelude::*;

    use super::Chains;

    fn walk(chains: &mut Chains, files: &[u32]) -> u32 {
        files.iter().fold(0, |parent, file_id| {
            let key = ChainKey {
                parent,
                file_id: *file_id,
            };
            chains.step(key, Instant::now()).expect("numbered").chain
        })
    }

    #[test]
    fn programs_that_call_each_other_make_two_lines() {
        let mut chains = Chains::default();
        walk(&mut chains, &[1, 2].repeat(100));
        assert_eq!(chains.len(), 3, "[1], [2, 1], [1, 2]");
    }

    #[test]
    fn a_line_that_is_used_stays() {
        let mut chains = Chains::default();
        let kept = walk(&mut chains, &[1, 2]);
        let later = Instant::now() + Duration::from_secs(60);
        let (dead, steps) = chains.retain(&HashSet::from([kept]), later);
        assert_eq!((dead.len(), steps.len()), (1, 2));
        assert_eq!(chains.files(kept), [2, 1]);
        // The same programs once more: the live line has its number still.
        assert_eq!(walk(&mut chains, &[1, 2]), kept);
    }

    #[test]
    fn line_behind_what_nobody_knows_is_another_one() {
        let mut chains = Chains::default();
        let now = Instant::now();
        let first = chains.step(key(0, 1), now).expect("numbered").chain;
        let behind = chains.step(key(UNKNOWN_CHAIN, 1), now).expect("numbered");
        assert!(behind.new_chain && behind.chain != first);
        let next = chains.step(key(behind.chain, 2), now).expect("numbered");
        assert_eq!(chains.files(next.chain), [2, 1, 0]);
        // It stays while it is used, and a next gate gives numbers that are none of these.
        let later = now + Duration::from_secs(60);
        let live = HashSet::from([behind.chain]);
        let (_, steps) = chains.retain(&live, later);
        assert!(!steps.contains(&key(UNKNOWN_CHAIN, 1)), "{steps:?}");
        let lines = vec![(behind.chain, vec![1, 0])];
        let taken_up = vec![(key(UNKNOWN_CHAIN, 1), behind.chain)];
        let mut chains = Chains::restore(lines, taken_up, now);
        assert!(chains.is_known(key(UNKNOWN_CHAIN, 1)));
        let new = chains.step(key(0, 3), now).expect("numbered");
        assert_eq!(new.chain, behind.chain + 1);
    }

    fn key(parent: u32, file_id: u32) -> ChainKey {
        ChainKey { parent, file_id }
    }

    #[test]
    fn a_step_that_was_taken_back_is_new_again_with_its_line() {
        let mut chains = Chains::default();
        let now = Instant::now();
        let first = chains.step(key(0, 1), now).expect("numbered");
        assert!(first.new_chain && first.new_step && chains.is_known(key(0, 1)));
        chains.forget_step(key(0, 1), &first);
        assert!(!chains.is_known(key(0, 1)));
        let again = chains.step(key(0, 1), now).expect("numbered");
        assert!(again.new_step && again.new_chain);
        assert_ne!(again.chain, first.chain);
        // A line that was there before stays when a further step to it is taken back.
        let further = chains.step(key(again.chain, 1), now).expect("numbered");
        assert!(further.new_step && !further.new_chain);
        chains.forget_step(key(again.chain, 1), &further);
        assert_eq!(chains.files(again.chain), [1]);
    }

    #[test]
    fn a_restored_step_to_a_line_that_is_lost_is_not_known() {
        let now = Instant::now();
        let steps = vec![(key(0, 1), 7), (key(7, 2), 8)];
        let mut chains = Chains::restore(vec![(8, vec![2, 1])], steps, now);
        assert!(!chains.is_known(key(0, 1)) && chains.is_known(key(7, 2)));
        let step = chains.step(key(0, 1), now).expect("numbered");
        assert!(step.new_chain && step.new_step);
        assert_eq!(step.chain, 9, "7 may be a process's still");
    }

    #[test]
    fn numbers_are_used_up_once() {
        let mut chains = Chains::default();
        chains.pass(UNKNOWN_CHAIN - 2);
        let now = Instant::now();
        let last = chains.step(key(0, 1), now).expect("numbered");
        assert_eq!(last.chain, UNKNOWN_CHAIN - 1);
        assert!(chains.step(key(0, 2), now).is_none());
        assert!(chains.step(key(0, 1), now).is_some());
    }

    #[test]
    fn retain_removes_the_steps_to_and_from_what_is_gone() {
        let mut chains = Chains::default();
        let first = walk(&mut chains, &[1]);
        let live = walk(&mut chains, &[1, 2]);
        let gone = walk(&mut chains, &[1, 3]);
        let later = Instant::now() + Duration::from_secs(60);
        let (dead, mut steps) = chains.retain(&HashSet::from([first, live, 0]), later);
        steps.sort();
        assert_eq!((dead, steps), (vec![gone], vec![key(first, 3)]));
        assert_eq!((chains.len(), chains.steps()), (2, 2));
        assert!(chains.files(gone).is_empty());
        // The same line once more has another number.
        assert!(walk(&mut chains, &[1, 3]) > gone);
    }

    proptest! {
        #[test]
        fn restore_takes_up_the_same_lines(
            walks in proptest::collection::vec(proptest::collection::vec(1..6_u32, 1..6), 1..10)
        ) {
            let mut chains = Chains::default();
            let ends: Vec<u32> = walks.iter().map(|files| walk(&mut chains, files)).collect();
            let lines = chains.numbers().map(|n| (n, chains.files(n).to_vec())).collect();
            let steps = chains.steps.iter().map(|(key, chain)| (*key, *chain)).collect();
            let mut restored = Chains::restore(lines, steps, Instant::now());
            let again: Vec<u32> = walks.iter().map(|files| walk(&mut restored, files)).collect();
            prop_assert_eq!(again, ends);
            prop_assert_eq!(restored.len(), chains.len());
        }

        #[test]
        fn a_line_has_each_executable_once_at_its_latest_place(
            files in proptest::collection::vec(1..50_u32, 1..200)
        ) {
            let mut chains = Chains::default();
            let chain = walk(&mut chains, &files);
            let mut want: Vec<u32> = Vec::new();
            for file in files.iter().rev() {
                if !want.contains(file) {
                    want.push(*file);
                }
            }
            let line = chains.files(chain);
            prop_assert!(line.len() <= LINEAGE_MAX);
            // What fell off once may come back farther away only by being executed again.
            prop_assert_eq!(&want[..line.len().min(10)], &line[..line.len().min(10)]);
        }
    }
}
