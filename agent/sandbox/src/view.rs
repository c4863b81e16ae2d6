//! The tree of mounts that a sandbox sees.
//!
//! Three steps: [`resolve`] follows the host's symbolic links, [`plan`] decides what goes where, and
//! [`build`] does it. The first two only look.

mod build;
mod mountinfo;
mod plan;
mod resolve;

use std::path::Path;

pub(crate) use build::{build, open_plain};
pub(crate) use plan::{Access, Plan, Tree};

use crate::{
    error::{Failed, Layer},
    spec::ViewSpec,
};

/// Plans the view on the host's file system as it is now.
pub(crate) fn plan_on_host(spec: &ViewSpec) -> Result<Plan, Failed> {
    plan::plan(spec, &read_link).map_err(|error| Failed::new(Layer::MountView, error.to_string()))
}

/// Where a symbolic link leads; `None` for anything else that is there.
fn read_link(path: &Path) -> std::io::Result<Option<std::path::PathBuf>> {
    if std::fs::symlink_metadata(path)?.is_symlink() {
        std::fs::read_link(path).map(Some)
    } else {
        Ok(None)
    }
}
