//! Policies in the book: loading, retiring, and paths that they name.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use clawd_common::{
    decide::{GrantMask, MaskKey, MaskValue},
    record::ChangedKey,
};

use super::{Basis, Book, Exec, SandboxBook, WALKED_MAX, line, write_mask};
use crate::{
    entries::{Alias, Entry, Named, PolicyBook},
    pins::{Pin, PinError},
    protocol::Notice,
    tables::TableError,
};

impl Book {
    /// Enters a sandbox; from now on policies can be loaded for it.
    pub(crate) fn add_sandbox(&mut self, sandbox_id: u32, name: &str) {
        let name = name.to_owned();
        let sandbox = SandboxBook {
            name,
            ..SandboxBook::default()
        };
        self.sandboxes.insert(sandbox_id, sandbox);
    }

    /// Says how a sandbox is called that is entered later.
    pub(crate) fn name_sandbox(&mut self, sandbox_id: u32, name: &str) {
        let sandbox = self.sandboxes.entry(sandbox_id).or_default();
        name.clone_into(&mut sandbox.name);
    }

    /// The lines that processes have, by sandbox. All processes of the host are looked at, so for
    /// many sandboxes this is asked once.
    pub(crate) fn lines_of_processes(&self) -> HashMap<u32, HashSet<u32>> {
        let mut lines: HashMap<u32, HashSet<u32>> = HashMap::new();
        for (_, process) in self.tables.processes() {
            let of_sandbox = lines.entry(process.sandbox_id).or_default();
            of_sandbox.insert(process.chain);
        }
        lines
    }

    /// Says which lines the processes of a sandbox have that was entered and whose policy is not
    /// loaded; its execs wait, so they do not change.
    pub(crate) fn know_lines(&mut self, sandbox_id: u32, lines: HashSet<u32>) {
        if let Some(sandbox) = self.sandboxes.get_mut(&sandbox_id) {
            let lines = lines.into_iter().filter(|chain| *chain != 0);
            sandbox.chains.extend(lines);
            sandbox.has_lines = true;
        }
    }

    /// Forgets a sandbox that has no process left, with its policies.
    pub(crate) fn remove_sandbox(&mut self, sandbox_id: u32) {
        let Some(sandbox) = self.sandboxes.remove(&sandbox_id) else {
            return;
        };
        for policy_id in sandbox.policies {
            self.retire(policy_id);
        }
    }

    /// The entries of the policies of a sandbox.
    pub(crate) fn entries_of(&self, sandbox_id: u32) -> Vec<Arc<[Entry]>> {
        let policies = self
            .sandboxes
            .get(&sandbox_id)
            .map_or(&[][..], |sandbox| sandbox.policies.as_slice());
        policies
            .iter()
            .filter_map(|id| self.policies.get(id))
            .map(|policy| Arc::clone(&policy.entries))
            .collect()
    }

    /// Writes what every line of the sandbox's processes is granted under a policy: all of it is in
    /// the kernel before a sandbox can be switched to it.
    pub(crate) fn load(
        &mut self,
        policy_id: u32,
        sandbox_id: u32,
        entries: Arc<[Entry]>,
        aliases: Vec<Alias>,
    ) -> Result<(), TableError> {
        let mut policy = PolicyBook::new(sandbox_id, entries, aliases);
        policy.changed = self.denied_before(policy_id, sandbox_id, &policy.entries);
        for chain in self.live_chains(policy_id, sandbox_id) {
            let mask = policy.mask(&line(&self.chains, &self.files, chain), &self.pins);
            policy.masked.insert(chain, mask);
            if let Err(error) = write_mask(self.tables.as_mut(), policy_id, chain, &mask) {
                self.clear_masks(policy_id, policy.masked.keys().copied().collect());
                return Err(error);
            }
        }
        self.policies.insert(policy_id, policy);
        self.left.remove(&policy_id);
        let sandbox = self.sandboxes.entry(sandbox_id).or_default();
        // A later policy finds what they have by then.
        sandbox.has_lines = false;
        sandbox.policies.retain(|id| *id != policy_id);
        sandbox.policies.push(policy_id);
        // The new policy may name paths that the old ones did not.
        sandbox.walked.clear();
        Ok(())
    }

