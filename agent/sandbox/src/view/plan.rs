//! Decides what is mounted where, and in which order.

use std::path::{Path, PathBuf};

use super::resolve::{ReadLink, ResolveError, Resolved, resolve};
use crate::spec::{HOME, ViewSpec};

/// Files of `/etc` that every sandbox sees where they exist and `/etc` itself is not listed.
const ETC: [&str; 10] = [
    "ld.so.cache",
    "passwd",
    "group",
    "nsswitch.conf",
    "hosts",
    "resolv.conf",
    "ssl",
    "ca-certificates",
    "localtime",
    "alternatives",
];

/// Links of a merged `/usr`: programs and the ELF interpreter are asked for by these names, so they
/// are in the view wherever what they lead to is.
const ROOT_LINKS: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

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
}

impl Access {
    /// The key of a policy that gives it.
    const fn key(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::ReadExecute => "read_execute",
            Self::ReadWrite => "read_write",
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

/// Why there is no such view.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("`{}` is listed: the root cannot be, list the directories in it that are needed", .0.display())]
    Root(PathBuf),
    #[error("`{}` is listed, but `{}` is private to each sandbox: take it off the list", .0.display(), .1.display())]
    Private(PathBuf, PathBuf),
    #[error("`{}` is listed twice, as {first} and as {second}: keep one", .path.display())]
    Twice {
        path: PathBuf,
        first: &'static str,
        second: &'static str,
    },
}

/// Plans the view. Pure but for `read_link`.
pub(super) fn plan(spec: &ViewSpec, read_link: ReadLink<'_>) -> Result<Plan, PlanError> {
    let mut trees: Vec<Tree> = Vec::new();
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
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
            links.push((name.to_owned(), target));
        }
    }
    let mut seen = trees.clone();
    for name in ETC {
        let at = Path::new("/etc").join(name);
        let Ok(resolved) = resolve(&at, read_link) else {
            continue;
        };
        if !trees.iter().any(|tree| at.starts_with(&tree.at)) {
            seen.push(Tree {
                at,
                source: resolved.real,
                access: Access::ReadOnly,
            });
        }
    }
    let entries = order(&seen, links);
    Ok(Plan {
        trees: seen,
        entries,
    })
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
    read_only.chain(execute).chain(write)
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

/// Outer things first; a mount point may be created where the nearest thing around it is ours.
fn order(trees: &[Tree], links: Vec<(PathBuf, PathBuf)>) -> Vec<Entry> {
    let private = [
        ("/tmp", What::Temporary),
        ("/dev", What::Devices),
        ("/proc", What::Processes),
        (HOME, What::Home),
    ];
    let mut all: Vec<(PathBuf, What)> = private
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
        .chain(links.into_iter().map(|(at, text)| (at, What::Link(text))))
        .collect();
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
                .filter(|(outer, _)| at.starts_with(outer) && *outer != at)
                .max_by_key(|(outer, _)| outer.components().count());
            let create = !matches!(nearest, Some((_, What::Tree(_))));
            Entry { at, what, create }
        })
        .collect()
}

#[cfg(test)]
mod tests;
