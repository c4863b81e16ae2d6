//! Programs that run already: identified again from their own inodes.
//!
//! While a file is executed the kernel refuses writers (ETXTBSY), and did so from the exec on. So
//! what the inode holds now is what was executed then, if the process still has the record of that
//! exec before and after the hash. Where the kernel does not refuse them, nothing is proved.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use clawd_common::{
    record::{AdoptedValue, ChainKey, FileKey, ProcessValue},
    verdict::Reason,
};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::{
    basis::find,
    book::{Basis, Exec, now_ns},
    executable::is_loader_name,
    gate::Shared,
    job::DEADLINE,
    protocol::Notice,
    resolve::{path_of, reopen},
    sandbox::Sandbox,
    settle::{hopeless, identify, shows_writers},
    tables::Keys,
};

/// Looks at all processes so often, since a process may fork while it is looked at.
const ROUNDS: usize = 3;

/// A hash that was taken while its file could not be written.
struct Hash {
    /// Before it was begun, in nanoseconds since boot.
    begun_ns: u64,
    result: Result<[u8; 32], Reason>,
}

/// Identifies the sandboxes' processes that have no line of executables; sandboxes take turns.
pub(crate) fn identify_running(shared: &Shared, sandboxes: &[Arc<Sandbox>]) {
    if !shared.running_files_refuse_writers {
        return;
    }
    for _ in 0..ROUNDS {
        let processes = shared.book().tables().processes();
        let mut queues: Vec<(&Sandbox, Vec<(u32, ProcessValue)>)> = Vec::new();
        for sandbox in sandboxes {
            let of_sandbox = |(_, value): &&(u32, ProcessValue)| {
                value.sandbox_id == sandbox.id && value.chain == 0
            };
            let unidentified = processes.iter().filter(of_sandbox).copied();
            queues.push((sandbox.as_ref(), unidentified.collect()));
        }
        let mut hashes: HashMap<FileKey, Hash> = HashMap::new();
        let mut found = 0_u32;
        while queues.iter().any(|(_, queue)| !queue.is_empty()) {
            for (sandbox, queue) in &mut queues {
                let Some((tgid, value)) = queue.pop() else {
                    continue;
                };
                match identify_one(shared, sandbox, (tgid, &value), &mut hashes) {
                    Ok(notice) => {
                        found += 1;
                        shared.notify(vec![notice]);
                    }
                    Err(reason) => {
                        tracing::debug!(tgid, reason = reason.name(), "not identified again");
                    }
                }
            }
        }
        if found == 0 {
            return;
        }
    }
}

fn identify_one(
    shared: &Shared,
    sandbox: &Sandbox,
    (tgid, value): (u32, &ProcessValue),
    hashes: &mut HashMap<FileKey, Hash>,
) -> Result<Notice, Reason> {
    let (place, path) = executable_of(tgid)?;
    let mut keys = shared.shared_keys();
    let key = keys
        .key(place.as_fd())
        .map_err(|_unreadable| Reason::Unreadable)?;
    // What /proc tells can be forged; what the exec hook saw cannot.
    if key != value.file {
        return Err(Reason::ExeFileDiffers);
    }
    if let Some(reason) = hopeless(&key) {
        return Err(reason);
    }
    if !shows_writers(&key) {
        return Err(Reason::WritableMount);
    }
    if is_loader_name(&path) {
        return Err(Reason::Loader);
    }
    // Its own mounts alone: clawd's first process of a sandbox executes a file of the host's.
    find(&sandbox.view, place.as_fd(), (&key, &path))?;
    // A hash of another process's file counts if this one ran all the while.
    let is_usable = |hash: &Hash| value.exec_boottime_ns < hash.begun_ns;
    let sha256 = match hashes.get(&key).filter(|hash| is_usable(hash)) {
        Some(hash) => hash.result?,
        None => {
            let begun_ns = now_ns();
            let result = hash(&place, &mut keys, value);
            hashes.insert(key, Hash { begun_ns, result });
            result?
        }
    };
    adopt(shared, sandbox, (tgid, value), (path, sha256))
}

fn hash(place: &OwnedFd, keys: &mut dyn Keys, value: &ProcessValue) -> Result<[u8; 32], Reason> {
    let file: File = reopen(place.as_fd()).map_err(|_unreadable| Reason::Unreadable)?;
    let (hashed, sha256) = identify(&file, keys, |_| None, Instant::now() + DEADLINE)?;
    if hashed == value.file {
        Ok(sha256)
    } else {
        Err(Reason::ChangedWhileHashed)
    }
}

/// The file behind `/proc/<pid>/exe`, not opened, and its path.
fn executable_of(tgid: u32) -> Result<(OwnedFd, PathBuf), Reason> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = openat(CWD, format!("/proc/{tgid}/exe"), flags, Mode::empty())
        .map_err(|_gone| Reason::Unreadable)?;
    let path = path_of(place.as_fd()).map_err(|_gone| Reason::Unreadable)?;
    Ok((place, path))
}

fn adopt(
    shared: &Shared,
    sandbox: &Sandbox,
    (tgid, value): (u32, &ProcessValue),
    (path, sha256): (PathBuf, [u8; 32]),
) -> Result<Notice, Reason> {
    let mut book = shared.book();
    let exec = Exec {
        sandbox_id: sandbox.id,
        tgid,
        key: value.file,
        sha256,
        path: &path,
        is_path_trusted: false,
        // It is not the file that is vouched for, but this process.
        basis: Basis::Leased { lease: 0 },
    };
    let file_id = book.number_for_adoption(&exec)?;
    let parent = value.parent_chain;
    let chain = book.step(sandbox.id, ChainKey { parent, file_id }, Instant::now())?;
    // It still has the record of that exec, so it ran, and refused writers, all the while.
    let is_same = book
        .tables()
        .process(tgid)
        .is_some_and(|now| now.exec_boottime_ns == value.exec_boottime_ns);
    if !is_same {
        return Err(Reason::ChangedWhileHashed);
    }
    let adopted = AdoptedValue {
        exec_boottime_ns: value.exec_boottime_ns,
        chain,
        file_id,
    };
    book.tables()
        .adopt(tgid, adopted)
        .map_err(|_full| Reason::TableFull)?;
    book.tell(&value.file, &path, Some(sha256), Reason::Identified);
    Ok(Notice::Identified {
        sandbox_id: sandbox.id,
        tgid,
        path: path.to_string_lossy().into_owned(),
        sha256,
    })
}
