//! The SHA-256 of an open file.

use std::{fs::File, io, os::unix::fs::FileExt, time::Instant};

use sha2::{Digest, Sha256};

/// Largest file that is hashed, in bytes: what the CPU's SHA instructions do well within the time
/// that an exec may wait.
pub const HASH_LIMIT_BYTES: u64 = 1 << 30;

/// Bytes a read: large enough that the system call does not show, small enough for the L2 cache.
const CHUNK_BYTES: usize = 128 << 10;

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

/// Hashes `file` from its start, whatever its position; gives up at `deadline`.
///
/// # Errors
/// [`HashError`].
pub fn sha256(file: &File, deadline: Instant) -> Result<[u8; 32], HashError> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let mut at = 0_u64;
    loop {
        let read = match file.read_at(&mut chunk, at) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(HashError::Read(error)),
        };
        at += read as u64;
        if at > HASH_LIMIT_BYTES {
            return Err(HashError::TooLarge);
        }
        if Instant::now() > deadline {
            return Err(HashError::Deadline);
        }
        hasher.update(chunk.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        time::{Duration, Instant},
    };

    use super::{HashError, sha256};

    #[test]
    fn sha256_of_abc_is_the_one_of_fips_180_4() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(b"abc").expect("written");
        let digest = sha256(&file, Instant::now() + Duration::from_secs(5)).expect("hashed");
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
}
