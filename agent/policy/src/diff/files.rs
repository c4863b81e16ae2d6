//! Files and trees that one policy shows otherwise than another.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{FileAccess, FileGrant, Policy, file_grants};

/// A file or tree that is not the same under both policies, with what is in it as far as no other
/// difference says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Where it is in the view; `None` for the workspace.
    pub path: Option<PathBuf>,
    /// What it was; `None` where it was not there.
    pub old: Option<FileState>,
    /// What it is; `None` likewise.
    pub new: Option<FileState>,
}

/// What a sandbox has of a file or tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileState {
    /// What it may do with it.
    pub access: FileAccess,
    /// What it has in place of the host's own: as what no policy has to list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_place: Option<String>,
}

/// The differences, by path.
pub(super) fn changes(old: &Policy, new: &Policy) -> Vec<FileChange> {
    let grants = (file_grants(old, true), file_grants(new, true));
    let paths: BTreeSet<Option<&Path>> = (grants.0.iter())
        .chain(&grants.1)
        .map(|grant| grant.path.as_deref())
        .collect();
    let changes = paths.into_iter().filter_map(|path| {
        let (old, new) = (state(&grants.0, path), state(&grants.1, path));
        let path = path.map(Path::to_path_buf);
        (old != new).then_some(FileChange { path, old, new })
    });
    changes.collect()
}

/// What the nearest grant at or around a path says.
fn state(grants: &[FileGrant], path: Option<&Path>) -> Option<FileState> {
    let around = grants.iter().filter(|grant| match (path, &grant.path) {
        (Some(path), Some(around)) => path.starts_with(around),
        (path, around) => path == around.as_deref(),
    });
    let nearest = around.max_by_key(|grant| {
        let path = grant.path.as_deref();
        path.map_or(0, |path| path.as_os_str().len())
    })?;
    Some(FileState {
        access: nearest.access,
        in_place: nearest.key.is_none().then(|| nearest.reason.clone()),
    })
}
