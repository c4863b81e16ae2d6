//! When a file's key stands for its content: the file system tells of changes, and the last one is
//! long enough ago.

use std::{
    fs::File,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clawd_common::{record::FileKey, verdict::Reason};

use crate::{
    Keys,
    digest::{HASH_LIMIT_BYTES, HashError, sha256},
};

/// Change times move with the clock tick, at the slowest 100 a second (`CONFIG_HZ_100`). Two writes
/// within one tick leave the same change time, so a file must be older than that when hashing begins.
const TICK: Duration = Duration::from_millis(20);

/// How often a file may change under the gate before it is given up.
pub(crate) const TRIES: u32 = 3;

const EXT: u32 = 0x0000_ef53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683e;
const TMPFS: u32 = 0x0102_1994;
const OVERLAY: u32 = 0x794c_7630;
const F2FS: u32 = 0xf2f5_2010;
const BCACHEFS: u32 = 0xca45_1a4e;

/// File systems whose inodes tell of every change of content (`include/uapi/linux/magic.h`, v6.12).
/// On others (FUSE, network, images) somebody else may serve other bytes under the same key.
const TRUSTED_FILE_SYSTEMS: &[u32] = &[EXT, XFS, BTRFS, TMPFS, OVERLAY, F2FS, BCACHEFS];

/// Those of them on which a running file refuses writers (where the kernel does at all) and a lease
/// tells of them: not overlay, whose inodes stand before others.
const WRITERS_SHOW: &[u32] = &[EXT, XFS, BTRFS, TMPFS];

/// Whether the key's file system vouches for content. Asked before anything is read: a file of
/// another one may block its reader for ever.
pub(crate) fn is_trusted(key: &FileKey) -> bool {
    TRUSTED_FILE_SYSTEMS.contains(&key.fs_magic)
}

/// Whether the key's file system shows who writes a file.
pub(crate) fn shows_writers(key: &FileKey) -> bool {
    WRITERS_SHOW.contains(&key.fs_magic)
}

/// Whether the key is one of a tmpfs, where a store through a mapping moves no change time
/// (`shmem_vm_ops` in mm/shmem.c, v6.12, has no `page_mkwrite`).
pub(crate) fn is_tmpfs(key: &FileKey) -> bool {
    key.fs_magic == TMPFS
}

/// Whether the key is one of an overlay.
pub(crate) fn is_overlay(key: &FileKey) -> bool {
    key.fs_magic == OVERLAY
}

/// The reason for a file that cannot be hashed whatever one tries, by its key alone.
pub(crate) fn hopeless(key: &FileKey) -> Option<Reason> {
    if !is_trusted(key) {
        Some(Reason::FileSystem)
    } else if key.size_bytes > HASH_LIMIT_BYTES {
        Some(Reason::TooLarge)
    } else {
        None
    }
}

/// How long to wait until the change time lies more than a tick back; `None` where it does.
pub(crate) fn until_settled(key: &FileKey) -> Option<Duration> {
    let seconds = u64::try_from(key.ctime_sec).ok()?;
    let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, key.ctime_nsec))?;
    // A change time in the future (the clock was set back) cannot be waited for.
    let age = SystemTime::now().duration_since(changed).ok()?;
    TICK.checked_sub(age)
}

/// The reason of a failed hash.
pub(crate) fn reason_of(error: &HashError) -> Reason {
    tracing::debug!(%error, "no hash for a file");
    match error {
        HashError::Read(_) => Reason::Unreadable,
        HashError::TooLarge => Reason::TooLarge,
        HashError::Deadline => Reason::Deadline,
    }
}

/// Finds key and hash of `file` so that they belong together; sleeps where it must, so never
/// called while an exec of another waits for the caller.
pub(crate) fn identify(
    file: &File,
    keys: &mut dyn Keys,
    known: impl Fn(&FileKey) -> Option<[u8; 32]>,
    deadline: Instant,
) -> Result<(FileKey, [u8; 32]), Reason> {
    use std::os::fd::AsFd as _;

    let mut key_of = || {
        keys.key(file.as_fd())
            .map_err(|_unreadable| Reason::Unreadable)
    };
    let mut key = key_of()?;
    for _ in 0..TRIES {
        if let Some(reason) = hopeless(&key) {
            return Err(reason);
        }
        if let Some(sha256) = known(&key) {
            return Ok((key, sha256));
        }
        if let Some(wait) = until_settled(&key) {
            std::thread::sleep(wait);
        }
        let digest = sha256(file, deadline).map_err(|error| reason_of(&error))?;
        let after = key_of()?;
        if after == key {
            return Ok((key, digest));
        }
        key = after;
    }
    Err(Reason::ChangedWhileHashed)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io,
        os::fd::BorrowedFd,
        time::{Duration, Instant, SystemTime, UNIX_EPOCH},
    };

    use clawd_common::{record::FileKey, verdict::Reason};

    use super::{HASH_LIMIT_BYTES, identify, until_settled};
    use crate::Keys;

    /// Answers with keys of these sizes, one after the other; the last one for ever.
    struct Sizes(Vec<u64>);

    impl Keys for Sizes {
        fn key(&mut self, _file: BorrowedFd<'_>) -> io::Result<FileKey> {
            let size = if self.0.len() > 1 {
                self.0.remove(0)
            } else {
                self.0[0]
            };
            Ok(key(size))
        }
    }

    fn key(size_bytes: u64) -> FileKey {
        FileKey {
            size_bytes,
            fs_magic: super::EXT,
            ..FileKey::ZERO
        }
    }

    fn empty() -> File {
        tempfile::tempfile().expect("temporary file")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn identify_a_file_that_changes_while_hashed_is_hashed_again() {
        let mut keys = Sizes(vec![1, 2, 2]);
        let (found, _) = identify(&empty(), &mut keys, |_| None, soon()).expect("identified");
        assert_eq!(found.size_bytes, 2);
    }

    #[test]
    fn identify_a_file_that_never_rests_has_no_identity() {
        let mut keys = Sizes((1..20).collect());
        let result = identify(&empty(), &mut keys, |_| None, soon());
        assert_eq!(result, Err(Reason::ChangedWhileHashed));
    }

    #[test]
    fn identify_reads_nothing_of_a_file_that_cannot_have_a_hash() {
        for (key, reason) in [
            (FileKey::ZERO, Reason::FileSystem),
            (key(HASH_LIMIT_BYTES + 1), Reason::TooLarge),
        ] {
            assert_eq!(super::hopeless(&key), Some(reason));
        }
    }

    #[test]
    fn until_settled_waits_for_the_tick_and_not_for_the_future() {
        let at = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).expect("after 1970");
            FileKey {
                ctime_sec: i64::try_from(since.as_secs()).expect("small"),
                ctime_nsec: since.subsec_nanos(),
                ..FileKey::ZERO
            }
        };
        let now = SystemTime::now();
        assert!(until_settled(&at(now)).is_some());
        assert!(until_settled(&at(now - Duration::from_secs(1))).is_none());
        assert!(until_settled(&at(now + Duration::from_secs(60))).is_none());
    }
}