    /// The lines that a process of the sandbox has, may have, or was granted something for.
    fn live_chains(&mut self, policy_id: u32, sandbox_id: u32) -> HashSet<u32> {
        let has_lines = (self.sandboxes.get(&sandbox_id)).is_some_and(|sandbox| sandbox.has_lines);
        let mut chains = match has_lines {
            true => HashSet::new(),
            false => (self.lines_of_processes().remove(&sandbox_id)).unwrap_or_default(),
        };
        chains.extend(
            self.left
                .get(&policy_id)
                .into_iter()
                .flat_map(HashMap::keys),
        );
        if let Some(before) = self.policies.get(&policy_id) {
            chains.extend(before.masked.keys());
        }
        let sandbox = self.sandboxes.entry(sandbox_id).or_default();
        chains.remove(&0);
        sandbox.chains.extend(&chains);
        chains.extend(&sandbox.chains);
        chains
    }

    /// Removes a policy that no sandbox is under any more.
    pub(crate) fn retire(&mut self, policy_id: u32) {
        let Some(policy) = self.policies.remove(&policy_id) else {
            return;
        };
        if let Some(sandbox) = self.sandboxes.get_mut(&policy.sandbox_id) {
            sandbox.policies.retain(|id| *id != policy_id);
        }
        self.clear_masks(policy_id, policy.masked.keys().copied().collect());
    }

    fn clear_masks(&mut self, policy_id: u32, chains: Vec<u32>) {
        for chain in chains {
            let key = MaskKey { policy_id, chain };
            self.note(|tables| tables.set_mask(key, &MaskValue::ZERO));
        }
    }

    /// Matches the path of an executed file with the policies of its sandbox: pins it at its first
    /// use, or finds that it is not what was pinned.
    pub(super) fn walk(&mut self, exec: &Exec<'_>, file_id: u32, links: &[Alias]) {
        let Some(sandbox) = self.sandboxes.get_mut(&exec.sandbox_id) else {
            return;
        };
        if sandbox.walked.len() >= WALKED_MAX {
            sandbox.walked.clear();
        }
        // A leased file may be pinned as soon as nobody can write it any more.
        if matches!(exec.basis, Basis::ReadOnly { .. }) {
            let walked = (exec.path.to_path_buf(), Instant::now());
            sandbox.walked.insert(exec.key, walked);
        }
        let name = sandbox.name.clone();
        let mut moved = false;
        for policy_id in sandbox.policies.clone() {
            let Some(policy) = self.policies.get(&policy_id) else {
                continue;
            };
            let executed = (exec.path, exec.is_path_trusted);
            let named: Vec<Named> = policy.naming(executed, links).collect();
            let known = policy.changed.get(&file_id).copied();
            let known = known.unwrap_or(GrantMask::ZERO);
            let mut changed = known;
            for Named {
                entry,
                path,
                is_trusted,
                denies,
            } in named
            {
                match self.pins.get(&path).map(|pin| pin.sha256) {
                    Some(pinned) if pinned == exec.sha256 => changed.remove(entry),
                    Some(pinned) => {
                        changed.insert(entry);
                        if !known.contains(entry) {
                            self.found_changed(exec, (policy_id, file_id), (entry, &path), pinned);
                        }
                    }
                    None if is_trusted && self.pin(exec, &path, &name) => moved = true,
                    // Whatever is there is denied.
                    None if denies => changed.insert(entry),
                    None => {}
                }
            }
            if let Some(policy) = self.policies.get_mut(&policy_id) {
                let before = policy.changed.insert(file_id, changed);
                moved |= before.unwrap_or(GrantMask::ZERO) != changed;
            }
        }
        if moved {
            self.write_masks_anew();
        }
    }

    /// Pins a path at its first use. A file that a sandbox may write is never pinned.
    fn pin(&mut self, exec: &Exec<'_>, path: &std::path::Path, sandbox: &str) -> bool {
        if !matches!(exec.basis, Basis::ReadOnly { .. }) {
            return false;
        }
        match self.pins.insert(path, exec.sha256, sandbox) {
            Ok(()) => {
                self.notices.push(Notice::Pinned {
                    sandbox_id: exec.sandbox_id,
                    path: path.to_string_lossy().into_owned(),
                    sha256: exec.sha256,
                });
                self.match_paths_anew();
                true
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a listed path is not pinned and grants nothing");
                // The next exec tries again.
                if let Some(sandbox) = self.sandboxes.get_mut(&exec.sandbox_id) {
                    sandbox.walked.remove(&exec.key);
                }
                false
            }
        }
    }

