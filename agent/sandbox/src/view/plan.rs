//! Decides what is mounted where, and in which order.

use std::path::{Path, PathBuf};

use super::{
    deny::{Denied, pins},
    etc::{WRITTEN, Written},
    resolve::{Link, ReadLink, ResolveError, Resolved, resolve},
};
use crate::spec::{HOME, ViewSpec};

/// Files of `/etc` that every sandbox sees where they exist and `/etc` itself is not listed, besides
/// those that are [`WRITTEN`] for it. `IMPLICIT` of `clawd-policy` says the same to operators.
const ETC: [&str; 8] = [
    "ld.so.cache",
    "nsswitch.conf",
    "protocols",
    "services",
    "ssl",
    "ca-certificates",
    "localtime",
    "alternatives",
];

/// Links of a merged `/usr`: programs and the ELF interpreter are asked for by these names, so they
/// are in the view wherever what they lead to is.
const ROOT_LINKS: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What this file puts into every view.
pub(super) fn implicit_paths() -> impl Iterator<Item = PathBuf> {
    let etc = ETC.map(|name| Path::new("/etc").join(name)).into_iter();
    let written = WRITTEN.map(|(at, _)| PathBuf::from(at)).into_iter();
    let private = ["/tmp", "/proc", HOME];
    let others = ROOT_LINKS.into_iter().chain(private).map(PathBuf::from);
    etc.chain(written).chain(others)
}

/// What a sandbox may do in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names of the policy's keys")]
pub(crate) enum Access {
    /// Read.
    ReadOnly,
    /// Read and execute.
    ReadExecute,
    /// Read and write, never execute.
    ReadWrite,
    /// Read, write and execute.
    ReadWriteExecute,
}

impl Access {
    /// The key of a policy that gives it.
    const fn key(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::ReadExecute => "read_execute",
            Self::ReadWrite => "read_write",
            Self::ReadWriteExecute => "read_write_execute",
        }
    }
}

/// A tree of the host in the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Where it is in the view.
    pub(crate) at: PathBuf,
    /// Where it is on the host; no component is a link.
    pub(crate) source: PathBuf,
    /// What may be done in it.
    pub(crate) access: Access,
}

/// One thing to put into the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A tree of the host: its number in [`Plan::trees`].
    Tree(usize),
    /// A symbolic link with this text.
    Link(PathBuf),
    /// Temporary files for all.
    Temporary,
    /// The home directory.
    Home,
    /// The minimal `/dev`.
    Devices,
    /// Processes.
    Processes,
    /// A file that is written for the sandbox.
    Written(Written),
    /// An empty file or directory that nobody can open, in place of what is there.
    Cover,
    /// The same directory once more, as a mount point, which cannot be renamed.
    Pin,
}

/// One step of building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it goes in the view.
    pub(crate) at: PathBuf,
    /// What goes there.
    pub(crate) what: What,
    /// Whether the mount point may be created: never inside a tree of the host.
    pub(crate) create: bool,
}

/// The whole view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The trees, in no order.
    pub(crate) trees: Vec<Tree>,
    /// The steps, in order: what lies inside another comes after it.
    pub(crate) entries: Vec<Entry>,
}

// === impl Plan ===

impl Plan {
    /// Whether something is put at this place itself.
    pub(crate) fn has(&self, at: &Path) -> bool {
        self.entries.iter().any(|entry| entry.at == at)
    }
}

/// Why there is no such view.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("`{}` is listed: the root cannot be, list the directories in it that are needed", .0.display())]
    Root(PathBuf),
    #[error("`{}` is listed, but `{}` is private to each sandbox: take it off the list", .0.display(), .1.display())]
    Private(PathBuf, PathBuf),
    #[error("`{path}` is denied, and `{real}` is not there, but could come to be in `{tree}`: create it, so that it can be covered, or take it off `deny`", path = .path.display(), real = .real.display(), tree = .tree.display())]
    DeniedMissing {
        path: PathBuf,
        real: PathBuf,
        tree: PathBuf,
    },
    #[error("`{path}` is denied, but leads through the link `{link}`, which the sandbox may replace: deny `{real}` instead", path = .path.display(), link = .link.display(), real = .real.display())]
    DeniedByLink {
        path: PathBuf,
        link: PathBuf,
        real: PathBuf,
    },
    #[error("`{}` is denied, but could not be looked at: {cause}", .path.display())]
    DeniedUnknown { path: PathBuf, cause: String },
    #[error("the workspace `{}` is denied: choose another one with --workspace, or take it off `deny`", .0.display())]
    DeniedWorkspace(PathBuf),
    #[error("`{}` is listed twice, as {first} and as {second}: keep one", .path.display())]
    Twice {
        path: PathBuf,
        first: &'static str,
        second: &'static str,
    },
}

