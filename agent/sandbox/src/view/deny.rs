//! What a view must not show, and what must keep its name in it.
//!
//! A denied path inside a tree of the host is covered by an empty mount. A mount point cannot be
//! renamed, removed or replaced from inside, but a folder above it can: it would take the mount along
//! and leave the name free for something new. So every folder between a covered or read-only path and
//! the writable tree around it becomes a mount point too, a *pin*.

use std::path::{Path, PathBuf};

use super::{
    plan::{Access, PlanError, Tree, What},
    resolve::{Link, ReadLink, resolve_partly},
};
use crate::spec::{HOME, ViewSpec};

/// What each sandbox has of its own and not of the host.
const OWN: [&str; 4] = ["/tmp", "/dev", "/proc", HOME];

/// The denied paths of a specification, resolved on the host.
#[derive(Debug, Default)]
pub(super) struct Denied {
    paths: Vec<DeniedPath>,
}

/// One denied path.
#[derive(Debug)]
struct DeniedPath {
    /// As it was written.
    written: PathBuf,
    /// Where it leads.
    real: PathBuf,
    /// Whether there is something.
    exists: bool,
    /// The links on the way up to the last name.
    links: Vec<Link>,
}

// === impl Denied ===

impl Denied {
    /// Resolves what is denied.
    pub(super) fn new(spec: &ViewSpec, read_link: ReadLink<'_>) -> Result<Self, PlanError> {
        let resolved = |written: &PathBuf| {
            let (resolved, missing) = resolve_partly(written, read_link)?;
            if let Some(missing) = missing.as_ref().filter(|missing| !missing.is_absence()) {
                return Err(PlanError::DeniedUnknown {
                    path: written.clone(),
                    cause: missing.to_string(),
                });
            }
            Ok(DeniedPath {
                written: written.clone(),
                real: resolved.real,
                exists: missing.is_none(),
                links: resolved.links,
            })
        };
        let paths = spec.deny.iter().map(resolved);
        Ok(Self {
            paths: paths.collect::<Result<_, PlanError>>()?,
        })
    }

    /// Whether this place, a name in the view or on the host, is denied.
    pub(super) fn hides(&self, place: &Path) -> bool {
        self.paths.iter().any(|path| path.hides(place))
    }

    /// The places in the view that have to be covered, all of them mount points that are there or
    /// can be made.
    ///
    /// # Errors
    /// A denied path is not there, or leads through a link that the sandbox could replace, and
    /// something could come to be seen under its name.
    pub(super) fn covers(&self, trees: &[Tree]) -> Result<Vec<PathBuf>, PlanError> {
        let mut covers = Vec::new();
        for path in &self.paths {
            path.check(trees)?;
            for place in path.places() {
                covers.extend(trees.iter().filter_map(|tree| tree.shows(place)));
            }
            let is_inside = |outer: &Path| path.written.starts_with(outer) && path.written != outer;
            let is_own = OWN.iter().any(|own| is_inside(Path::new(own)));
            if is_own && !trees.iter().any(|tree| is_inside(&tree.at)) {
                covers.push(path.written.clone());
            }
        }
        covers.sort();
        covers.dedup();
        let all = covers.clone();
        // Beneath another cover there is nothing.
        covers.retain(|at| !all.iter().any(|outer| at != outer && at.starts_with(outer)));
        Ok(covers)
    }
}

// === impl DeniedPath ===

impl DeniedPath {
    /// The links that are the path's own last name, one leading to the next.
    fn last_links(&self) -> impl Iterator<Item = &Path> {
        let last = self.links.iter().filter(|link| link.is_last);
        last.map(|link| link.at.as_path())
    }

    /// Every name that is denied: the file, and the links to it that were named.
    fn places(&self) -> impl Iterator<Item = &Path> {
        self.last_links().chain([self.real.as_path()])
    }

    fn hides(&self, place: &Path) -> bool {
        place.starts_with(&self.written) || self.places().any(|denied| place.starts_with(denied))
    }

    fn check(&self, trees: &[Tree]) -> Result<(), PlanError> {
        let on_the_way = self.links.iter().take_while(|link| !link.is_last);
        for link in on_the_way {
            let innermost = trees
                .iter()
                .filter(|tree| tree.shows(&link.at).is_some())
                .max_by_key(|tree| tree.source.components().count());
            if innermost.is_some_and(|tree| tree.access.is_writable()) {
                return Err(PlanError::DeniedByLink {
                    path: self.written.clone(),
                    link: link.at.clone(),
                    real: self.real.clone(),
                });
            }
        }
        let around = |place: &Path| trees.iter().find(|tree| tree.shows(place).is_some());
        if !self.exists
            && let Some(tree) = around(&self.real)
        {
            return Err(PlanError::DeniedMissing {
                path: self.written.clone(),
                real: self.real.clone(),
                tree: tree.at.clone(),
            });
        }
        Ok(())
    }
}

/// The folders that have to be mount points, so that nothing above `kept` can be renamed.
///
/// `entries` is what the view is made of. Folders of the private home are the user's to rename; in
/// `/tmp` only the owner may, which is root.
pub(super) fn pins(kept: &[PathBuf], trees: &[Tree], entries: &[(PathBuf, What)]) -> Vec<PathBuf> {
    let can_be_renamed = |folder: &Path| {
        let around = entries
            .iter()
            .filter(|(at, _)| folder.starts_with(at) && folder != at)
            .max_by_key(|(at, _)| at.components().count());
        match around {
            Some((_, What::Tree(number))) => trees
                .get(*number)
                .is_some_and(|tree| tree.access.is_writable()),
            Some((_, What::Home)) => true,
            _ => false,
        }
    };
    let is_entry = |folder: &Path| entries.iter().any(|(at, _)| at == folder);
    let mut pins: Vec<PathBuf> = kept
        .iter()
        .flat_map(|kept| kept.ancestors().skip(1))
        .filter(|folder| !is_entry(folder) && can_be_renamed(folder))
        .map(Path::to_owned)
        .collect();
    pins.sort();
    pins.dedup();
    pins
}

// === impl Tree ===

impl Tree {
    /// Where the view shows what lies at `place` on the host, beneath this tree's own root.
    fn shows(&self, place: &Path) -> Option<PathBuf> {
        let below = place.strip_prefix(&self.source).ok()?;
        (!below.as_os_str().is_empty()).then(|| self.at.join(below))
    }
}

// === impl Access ===

impl Access {
    /// Whether it lets something be written.
    pub(super) const fn is_writable(self) -> bool {
        match self {
            Self::ReadOnly | Self::ReadExecute => false,
            Self::ReadWrite | Self::ReadWriteExecute => true,
        }
    }
}

#[cfg(test)]
mod tests;
