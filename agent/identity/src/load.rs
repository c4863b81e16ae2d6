//! What is found out when a policy is loaded: pins of its paths, links of its patterns, loaders.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clawd_common::{record::FileKey, verdict::Reason};
use clawd_sys::lease;
use rustix::fs::{FileType, fstat};

use crate::{
    basis::{basis, find, has_no_writer},
    book::Basis,
    entries::{Alias, Entry, Matcher},
    executable::{Kind, is_loader_name, kind},
    gate::Shared,
    pins::hexadecimal,
    protocol::Policy,
    resolve::{expand, open_below, path_of, reopen},
    sandbox::{Sandbox, WatchError},
    settle::{hopeless, identify, shows_writers},
    tables::Keys as _,
};

/// Longest that hashing one file of a policy may take when the policy is loaded.
const LOAD_DEADLINE: Duration = Duration::from_secs(10);
/// Longest that hashing a loader may take.
const LOADER_DEADLINE: Duration = Duration::from_secs(1);

/// A policy whose files were looked at.
pub(crate) struct Prepared {
    policy_id: u32,
    entries: Arc<[Entry]>,
    aliases: Vec<Alias>,
    /// What an operator should know of it.
    warnings: Vec<String>,
}

impl Shared {
    /// Writes what a policy grants to every line of executables of a sandbox.
    pub(crate) fn load(
        &self,
        sandbox: &Sandbox,
        policy: &Policy,
    ) -> Result<Vec<String>, WatchError> {
        self.grant(sandbox, self.prepare(sandbox, policy))
    }

    /// Looks at the files that a policy names, which may take its time.
    pub(crate) fn prepare(&self, sandbox: &Sandbox, policy: &Policy) -> Prepared {
        let entries: Arc<[Entry]> = policy.entries.clone().into();
        let mut warnings = Vec::new();
        for entry in entries.iter() {
            if let Matcher::Path(path) = &entry.matcher
                && let Err(warning) = self.pin_now(sandbox, &entry.label, path)
            {
                warnings.push(format!("{}: {}: {warning}", entry.label, path.display()));
            }
        }
        let trees = self.book().trees();
        let expansion = expand(&sandbox.trusted(&trees), &entries);
        for index in expansion.unmatched {
            if let Some(entry) = entries.get(index) {
                warnings.push(format!("{}: the pattern matches no file now", entry.label));
            }
        }
        if expansion.is_cut {
            warnings.push(
                "the patterns look at too many names; links among those left out are not followed"
                    .to_owned(),
            );
        }
        Prepared {
            policy_id: policy.policy_id,
            entries,
            aliases: expansion.aliases,
            warnings,
        }
    }

    /// Writes what it grants.
    pub(crate) fn grant(
        &self,
        sandbox: &Sandbox,
        prepared: Prepared,
    ) -> Result<Vec<String>, WatchError> {
        let Prepared {
            policy_id,
            entries,
            aliases,
            warnings,
        } = prepared;
        let mut book = self.book();
        book.load(policy_id, sandbox.id, entries, aliases)?;
        let notices = book.take_notices();
        drop(book);
        self.notify(notices);
        Ok(warnings)
    }

    /// Pins a listed path to what is there when the policy is loaded, unless it is pinned. The error
    /// is for the operator.
    fn pin_now(&self, sandbox: &Sandbox, rule: &str, path: &Path) -> Result<(), String> {
        const NOT_OURS: &str = "a sandbox may write it, or a link on the way to it, so it is not pinned; list its `sha256`";
        let trees = self.book().trees();
        let Some(place) = sandbox.trusted(&trees).follow(path) else {
            let message = match open_below(sandbox.root(), path) {
                Ok(_) => NOT_OURS,
                Err(_absent) => {
                    "no such file in the sandbox's view; it is pinned when it is executed first"
                }
            };
            return Err(message.to_owned());
        };
        let told = |reason: Reason| match reason {
            Reason::WritableMount => NOT_OURS.to_owned(),
            Reason::LeasedWriter => {
                "somebody has it open for writing; push the policy again".to_owned()
            }
            Reason::Loader => "a dynamic loader never has an identity".to_owned(),
            reason => format!("it can have no identity here ({})", reason.name()),
        };
        let sha256 = self.hash_for_policy(sandbox, place.as_fd()).map_err(told)?;
        let pinned = self
            .book()
            .pin_at_load(sandbox.id, (rule, path), sha256)
            .map_err(|error| error.to_string())?;
        if pinned == sha256 {
            return Ok(());
        }
        let hex = hexadecimal::text;
        Err(format!(
            "it has changed and is granted nothing: pinned is {}, found is {}; if that is meant, \
             run `clawctl identity forget {}`",
            hex(&pinned),
            hex(&sha256),
            path.display()
        ))
    }

