//! Programs that are too large for the memory of emulated machines: `cargo xtask vm` says that it
//! leaves this module out.

pub(crate) mod cargo;
pub(crate) mod node;
pub(crate) mod npm;
pub(crate) mod pip;

use std::path::Path;

/// Says what to install where a program is not there.
#[track_caller]
fn require(program: &str, package: &str) {
    assert!(
        Path::new(program).exists(),
        "there is no {program}; run `cargo xtask setup`, or install Debian's {package}"
    );
}