    fn found_changed(
        &mut self,
        exec: &Exec<'_>,
        (policy_id, file_id): (u32, u32),
        (index, path): (usize, &std::path::Path),
        pinned: [u8; 32],
    ) {
        let policy = self.policies.get(&policy_id);
        let entry = policy.and_then(|policy| policy.entries.get(index));
        let rule = entry.map(|entry| entry.label.clone()).unwrap_or_default();
        let key = ChangedKey { policy_id, file_id };
        self.note(|tables| tables.set_changed(key, pinned));
        self.pins.note_found(path, exec.sha256);
        self.notices.push(Notice::Changed {
            sandbox_id: exec.sandbox_id,
            rule,
            path: path.to_string_lossy().into_owned(),
            pinned,
            found: exec.sha256,
        });
    }

    /// Pins a path of a policy that is being loaded, or tells what else is pinned for it.
    pub(crate) fn pin_at_load(
        &mut self,
        sandbox_id: u32,
        (rule, path): (&str, &std::path::Path),
        sha256: [u8; 32],
    ) -> Result<[u8; 32], PinError> {
        if let Some(pin) = self.pins.get(path) {
            let pinned = pin.sha256;
            if pinned != sha256 {
                self.pins.note_found(path, sha256);
                self.notices.push(Notice::Changed {
                    sandbox_id,
                    rule: rule.to_owned(),
                    path: path.to_string_lossy().into_owned(),
                    pinned,
                    found: sha256,
                });
            }
            return Ok(pinned);
        }
        let sandbox = self.sandboxes.get(&sandbox_id);
        let name = sandbox
            .map(|sandbox| sandbox.name.clone())
            .unwrap_or_default();
        self.pins.insert(path, sha256, &name)?;
        self.match_paths_anew();
        self.notices.push(Notice::Pinned {
            sandbox_id,
            path: path.to_string_lossy().into_owned(),
            sha256,
        });
        self.write_masks_anew();
        Ok(sha256)
    }

    /// Forgets pins: the next use of each path pins what is there then.
    pub(crate) fn forget_pins(&mut self, paths: &[PathBuf]) -> Result<Vec<Pin>, PinError> {
        let denied = self.denied_by_pins();
        let forgotten = self.pins.forget(paths)?;
        for (policy_id, policy) in &mut self.policies {
            policy.changed = denied.get(policy_id).cloned().unwrap_or_default();
        }
        self.match_paths_anew();
        self.write_masks_anew();
        Ok(forgotten)
    }

    /// After pins moved: a path that was matched may mean something else now.
    fn match_paths_anew(&mut self) {
        for sandbox in self.sandboxes.values_mut() {
            sandbox.walked.clear();
        }
    }

    /// After pins moved: every mask that came out differently. A mask that cannot be written is
    /// cleared, and where even that fails the entry before stays and the error is told.
    fn write_masks_anew(&mut self) {
        for (policy_id, policy) in &mut self.policies {
            let chains: Vec<u32> = policy.masked.keys().copied().collect();
            for chain in chains {
                let mask = policy.mask(&line(&self.chains, &self.files, chain), &self.pins);
                if policy.masked.insert(chain, mask) == Some(mask) {
                    continue;
                }
                if let Err(error) = write_mask(self.tables.as_mut(), *policy_id, chain, &mask) {
                    // The next exec of that line writes it.
                    policy.masked.remove(&chain);
                    tracing::error!(%error, policy_id, "what a program is granted could not be written");
                    let key = MaskKey {
                        policy_id: *policy_id,
                        chain,
                    };
                    if let Err(error) = self.tables.set_mask(key, &MaskValue::ZERO) {
                        tracing::error!(%error, policy_id, "nor could it be cleared");
                    }
                }
            }
        }
    }
}
