//! SHA-256, computed here and not taken from the daemon.

use std::{fs, path::Path};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// The digest of `bytes`, in lower-case hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The digest of what is in the file.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of_file(path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = path.as_ref();
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(sha256(&bytes))
}
