//! What programs that run are denied by their path stays denied when the gate, the policy or the pins
//! change: only an exec tells which path a program was executed by.

use std::{collections::HashMap, sync::Arc};

use clawd_common::decide::GrantMask;

use super::{Book, line};
use crate::entries::{Entry, Matcher, means};

/// Entries that mean a file otherwise than by its content, by the file's number.
type Changed = HashMap<u32, GrantMask>;

impl Book {
    /// What is denied by path under a policy that is to be loaded: what a gate before wrote for it, and
    /// what its sandbox's policies deny by the same entries.
    pub(super) fn denied_before(
        &self,
        policy_id: u32,
        sandbox_id: u32,
        entries: &Arc<[Entry]>,
    ) -> Changed {
        let mut denied = Changed::new();
        for (chain, mask) in self.left.get(&policy_id).into_iter().flatten() {
            if let Some(file_id) = self.chains.files(*chain).first() {
                add(&mut denied, *file_id, &mask.changed, |index| {
                    entries
                        .get(index)
                        .filter(|entry| entry.denies)
                        .map(|_| index)
                });
            }
        }
        let sandbox = self.sandboxes.get(&sandbox_id);
        let policies = sandbox.map_or(&[][..], |sandbox| sandbox.policies.as_slice());
        for before in policies.iter().filter_map(|id| self.policies.get(id)) {
            for (file_id, changed) in &before.changed {
                add(&mut denied, *file_id, changed, |index| {
                    let entry = before.entries.get(index)?;
                    let is_same = |new: &Entry| new.denies && new.matcher == entry.matcher;
                    entries.iter().position(is_same)
                });
            }
        }
        denied
    }

    /// What each policy denies by path, as far as pins say which content that is, and by what was found
    /// there in their place.
    pub(super) fn denied_by_pins(&self) -> HashMap<u32, Changed> {
        let of_policy = |(policy_id, policy): (&u32, &crate::entries::PolicyBook)| {
            let mut denied = Changed::new();
            for (file_id, changed) in &policy.changed {
                add(&mut denied, *file_id, changed, |index| {
                    let entry = policy.entries.get(index);
                    entry.filter(|entry| entry.denies).map(|_| index)
                });
            }
            let by_path =
                |entry: &Entry| entry.denies && !matches!(entry.matcher, Matcher::Sha256(_));
            for (index, entry) in policy.entries.iter().enumerate() {
                if !by_path(entry) {
                    continue;
                }
                for chain in policy.masked.keys() {
                    for (file_id, sha256) in line(&self.chains, &self.files, *chain).contents {
                        if means(&entry.matcher, &sha256, &self.pins) {
                            let of_file = denied.entry(file_id).or_insert(GrantMask::ZERO);
                            of_file.insert(index);
                        }
                    }
                }
            }
            (*policy_id, denied)
        };
        self.policies.iter().map(of_policy).collect()
    }
}

/// Adds the entries of a file that `index` gives a new position.
fn add(
    to: &mut Changed,
    file_id: u32,
    entries: &GrantMask,
    index: impl Fn(usize) -> Option<usize>,
) {
    for index in (0..clawd_common::decide::GRANT_BITS)
        .filter(|old| entries.contains(*old))
        .filter_map(index)
    {
        to.entry(file_id).or_insert(GrantMask::ZERO).insert(index);
    }
}
