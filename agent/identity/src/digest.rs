//! The SHA-256 of an open file, taken in steps so that no long file holds up a short one.

use std::{fs::File, io, os::unix::fs::FileExt, time::Instant};

use sha2::{Digest, Sha256};

/// Largest file that is hashed, in bytes: what the CPU's SHA instructions do well within the time
/// that an exec may wait.
pub const HASH_LIMIT_BYTES: u64 = 1 << 30;

/// Bytes a read: large enough that the system call does not show, small enough for the L2 cache.
pub(crate) const CHUNK_BYTES: usize = 128 << 10;

/// Why a file has no hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Reading failed.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// The file has more than [`HASH_LIMIT_BYTES`].
    #[error("the file is larger than {HASH_LIMIT_BYTES} bytes")]
    TooLarge,
    /// The time was up before the file's end.
    #[error("hashing did not finish in time")]
    Deadline,
}

/// A hash under way.
pub(crate) struct Hashing {
    hasher: Sha256,
    at_bytes: u64,
    deadline: Instant,
}

impl Hashing {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            hasher: Sha256::new(),
            at_bytes: 0,
            deadline,
        }
    }

    /// Hashes up to `budget_bytes` more of `file`, whatever its position; `None` where it has not
    /// come to the end.
    pub(crate) fn step(
        &mut self,
        file: &File,
        chunk: &mut [u8],
        budget_bytes: u64,
    ) -> Result<Option<[u8; 32]>, HashError> {
        let until = self.at_bytes.saturating_add(budget_bytes);
        while self.at_bytes < until {
            let read = match file.read_at(chunk, self.at_bytes) {
                Ok(0) => return Ok(Some(std::mem::take(&mut self.hasher).finalize().into())),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(HashError::Read(error)),
            };
            self.at_bytes += read as u64;
            if self.at_bytes > HASH_LIMIT_BYTES {
                return Err(HashError::TooLarge);
            }
            if Instant::now() > self.deadline {
                return Err(HashError::Deadline);
            }
            self.hasher.update(chunk.get(..read).unwrap_or_default());
        }
        Ok(None)
    }
}

/// Hashes `file` from its start, whatever its position; gives up at `deadline`.
///
/// # Errors
/// [`HashError`].
pub fn sha256(file: &File, deadline: Instant) -> Result<[u8; 32], HashError> {
    let mut hashing = Hashing::new(deadline);
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        if let Some(digest) = hashing.step(file, &mut chunk, HASH_LIMIT_BYTES)? {
            return Ok(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::{HashError, Hashing, sha256};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn sha256_of_abc_is_the_one_of_fips_180_4() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(b"abc").expect("written");
        let digest = sha256(&file, soon()).expect("hashed");
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(digest[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn sha256_past_the_deadline_gives_up() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(1 << 20).expect("sparse");
        let result = sha256(&file, Instant::now() - Duration::from_secs(1));
        assert!(matches!(result, Err(HashError::Deadline)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn steps_of_any_size_give_the_hash_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            budget in 1..2000_u64,
            chunk in 1..700_usize,
        ) {
            let mut file = tempfile::tempfile().expect("temporary file");
            file.write_all(&bytes).expect("written");
            let mut hashing = Hashing::new(soon());
            let mut chunk = vec![0; chunk];
            let digest = loop {
                if let Some(digest) = hashing.step(&file, &mut chunk, budget).expect("readable") {
                    break digest;
                }
            };
            let want: [u8; 32] = Sha256::digest(&bytes).into();
            prop_assert_eq!(digest, want);
        }
    }
}
