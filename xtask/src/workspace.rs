//! Where things are in the checkout, which binaries there are.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Tells the kernel tests where `clawd` and `clawctl` are.
pub(crate) const BIN_DIR_VARIABLE: &str = "CLAWD_BIN_DIR";

/// The package whose tests need a kernel, root, and the built binaries.
pub(crate) const KERNEL_TESTS_PACKAGE: &str = "clawd-tests";

/// The checkout that this program was built from.
pub(crate) fn root() -> PathBuf {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir).to_path_buf()
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// Where the optimised `clawd` and `clawctl` are after a build.
pub(crate) fn release_dir() -> PathBuf {
    target_dir().join("release")
}

/// Whether this process may do what only root may. A process that cannot tell is not root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