    /// The content of a file that no sandbox can write.
    fn hash_for_policy(
        &self,
        sandbox: &Sandbox,
        place: BorrowedFd<'_>,
    ) -> Result<[u8; 32], Reason> {
        let mut keys = self.shared_keys();
        let key: FileKey = keys.key(place).map_err(unreadable)?;
        // Before anything is opened: it may be of a file system whose server does not answer.
        if let Some(reason) = hopeless(&key) {
            return Err(reason);
        }
        let path = path_of(place).map_err(unreadable)?;
        if is_loader_name(&path) {
            return Err(Reason::Loader);
        }
        let is_file = fstat(place)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        if !is_file {
            return Err(Reason::Unreadable);
        }
        let file = reopen(place).map_err(unreadable)?;
        let found = find(&sandbox.view, file.as_fd(), (&key, &path))?;
        // Held while it is hashed, as for an exec.
        if !matches!(basis(self, &found, &file, &key)?, Basis::ReadOnly { .. }) {
            return Err(Reason::WritableMount);
        }
        let known = |key: &FileKey| self.book().hash_of(key);
        let (key, sha256) = identify(&file, &mut keys, known, Instant::now() + LOAD_DEADLINE)?;
        let mut book = self.book();
        if book.is_loader(&sha256) {
            return Err(Reason::Loader);
        }
        if shows_writers(&key) && !lease::is_held(file.as_fd()).unwrap_or(false) {
            return Err(Reason::LeasedWriter);
        }
        book.remember(key, sha256, found.place, found.linked);
        Ok(sha256)
    }

    /// Learns that an interpreter of ELF files is a dynamic loader: whatever has its content gets no
    /// identity, and executing it raises no event any more. Only what no sandbox can write is taken
    /// for one.
    pub(crate) fn learn_loader(&self, sandbox: &Sandbox, path: &Path) {
        if sandbox.is_new_loader(path) && self.try_learn_loader(sandbox, path).is_none() {
            tracing::debug!(path = %path.display(), "not learnt as a loader");
        }
    }

    fn try_learn_loader(&self, sandbox: &Sandbox, path: &Path) -> Option<()> {
        let trees = self.book().trees();
        let place = sandbox.trusted(&trees).follow(path)?;
        let mut keys = self.shared_keys();
        let key = keys.key(place.as_fd()).ok()?;
        if hopeless(&key).is_some() {
            return None;
        }
        let path = path_of(place.as_fd()).ok()?;
        let file = reopen(place.as_fd()).ok()?;
        let found = find(&sandbox.view, file.as_fd(), (&key, &path)).ok()?;
        if !found.is_roots_alone || !has_no_writer(&found, &trees) {
            return None;
        }
        let read_at = |bytes: &mut [u8], at_bytes| file.read_at(bytes, at_bytes);
        if !matches!(kind(read_at), Ok(Kind::Elf { interpreter: None })) {
            return None;
        }
        let deadline = Instant::now() + LOADER_DEADLINE;
        let (key, sha256) = identify(&file, &mut keys, |_| None, deadline).ok()?;
        let mut book = self.book();
        book.add_loader(sha256);
        book.tell(&key, &path, Some(sha256), Reason::Loader);
        drop(book);
        if let Err(error) = sandbox.ignore_loader(place) {
            tracing::debug!(path = %path.display(), %error, "a loader's execs are looked at each time");
        }
        Some(())
    }
}

fn unreadable(error: io::Error) -> Reason {
    tracing::debug!(%error, "a listed file cannot be looked at");
    Reason::Unreadable
}
