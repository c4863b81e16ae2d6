//! What the numbers in events stand for.

use clawd_audit::{Names, SeenFile};
use clawd_common::{
    record::{ChangedKey, FileKey, PATH_BYTES},
    verdict::Reason,
};
use clawd_kernel::TableError;

use super::{Inner, LivePolicy, Registry};

impl Inner {
    /// Removes what the tables hold of a policy: by its image, or where a daemon before wrote it, by
    /// looking through all of them.
    pub(super) fn remove_from_tables(&mut self, policy: &LivePolicy) -> Result<(), TableError> {
        match &policy.image {
            Some(image) => self.kernel.remove_policy(image),
            None => {
                let live = self.policies.keys().copied().collect();
                self.kernel.retain_policies(&live)
            }
        }
    }

    /// A policy that is in force or was lately.
    fn policy(&self, policy_id: u32) -> Option<&LivePolicy> {
        let retired = || {
            self.retired_policies
                .iter()
                .find(|(id, _)| *id == policy_id)
                .map(|(_, policy)| policy)
        };
        self.policies.get(&policy_id).or_else(retired)
    }
}

impl Names for Registry {
    fn sandbox(&self, id: u32) -> Option<String> {
        self.inner().sandboxes.get(&id).cloned()
    }

    fn generation(&self, policy_id: u32) -> Option<u64> {
        self.inner()
            .policy(policy_id)
            .map(|policy| policy.generation)
    }

    fn grant(&self, policy_id: u32, grant_index: u32) -> Option<String> {
        let inner = self.inner();
        let policy = inner.policy(policy_id)?;
        policy.labels.get(&grant_index).cloned()
    }

    fn seen(&self, file: &FileKey) -> Option<SeenFile> {
        if let Some((key, path)) = &self.own_program
            && key == file
        {
            return Some(SeenFile {
                path: path.clone(),
                sha256: None,
                reason: Reason::SandboxInit,
            });
        }
        let seen = self.reports.seen(file)?;
        let is_hashed = seen.sha256 != [0; 32];
        Some(SeenFile {
            path: text(&seen.path, seen.path_len_bytes),
            sha256: is_hashed.then_some(seen.sha256),
            reason: Reason::from_raw(u8::try_from(seen.reason_raw).unwrap_or(0)),
        })
    }

    fn file(&self, file_id: u32) -> Option<(String, [u8; 32])> {
        let file = self.reports.file(file_id)?;
        Some((text(&file.path, file.path_len_bytes), file.sha256))
    }

    fn lineage(&self, chain: u32) -> Vec<u32> {
        let Some(line) = self.reports.lineage(chain) else {
            return Vec::new();
        };
        let count = usize::try_from(line.count).unwrap_or(usize::MAX);
        line.files.into_iter().take(count).collect()
    }

    fn pinned(&self, policy_id: u32, file_id: u32) -> Option<[u8; 32]> {
        self.reports.pinned(ChangedKey { policy_id, file_id })
    }
}

fn text(path: &[u8; PATH_BYTES], len_bytes: u32) -> String {
    let len = usize::try_from(len_bytes).unwrap_or(PATH_BYTES);
    String::from_utf8_lossy(path.get(..len).unwrap_or(path)).into_owned()
}
