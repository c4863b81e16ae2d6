//! A hash that belongs to a file key: nothing was written in between.

use std::{
    fs::File,
    io,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clawd_common::{record::FileKey, verdict::Reason};

use crate::digest::{HashError, sha256};

/// Change times move with the clock tick, at the slowest 100 a second (`CONFIG_HZ_100`). Two writes
/// within one tick leave the same change time, so a file must be older than that when hashing begins.
const TICK: Duration = Duration::from_millis(20);

/// How often a file may change under the gate before it is given up.
const TRIES: usize = 3;

/// File systems whose inodes tell of every change of content (`include/uapi/linux/magic.h`). On
/// others (FUSE, network, images) somebody else may serve other bytes under the same key.
const TRUSTED_FILE_SYSTEMS: &[u32] = &[
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlay
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
];

/// A key and the hash of the content that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The key.
    pub key: FileKey,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

/// Finds key and hash of `file` so that they belong together. `known` may answer for a key whose
/// hash is known already. `key_of` computes a key.
///
/// # Errors
/// The reason why the file has no identity.
pub fn identify(
    file: &File,
    mut key_of: impl FnMut(&File) -> io::Result<FileKey>,
    known: impl Fn(&FileKey) -> Option<[u8; 32]>,
    deadline: Instant,
) -> Result<Identified, Reason> {
    let mut key = key_of(file).map_err(unreadable)?;
    if !TRUSTED_FILE_SYSTEMS.contains(&key.fs_magic) {
        return Err(Reason::FileSystem);
    }
    for _ in 0..TRIES {
        if let Some(sha256) = known(&key) {
            return Ok(Identified { key, sha256 });
        }
        if let Some(wait) = until_settled(&key) {
            std::thread::sleep(wait);
        }
        let digest = sha256(file, deadline).map_err(|error| match error {
            HashError::Read(_) => Reason::Unreadable,
            HashError::TooLarge => Reason::TooLarge,
            HashError::Deadline => Reason::Deadline,
        })?;
        let after = key_of(file).map_err(unreadable)?;
        if after == key {
            return Ok(Identified {
                key,
                sha256: digest,
            });
        }
        key = after;
    }
    Err(Reason::ChangedWhileHashed)
}

fn unreadable(error: io::Error) -> Reason {
    tracing::debug!(%error, "no key for a file");
    Reason::Unreadable
}

/// How long to wait until the change time lies more than a tick back; `None` where it does.
fn until_settled(key: &FileKey) -> Option<Duration> {
    let seconds = u64::try_from(key.ctime_sec).ok()?;
    let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, key.ctime_nsec))?;
    // A change time in the future (the clock was set back) cannot be waited for.
    let age = SystemTime::now().duration_since(changed).ok()?;
    TICK.checked_sub(age)
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        fs::File,
        io,
        time::{Duration, Instant},
    };

    use clawd_common::{record::FileKey, verdict::Reason};

    use super::identify;

    fn deadline() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn key(size_bytes: u64) -> FileKey {
        FileKey {
            size_bytes,
            fs_magic: 0xef53,
            ..FileKey::ZERO
        }
    }

    fn empty() -> File {
        tempfile::tempfile().expect("temporary file")
    }

    #[test]
    fn identify_file_that_keeps_changing_has_no_identity() {
        let calls = Cell::new(0);
        let changing = |_: &File| {
            calls.set(calls.get() + 1);
            Ok(key(calls.get()))
        };
        let result = identify(&empty(), changing, |_| None, deadline());
        assert_eq!(result, Err(Reason::ChangedWhileHashed));
        assert_eq!(calls.get(), 4);
    }

    #[test]
    fn identify_known_key_is_not_hashed_again() {
        let found =
            identify(&empty(), |_| Ok(key(1)), |_| Some([7; 32]), deadline()).expect("known");
        assert_eq!(found.sha256, [7; 32]);
    }

    #[test]
    fn identify_untrusted_file_system_has_no_identity() {
        let fuse = FileKey {
            fs_magic: 0x6573_5546,
            ..FileKey::ZERO
        };
        let result = identify(&empty(), |_| Ok(fuse), |_| Some([7; 32]), deadline());
        assert_eq!(result, Err(Reason::FileSystem));
    }

    #[test]
    fn identify_unreadable_key_has_no_identity() {
        let failing = |_: &File| Err(io::Error::from_raw_os_error(9));
        assert_eq!(
            identify(&empty(), failing, |_| None, deadline()),
            Err(Reason::Unreadable)
        );
    }
}
