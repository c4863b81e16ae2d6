//! What one policy lets a sandbox do that another does not.
//!
//! It is told from what both come to, not from how they are written: names, order and the way in which
//! entries are cut make no difference. Of the network it is told from the compiled tables, for each program
//! that a policy lists; of files from the grants that are in effect.

mod files;
mod network;
mod regions;
mod services;
mod settings;

use serde::Serialize;

pub use self::{
    files::{FileChange, FileState},
    network::{Change, NetworkChange, Program, Who},
    settings::SettingChange,
};
use crate::{CompileError, Policy, compile};

/// The differences between an old policy and a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyDiff {
    /// What is reached, by whom; and who reaches the sandbox.
    pub network: Vec<NetworkChange>,
    /// Files and trees.
    pub files: Vec<FileChange>,
    /// Everything else.
    pub settings: Vec<SettingChange>,
}

impl PolicyDiff {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.network.is_empty() && self.files.is_empty() && self.settings.is_empty()
    }
}

/// Compares two policies.
///
/// Where nothing of the network is named, both decide alike about every attempt of every program. A path
/// stands for the content that is pinned for it, with the patterns that match the path; a pattern for
/// programs that no other entry means. Destinations that are names are not compared: they are for policies that
/// can be put in force, as [`crate::parse`] reads them, which have none.
///
/// # Errors
/// [`CompileError`]: one of them is larger than the kernel's tables allow for.
pub fn diff(old: &Policy, new: &Policy) -> Result<PolicyDiff, CompileError> {
    // The ids stand for those that a daemon would give; the result does not depend on them.
    let images = (compile(old, 1)?, compile(new, 1)?);
    Ok(PolicyDiff {
        network: network::changes((old, &images.0), (new, &images.1)),
        files: files::changes(old, new),
        settings: settings::changes(old, new),
    })
}
