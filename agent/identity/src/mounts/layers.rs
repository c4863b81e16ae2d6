//! Who can write to the layers of an overlay.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Mount, Place, View, WritableTrees, is_trusted_fs_type};

/// What [`layers_writable`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Layers {
    /// No sandbox can write to any layer.
    Untouched,
    /// A sandbox can write to one, or to a part of it.
    Writable,
    /// A layer could not be found; treat it as writable.
    Unknown,
}

/// The upper layer of a writable overlay could not be found, so nobody knows what it writes to.
#[derive(Debug, thiserror::Error)]
#[error("the upper layer {path:?} of the overlay at {point:?} is not known")]
pub struct UnknownLayer {
    /// The layer, as those who mounted it wrote it; empty where the kernel shows none.
    pub path: PathBuf,
    /// Where the overlay is in the view.
    pub point: PathBuf,
}

/// Whether a sandbox can write beneath an overlay, to a layer of it. `Untouched` for a mount of
/// another type, which has none.
///
/// A layer is named by the path that it was mounted by. `canonical` (`std::fs::canonicalize`)
/// follows its symbolic links on the host, whose view is `host`; container engines do use such
/// links. An overlay that was mounted in another mount namespace or in another root may mean
/// another folder by the same path, and one that was moved since has left its name to others: only
/// overlays of which the operator knows better may be trusted.
pub fn layers_writable(
    mount: &Mount,
    host: &View,
    trees: &WritableTrees,
    canonical: impl Fn(&Path) -> io::Result<PathBuf>,
) -> Layers {
    if mount.fs_type != "overlay" {
        return Layers::Untouched;
    }
    // An overlay without layers does not exist: they were not understood.
    let mut is_unknown = mount.layers.is_empty();
    for layer in &mount.layers {
        match place_of_layer(layer, host, &canonical) {
            Some(place) if trees.overlaps(&place) => return Layers::Writable,
            Some(_) => {}
            None => is_unknown = true,
        }
    }
    if is_unknown {
        Layers::Unknown
    } else {
        Layers::Untouched
    }
}

/// Where the writable overlays of a view keep what is written to them, to be added to
/// [`View::writable`].
///
/// Other sandboxes may see an upper layer as what it is on the host. `canonical` and what it cannot
/// know are those of [`layers_writable`].
///
/// # Errors
/// An upper layer cannot be found: treat every file of the host as writable.
pub fn upper_places(
    view: &View,
    host: &View,
    canonical: impl Fn(&Path) -> io::Result<PathBuf>,
) -> Result<Vec<Place>, UnknownLayer> {
    let mut places = Vec::new();
    let written = |mount: &&Mount| mount.fs_type == "overlay" && !mount.read_only;
    for mount in view.mounts().filter(written) {
        let unknown = |path: &Path| UnknownLayer {
            path: path.to_path_buf(),
            point: mount.point.clone(),
        };
        if mount.upper.is_empty() {
            return Err(unknown(Path::new("")));
        }
        for layer in &mount.upper {
            let place = place_of_layer(layer, host, &canonical);
            places.push(place.ok_or_else(|| unknown(layer))?);
        }
    }
    Ok(places)
}

fn place_of_layer(
    layer: &Path,
    host: &View,
    canonical: &impl Fn(&Path) -> io::Result<PathBuf>,
) -> Option<Place> {
    // A relative path began where somebody once was.
    if !layer.is_absolute() {
        return None;
    }
    let found = canonical(layer).ok()?;
    let mount = host.topmost(&found)?;
    // An overlay as a layer has layers of its own.
    let is_known = is_trusted_fs_type(&mount.fs_type) && mount.fs_type != "overlay";
    mount.place_of(&found).filter(|_| is_known)
}
