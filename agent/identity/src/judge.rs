//! What a waiting exec is about to run: known, without an identity, or a job for the hash.

use std::{
    collections::HashSet,
    fs::File,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::PathBuf,
    sync::Arc,
};

use clawd_common::{record::FileKey, verdict::Reason};
use clawd_sys::{fanotify::ExecEvent, lease};

use crate::{
    basis::{basis, find},
    book::{Basis, Exec},
    executable::{self, Kind, is_loader_name},
    gate::Shared,
    job::Job,
    lease::Held,
    resolve::{links_to, path_of},
    sandbox::Sandbox,
    settle::{hopeless, is_overlay, shows_writers},
    tables::Keys,
};

/// What becomes of an event.
pub(crate) enum Judged {
    /// All that the kernel must know is there: the exec may go on.
    Answer(ExecEvent),
    /// It waits for its hash.
    Hash(Box<Job>),
}

/// Finds out what a waiting exec is about to run.
pub(crate) fn judge(
    shared: &Shared,
    keys: &mut dyn Keys,
    sandbox: &Arc<Sandbox>,
    event: ExecEvent,
) -> Judged {
    let ExecEvent { file, pid } = event;
    let file = File::from(file);
    let answer = |file: File| {
        Judged::Answer(ExecEvent {
            file: file.into(),
            pid,
        })
    };
    // Without a key there is nothing to publish, and nothing to tell it by.
    let Ok(key) = keys.key(file.as_fd()) else {
        return answer(file);
    };
    if warm(shared, sandbox, pid, &key) {
        return answer(file);
    }
    let path = path_of(file.as_fd()).unwrap_or_default();
    match cold(shared, sandbox, &file, (&key, &path)) {
        Ok(None) => {
            shared.scripts().remember(key);
            answer(file)
        }
        Ok(Some((basis, interpreter))) => {
            let known = shared.book().hash_of(&key);
            let mut job = Job::new(Arc::clone(sandbox), (file, pid), path, key, basis);
            job.interpreter = interpreter;
            if let (Some(sha256), Basis::ReadOnly { .. }) = (known, &job.basis) {
                return Judged::Answer(finish(shared, job, Ok(sha256)));
            }
            Judged::Hash(Box::new(job))
        }
        Err(reason) => {
            tell(shared, &key_at_exec(keys, &file, key), &path, Err(reason));
            answer(file)
        }
    }
}

/// The key that the exec will have. An inode of an overlay has the times of the one beneath anew when
/// it is read (`ovl_file_accessed` in fs/overlayfs/file.c, v6.1), so the kernel's own first look at the
/// program would have the reason stand under a key that nobody asks for.
fn key_at_exec(keys: &mut dyn Keys, file: &File, key: FileKey) -> FileKey {
    if !is_overlay(&key) {
        return key;
    }
    // What cannot be read is not executed either.
    let _unreadable = file.read_at(&mut [0], 0);
    keys.key(file.as_fd()).unwrap_or(key)
}

/// A file that this sandbox executed lately and that nobody could write since: true where nothing more
/// is to be done. The path is taken to be the same; what it may mean anew is looked at soon enough.
pub(crate) fn warm(shared: &Shared, sandbox: &Sandbox, pid: i32, key: &FileKey) -> bool {
    let mut book = shared.book();
    let Some(path) = book.walked_path(sandbox.id, key) else {
        return false;
    };
    let Some(known) = book.known(key) else {
        return false;
    };
    let Some(place) = known.place.clone() else {
        return false;
    };
    let exec = Exec {
        sandbox_id: sandbox.id,
        tgid: tgid(pid),
        key: *key,
        sha256: known.sha256,
        path: &path,
        is_path_trusted: false,
        basis: Basis::ReadOnly {
            place,
            linked: known.linked,
        },
    };
    book.exec(&exec, &[]).is_ok()
}

/// Scripts that were executed lately: for their execs there is nothing to publish, the interpreter has
/// one of its own. To answer one at once withholds at most an identity, whatever has become of it.
#[derive(Default)]
pub(crate) struct Scripts(HashSet<FileKey>);

/// Scripts that are remembered.
const SCRIPTS_MAX: usize = 4096;

impl Scripts {
    fn remember(&mut self, key: FileKey) {
        if self.0.len() >= SCRIPTS_MAX {
            self.0.clear();
        }
        self.0.insert(key);
    }

    /// Whether the file was seen to be one.
    pub(crate) fn has(&self, key: &FileKey) -> bool {
        self.0.contains(key)
    }
}

/// What must be looked at once for each file: whether it can have an identity at all, and why.
/// `None` for a file that is no program itself.
type ColdFile = Option<(Basis, Option<PathBuf>)>;

