//! Making room: what no process has and no exec used lately is forgotten.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::Book;

/// How long what an exec used is kept, whatever becomes of the process: longer than an exec may
/// take between the gate's answer and its record.
const KEPT: Duration = Duration::from_secs(10);

/// Looking at all processes takes its time while execs wait; between two times the tables stay full.
const EVERY: Duration = Duration::from_secs(1);

impl Book {
    /// Forgets lines and contents that no live process has. What stays behind in a table after an
    /// error is found again at the next start.
    pub(super) fn evict(&mut self) {
        let now = Instant::now();
        if self.evicted.is_some_and(|time| now < time + EVERY) {
            return;
        }
        self.evicted = Some(now);
        let since = now.checked_sub(KEPT).unwrap_or(now);
        let mut live = HashSet::new();
        let mut live_files = HashSet::new();
        for (_, process) in self.tables.processes() {
            live.insert(process.chain);
            live.insert(process.parent_chain);
            live_files.insert(process.file_id);
        }
        let (lines, steps) = self.chains.retain(&live, since);
        for sandbox in self.sandboxes.values_mut() {
            sandbox.steps.retain(|key| self.chains.is_known(*key));
        }
        for key in steps {
            self.note(|tables| tables.set_chain(key, None));
        }
        for chain in &lines {
            self.forget_masks(*chain);
            self.note(|tables| tables.set_lineage(*chain, None));
        }
        let used: HashSet<u32> = self
            .chains
            .numbers()
            .flat_map(|chain| self.chains.files(chain).iter().copied())
            .chain(live_files)
            .collect();
        let (contents, keys) = self.files.retain(&used, since);
        self.unpublish(keys);
        for file_id in &contents {
            self.note(|tables| tables.set_file(*file_id, None));
        }
        for policy in self.policies.values_mut() {
            policy
                .changed
                .retain(|file_id, _| !contents.contains(file_id));
        }
        for sandbox in self.sandboxes.values_mut() {
            sandbox.walked.clear();
        }
        tracing::debug!(lines = lines.len(), contents = contents.len(), "made room");
    }

    pub(super) fn forget_masks(&mut self, chain: u32) {
        for sandbox in self.sandboxes.values_mut() {
            sandbox.chains.remove(&chain);
        }
        let policies = self.policies.iter_mut();
        let masked: Vec<u32> = policies
            .filter_map(|(id, policy)| policy.masked.remove(&chain).map(|_| *id))
            .collect();
        for policy_id in masked {
            let key = clawd_common::decide::MaskKey { policy_id, chain };
            self.note(|tables| tables.set_mask(key, &clawd_common::decide::MaskValue::ZERO));
        }
    }

    /// Does what may fail without harm.
    pub(super) fn note(
        &mut self,
        write: impl FnOnce(&mut dyn crate::tables::Tables) -> crate::tables::Written,
    ) {
        if let Err(error) = write(self.tables.as_mut()) {
            tracing::warn!(%error, cause = error.0, "an entry stays in the kernel's tables");
        }
    }
}
