//! The embedded eBPF object.

use sha2::{Digest, Sha256};

/// The object, aligned as the ELF reader needs it.
pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clawd.bpf.o"));

/// SHA-256 of the embedded object, by which a daemon knows its own pins.
#[must_use]
pub fn object_sha256() -> [u8; 32] {
    Sha256::digest(OBJECT).into()
}
