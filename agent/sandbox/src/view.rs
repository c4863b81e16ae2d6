//! The tree of mounts that a sandbox sees.
//!
//! Three steps: [`resolve`] follows the host's symbolic links, [`plan`] decides what goes where, and
//! [`build`] does it. The first two only look.

mod build;
mod cover;
mod deny;
mod etc;
mod mountinfo;
mod plan;
mod resolve;

use std::path::{Path, PathBuf};

pub(crate) use build::{build, open_plain};
pub use etc::account_name;
#[cfg(test)]
pub(crate) use plan::Tree;
pub(crate) use plan::{Access, Plan, What};

use crate::{
    error::{Failed, Layer},
    spec::ViewSpec,
};

/// Every path that a sandbox has without its being listed.
#[must_use]
pub fn implicit_paths() -> Vec<PathBuf> {
    let devices = build::NODES.iter().chain(build::IN_DEVICES);
    let devices = devices.map(|name| Path::new("/dev").join(name));
    devices.chain(plan::implicit_paths()).collect()
}

/// Plans the view on the host's file system as it is now.
///
/// With a root of its own, paths are those of the view until the very end: a link there leads to what
/// it would lead to inside.
pub(crate) fn plan_on_host(spec: &ViewSpec) -> Result<Plan, Failed> {
    let failed = |message| Failed::new(Layer::MountView, message);
    let host = Host::new(spec).map_err(failed)?;
    let mut plan = plan::plan(spec, &|path: &Path| host.read_link(path))
        .map_err(|error| failed(error.to_string()))?;
    for tree in &mut plan.trees {
        tree.source = host.path_of(&tree.source);
    }
    Ok(plan)
}

/// Where on the host the files of a view come from.
struct Host<'a> {
    root: Option<PathBuf>,
    workspace: Option<&'a Path>,
}

// === impl Host ===

impl<'a> Host<'a> {
    fn new(spec: &'a ViewSpec) -> Result<Self, String> {
        let resolved = |root: &PathBuf| {
            let wrong = |why: &dyn std::fmt::Display| {
                format!(
                    "`rootfs: {}` cannot be used: {why}; name a directory of the host",
                    root.display()
                )
            };
            let real = root.canonicalize().map_err(|error| wrong(&error))?;
            if !real.is_dir() {
                return Err(wrong(&"it is no directory"));
            }
            Ok(real)
        };
        Ok(Self {
            root: spec.rootfs.as_ref().map(resolved).transpose()?,
            workspace: spec.workspace.as_deref(),
        })
    }

    /// Follows a name of the view.
    fn read_link(&self, path: &Path) -> std::io::Result<Option<PathBuf>> {
        // Folders above the workspace are made, or it is refused to mount it there; what the root has
        // by their names is another thing.
        let is_above = |workspace: &Path| workspace != path && workspace.starts_with(path);
        if self.root.is_some() && self.workspace.is_some_and(is_above) {
            return Ok(None);
        }
        read_link(&self.path_of(path))
    }

    /// The place of a path of the view. The workspace is always the host's.
    fn path_of(&self, path: &Path) -> PathBuf {
        let is_the_hosts = |workspace: &Path| path.starts_with(workspace);
        match &self.root {
            Some(root) if !self.workspace.is_some_and(is_the_hosts) => {
                root.join(path.strip_prefix("/").unwrap_or(path))
            }
            _ => path.to_owned(),
        }
    }
}

/// Where a symbolic link leads; `None` for anything else that is there.
fn read_link(path: &Path) -> std::io::Result<Option<PathBuf>> {
    if std::fs::symlink_metadata(path)?.is_symlink() {
        std::fs::read_link(path).map(Some)
    } else {
        Ok(None)
    }
}
