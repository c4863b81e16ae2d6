//! Finds the programs under test.

use std::{env, path::PathBuf};

use anyhow::{Context as _, bail};

/// Names the folder that holds `clawd` and `clawctl`.
pub const BIN_DIR_VARIABLE: &str = "CLAWD_BIN_DIR";

/// The path of `name` (`clawd`, `clawctl`): in the named folder, else beside the running program or
/// the folder above it, where Cargo puts tests' programs.
///
/// # Errors
/// It is in none of these.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = env::var_os(BIN_DIR_VARIABLE) {
        folders.push(PathBuf::from(folder));
    } else {
        let own = env::current_exe().context("cannot tell where this program is")?;
        folders.extend(own.ancestors().skip(1).take(2).map(PathBuf::from));
    }
    for folder in &folders {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path.canonicalize()?);
        }
    }
    bail!(
        "no {name} in {folders:?}; run `cargo build -p clawd -p clawctl`, or set {BIN_DIR_VARIABLE}"
    )
}
