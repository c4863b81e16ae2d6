//! Keeps package installations from starting services, by Debian's `policy-rc.d`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

const POLICY: &str = "/usr/sbin/policy-rc.d";
/// 101 is "action forbidden by policy" to `invoke-rc.d` and `deb-systemd-invoke`.
const FORBID: &str =
    "#!/bin/sh\n# Written by `cargo xtask setup` for as long as it runs.\nexit 101\n";

/// While it lives, no package starts a service; then the machine's own policy is back.
pub(super) struct ServiceGuard {
    policy: PathBuf,
    saved: PathBuf,
    restored: bool,
}

// === impl ServiceGuard ===

impl ServiceGuard {
    /// Forbids services to start.
    ///
    /// # Errors
    /// The policy file cannot be written; then nothing is to be installed.
    pub(super) fn new() -> anyhow::Result<Self> {
        println!("set-up: {POLICY} keeps new services from starting until this is done");
        Self::at(Path::new(POLICY))
    }

    fn at(policy: &Path) -> anyhow::Result<Self> {
        let saved = policy.with_extension("d.saved-by-clawd");
        // A killed run leaves both files: then the saved one is the machine's, and the other is ours.
        if policy.exists()
            && !saved.exists()
            && fs::read_to_string(policy).ok().as_deref() != Some(FORBID)
        {
            fs::rename(policy, &saved)
                .with_context(|| format!("cannot set {} aside", policy.display()))?;
        }
        let guard = Self {
            policy: policy.to_path_buf(),
            saved,
            restored: false,
        };
        fs::write(policy, FORBID).with_context(|| format!("cannot write {}", policy.display()))?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }

    /// Puts the machine's own policy back.
    ///
    /// # Errors
    /// The file system refuses; the text names the file to repair.
    pub(super) fn restore(mut self) -> anyhow::Result<()> {
        self.restored = true;
        self.put_back()
            .with_context(|| format!("cannot restore {}; delete it", self.policy.display()))
    }

    fn put_back(&self) -> std::io::Result<()> {
        match fs::rename(&self.saved, &self.policy) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_file(&self.policy),
            other => other,
        }
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        if self.restored {
            return;
        }
        if let Err(error) = self.put_back() {
            eprintln!(
                "warning: cannot restore {} ({error}); delete it",
                self.policy.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_of_the_machine_is_back_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("policy-rc.d");
        fs::write(&policy, "its own").unwrap();
        let guard = ServiceGuard::at(&policy).unwrap();
        assert_eq!(fs::read_to_string(&policy).unwrap(), FORBID);
        guard.restore().unwrap();
        assert_eq!(fs::read_to_string(&policy).unwrap(), "its own");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn policy_is_gone_afterwards_where_there_was_none() {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("policy-rc.d");
        drop(ServiceGuard::at(&policy).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn policy_survives_a_run_that_was_killed() {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("policy-rc.d");
        fs::write(&policy, "its own").unwrap();
        std::mem::forget(ServiceGuard::at(&policy).unwrap());
        ServiceGuard::at(&policy).unwrap().restore().unwrap();
        assert_eq!(fs::read_to_string(&policy).unwrap(), "its own");
    }

    #[test]
    fn our_own_leftover_is_not_taken_for_the_policy_of_the_machine() {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("policy-rc.d");
        std::mem::forget(ServiceGuard::at(&policy).unwrap());
        ServiceGuard::at(&policy).unwrap().restore().unwrap();
        assert!(!policy.exists());
    }
}