/// Plans the view. Pure but for `read_link`.
pub(super) fn plan(spec: &ViewSpec, read_link: ReadLink<'_>) -> Result<Plan, PlanError> {
    let denied = Denied::new(spec, read_link)?;
    if let Some(workspace) = spec.workspace.as_ref().filter(|path| denied.hides(path)) {
        return Err(PlanError::DeniedWorkspace(workspace.clone()));
    }
    let mut trees: Vec<Tree> = Vec::new();
    let mut links: Vec<Link> = Vec::new();
    for (path, access) in listed(spec) {
        if is_implicit(path) {
            continue;
        }
        let resolved = resolve(path, read_link)?;
        check_place(path, &resolved)?;
        add_tree(&mut trees, resolved.real, access)?;
        links.extend(resolved.links);
    }
    for name in ROOT_LINKS.map(Path::new) {
        if let Ok(Some(target)) = read_link(name)
            && let Ok(resolved) = resolve(name, read_link)
            && trees.iter().any(|tree| resolved.real.starts_with(&tree.at))
        {
            links.push(Link {
                at: name.to_owned(),
                text: target,
                is_last: true,
            });
        }
    }
    let mut seen = trees.clone();
    seen.extend(etc(&trees, read_link));
    seen.retain(|tree| !denied.hides(&tree.at) && !denied.hides(&tree.source));
    links.retain(|link| !denied.hides(&link.at));
    let covers = denied.covers(&seen)?;
    let mut entries = entries(&seen, links);
    let is_taken = |at: &Path| {
        let is_listed = seen.iter().any(|tree| at.starts_with(&tree.at));
        is_listed || entries.iter().any(|(taken, _)| taken == at)
    };
    let written = WRITTEN.map(|(at, what)| (PathBuf::from(at), What::Written(what)));
    let written: Vec<_> = written
        .into_iter()
        .filter(|(at, _)| !is_taken(at))
        .collect();
    entries.extend(written);
    entries.retain(|(at, _)| !denied.hides(at));
    let fixed = seen.iter().filter(|tree| !tree.access.is_writable());
    let kept: Vec<PathBuf> = fixed.map(|tree| &tree.at).chain(&covers).cloned().collect();
    let pins = pins(&kept, &seen, &entries);
    entries.extend(covers.into_iter().map(|at| (at, What::Cover)));
    entries.extend(pins.into_iter().map(|at| (at, What::Pin)));
    Ok(Plan {
        trees: seen,
        entries: order(entries),
    })
}

/// The files of `/etc` that need not be listed.
fn etc(trees: &[Tree], read_link: ReadLink<'_>) -> Vec<Tree> {
    let places = ETC.map(|name| Path::new("/etc").join(name)).into_iter();
    let places = places.filter(|at| !trees.iter().any(|tree| at.starts_with(&tree.at)));
    let found = places.filter_map(|at| {
        let source = resolve(&at, read_link).ok()?.real;
        Some(Tree {
            at,
            source,
            access: Access::ReadOnly,
        })
    });
    found.collect()
}

fn listed(spec: &ViewSpec) -> impl Iterator<Item = (&Path, Access)> {
    let read_only = spec
        .read_only
        .iter()
        .map(|path| (path.as_path(), Access::ReadOnly));
    let execute = spec
        .read_execute
        .iter()
        .map(|path| (path.as_path(), Access::ReadExecute));
    let write = spec.read_write.iter().chain(&spec.workspace);
    let write = write.map(|path| (path.as_path(), Access::ReadWrite));
    let write_execute = spec
        .read_write_execute
        .iter()
        .map(|path| (path.as_path(), Access::ReadWriteExecute));
    read_only.chain(execute).chain(write).chain(write_execute)
}

/// Listed paths that every sandbox has as its own, whatever the host's are.
fn is_implicit(path: &Path) -> bool {
    const DEVICES: [&str; 10] = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/pts",
        "/dev/shm",
        "/dev/fd",
    ];
    path == Path::new("/tmp")
        || path == Path::new("/proc")
        || path == Path::new("/proc/self")
        || DEVICES.iter().any(|device| path == Path::new(device))
}

fn check_place(path: &Path, resolved: &Resolved) -> Result<(), PlanError> {
    if resolved.real == Path::new("/") {
        return Err(PlanError::Root(path.to_owned()));
    }
    for private in ["/dev", "/proc"].map(Path::new) {
        if resolved.real.starts_with(private) {
            return Err(PlanError::Private(path.to_owned(), private.to_owned()));
        }
    }
    if resolved.real == Path::new("/tmp") {
        return Err(PlanError::Private(path.to_owned(), resolved.real.clone()));
    }
    Ok(())
}

fn add_tree(trees: &mut Vec<Tree>, real: PathBuf, access: Access) -> Result<(), PlanError> {
    match trees.iter().find(|tree| tree.at == real) {
        None => trees.push(Tree {
            at: real.clone(),
            source: real,
            access,
        }),
        Some(tree) if tree.access == access => {}
        Some(tree) => {
            return Err(PlanError::Twice {
                path: real,
                first: tree.access.key(),
                second: access.key(),
            });
        }
    }
    Ok(())
}

/// What is in the view before anything is denied.
fn entries(trees: &[Tree], links: Vec<Link>) -> Vec<(PathBuf, What)> {
    let private = [
        ("/tmp", What::Temporary),
        ("/dev", What::Devices),
        ("/proc", What::Processes),
        (HOME, What::Home),
    ];
    private
        .map(|(at, what)| (PathBuf::from(at), what))
        .into_iter()
        // The host's directory of that name, where it is listed.
        .filter(|(at, _)| !trees.iter().any(|tree| tree.at == *at))
        .chain(
            trees
                .iter()
                .enumerate()
                .map(|(i, tree)| (tree.at.clone(), What::Tree(i))),
        )
        .chain(
            links
                .into_iter()
                .map(|link| (link.at, What::Link(link.text))),
        )
        .collect()
}

/// Outer things first; a mount point may be created where the nearest thing around it is ours.
fn order(mut all: Vec<(PathBuf, What)>) -> Vec<Entry> {
    all.sort_by(|(a, _), (b, _)| {
        let depth = |path: &Path| path.components().count();
        depth(a).cmp(&depth(b)).then_with(|| a.cmp(b))
    });
    all.dedup();
    let around = all.clone();
    all.into_iter()
        .map(|(at, what)| {
            let nearest = around
                .iter()
                .filter(|(outer, what)| at.starts_with(outer) && *outer != at && *what != What::Pin)
                .max_by_key(|(outer, _)| outer.components().count());
            let create = !matches!(nearest, Some((_, What::Tree(_))));
            Entry { at, what, create }
        })
        .collect()
}

#[cfg(test)]
mod tests;