fn cold(
    shared: &Shared,
    sandbox: &Sandbox,
    file: &File,
    (key, path): (&FileKey, &PathBuf),
) -> Result<ColdFile, Reason> {
    if let Some(reason) = hopeless(key) {
        return Err(reason);
    }
    let found = find(&sandbox.view, file.as_fd(), (key, path))?;
    // The lease comes before the first byte is read: a writer could hold the reader up.
    let basis = basis(shared, &found, file, key)?;
    let read_at = |bytes: &mut [u8], at_bytes| file.read_at(bytes, at_bytes);
    let interpreter = match executable::kind(read_at).map_err(|_unreadable| Reason::Unreadable)? {
        // The kernel goes on with the interpreter, which has an event of its own; what is no ELF file
        // it does not execute.
        Kind::Script { .. } | Kind::Other => return Ok(None),
        Kind::Elf { interpreter } => interpreter,
    };
    if is_loader_name(path) {
        return Err(Reason::Loader);
    }
    // A program that a sandbox wrote, or wrote once, may name any file as its interpreter, to have it
    // taken for a loader.
    let is_honest = found.is_roots_alone && matches!(basis, Basis::ReadOnly { .. });
    Ok(Some((basis, interpreter.filter(|_| is_honest))))
}

/// Publishes what came of a hash; the event that is returned may be answered.
pub(crate) fn finish(shared: &Shared, job: Job, hash: Result<[u8; 32], Reason>) -> ExecEvent {
    let result = hash.and_then(|sha256| publish(shared, &job, sha256));
    if let (Ok(()), Some(interpreter)) = (result, &job.interpreter) {
        shared.suspect_loader(&job.sandbox, interpreter);
    }
    tell(shared, &job.key, &job.path, result);
    job.into_event()
}

fn publish(shared: &Shared, job: &Job, sha256: [u8; 32]) -> Result<(), Reason> {
    let (sandbox_id, path) = (job.sandbox.id, job.path.as_path());
    let (entries, trees) = {
        let book = shared.book();
        match book.is_walked(sandbox_id, &job.key, path) {
            true => (Vec::new(), book.trees()),
            false => (book.entries_of(sandbox_id), book.trees()),
        }
    };
    // Follows links of the sandbox's view: without the lock, since that may take its time.
    let trusted = job.sandbox.trusted(&trees);
    let links: Vec<_> = entries
        .iter()
        .flat_map(|entries| links_to(&trusted, entries, path))
        .collect();
    let mut exec = Exec {
        sandbox_id,
        tgid: tgid(job.pid),
        key: job.key,
        sha256,
        path,
        is_path_trusted: !entries.is_empty() && trusted.target(path).as_deref() == Some(path),
        basis: job.basis.clone(),
    };
    let mut book = shared.book();
    // Nobody has opened it for writing since before it was hashed.
    if shows_writers(&job.key) && !lease::is_held(job.file.as_fd()).unwrap_or(false) {
        return Err(Reason::LeasedWriter);
    }
    if !matches!(exec.basis, Basis::Leased { .. }) {
        return book.exec(&exec, &links);
    }
    let lease = book.next_lease();
    exec.basis = Basis::Leased { lease };
    let held = Held {
        sandbox_id,
        tgid: exec.tgid,
        key: exec.key,
        // A second descriptor of the same open file keeps its lease while the first one is closed.
        file: job
            .file
            .try_clone()
            .map_err(|_no_descriptor| Reason::TableFull)?,
    };
    if !shared.leases.hold(lease, held) {
        return Err(Reason::TableFull);
    }
    let published = book.exec(&exec, &links);
    if published.is_err() {
        shared.leases.drop(lease);
    }
    published
}

fn tell(shared: &Shared, key: &FileKey, path: &std::path::Path, result: Result<(), Reason>) {
    let mut book = shared.book();
    if let Err(reason) = result {
        tracing::debug!(path = %path.display(), reason = reason.name(), "no identity");
        let sha256 = book.hash_of(key);
        book.tell(key, path, sha256, reason);
    }
    let notices = book.take_notices();
    drop(book);
    shared.notify(notices);
}

/// 0 for a process outside the gate's pid namespace, which no table knows.
fn tgid(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clawd_common::record::FileKey;

    use super::{SCRIPTS_MAX, Scripts};

    #[test]
    fn scripts_are_remembered_by_key_and_in_bounds() {
        let key = |ino| FileKey {
            ino,
            ..FileKey::ZERO
        };
        let mut scripts = Scripts::default();
        for ino in 0..=SCRIPTS_MAX as u64 {
            assert!(!scripts.has(&key(ino)));
            scripts.remember(key(ino));
            assert!(scripts.has(&key(ino)));
            assert!(scripts.0.len() <= SCRIPTS_MAX);
        }
    }
}
