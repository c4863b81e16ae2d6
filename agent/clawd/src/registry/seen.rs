//! What the registry learns from the exec gate, and what it tells the audit log.

use std::path::Path;

use clawd_audit::Names;
use clawd_common::{decide::GrantMask, record::FileKey, verdict::Reason};
use clawd_identity::{Identified, Identities, Outcome, Seen};
use clawd_kernel::TableError;

use super::{
    HASHES_MAX, Inner, LivePolicy, Registry, RegistryError, UNIDENTIFIED_MAX, identity, mask,
    remember,
};

impl Inner {
    /// Removes what the tables hold of a policy: by its image, or where a daemon before wrote it, by
    /// looking through all of them.
    pub(super) fn remove_from_tables(&mut self, policy: &LivePolicy) -> Result<(), TableError> {
        let Some(image) = &policy.image else {
            let live = self.policies.keys().copied().collect();
            return self.kernel.retain_policies(&live);
        };
        let matched = self
            .files
            .iter()
            .filter(|(_, (_, sha256))| !mask(&policy.grants, sha256).is_empty());
        let file_ids: Vec<u32> = matched.map(|(file_id, _)| *file_id).collect();
        self.kernel.remove_policy(image, file_ids.into_iter())
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

    /// Publishes an identity: its masks first, so that at its first exec it has all its grants.
    fn publish(&mut self, found: &Identified, path: &Path) -> Result<(), RegistryError> {
        if self.published.contains_key(&found.key) {
            return Ok(());
        }
        let file_id = self.ids.file()?;
        let masks: Vec<(u32, GrantMask)> = self
            .policies
            .iter()
            .map(|(policy_id, policy)| (*policy_id, mask(&policy.grants, &found.sha256)))
            .filter(|(_, mask)| !mask.is_empty())
            .collect();
        for (policy_id, mask) in masks {
            self.kernel.set_mask(policy_id, file_id, &mask)?;
        }
        self.kernel
            .insert_identity(&found.key, &identity(file_id, found.sha256, path))?;
        self.files
            .insert(file_id, (path.to_path_buf(), found.sha256));
        self.published.insert(found.key, file_id);
        remember(&mut self.hashes, HASHES_MAX, found.key, found.sha256);
        Ok(())
    }
}

impl Identities for Registry {
    fn known(&self, key: &FileKey) -> Option<[u8; 32]> {
        self.inner().hashes.get(key).copied()
    }

    fn seen(&self, seen: Seen) {
        let mut inner = self.inner();
        let reason = match seen.outcome {
            Outcome::Identified(found) => match inner.publish(&found, &seen.path) {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(path = %seen.path.display(), %error, "a program has no identity");
                    remember(
                        &mut inner.unidentified,
                        UNIDENTIFIED_MAX,
                        found.key,
                        (seen.path, Reason::TableFull),
                    );
                    return;
                }
            },
            Outcome::NoIdentity(reason) => reason,
        };
        tracing::debug!(sandbox_id = seen.sandbox_id, path = %seen.path.display(), reason = reason.name(), "no identity");
        if let Some(key) = seen.key {
            remember(
                &mut inner.unidentified,
                UNIDENTIFIED_MAX,
                key,
                (seen.path, reason),
            );
        }
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
        policy
            .grants
            .get(usize::try_from(grant_index).ok()?)
            .map(|grant| grant.label.clone())
    }

    fn file(&self, file_id: u32) -> Option<(String, [u8; 32])> {
        let inner = self.inner();
        inner
            .files
            .get(&file_id)
            .map(|(path, sha256)| (path.to_string_lossy().into_owned(), *sha256))
    }

    fn unidentified(&self, file: &FileKey) -> Option<(String, Reason)> {
        if self
            .own_program
            .as_ref()
            .is_some_and(|(key, _)| key == file)
        {
            let path = self.own_program.as_ref().map(|(_, path)| path.clone())?;
            return Some((path, Reason::SandboxInit));
        }
        let inner = self.inner();
        inner
            .unidentified
            .get(file)
            .map(|(path, reason)| (path.to_string_lossy().into_owned(), *reason))
    }
}
