//! Paths as a sandbox sees them: found from its root, with every link resolved there.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Component, Path, PathBuf},
};

use clawd_policy::{PathPattern, Segment};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};

use crate::{
    basis::{is_mount_point, is_trusted_folder},
    entries::{Alias, Entry, Matcher},
    mounts::{View, WritableTrees},
};

/// Names that the patterns of one policy may look at when it is loaded; a tree with more is matched
/// only by the paths of what is executed.
const NAMES_MAX: usize = 50_000;

/// Opens a path below a sandbox's root as the sandbox would, without opening the file itself.
pub(crate) fn open_below(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_in(root, path, ResolveFlags::NO_MAGICLINKS)
}

/// Opens a mount point below `root` without leaving it: the sandbox may have moved folders and put
/// links in their place.
pub(crate) fn place_below(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_in(root, path, ResolveFlags::NO_SYMLINKS)
}

fn open_in(root: BorrowedFd<'_>, path: &Path, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    Ok(openat2(
        root,
        below,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | resolve,
    )?)
}

/// Opens for reading what an `O_PATH` descriptor stands for.
pub(crate) fn reopen(place: BorrowedFd<'_>) -> io::Result<fs::File> {
    fs::File::open(link(place))
}

/// The path of an open file in the view that it was opened through: the kernel walks up to the root
/// of the mount tree.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let path = readlinkat(CWD, link(file), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

fn link(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Links that one path may go through, as in the kernel (`MAXSYMLINKS`, include/linux/namei.h, v6.12).
const LINKS_MAX: u32 = 40;

/// A sandbox's view, as paths are followed that decide who is granted something: no name on the way
/// is one that a sandbox could have put there.
pub(crate) struct Trusted<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) view: &'a View,
    pub(crate) trees: &'a WritableTrees,
}

impl Trusted<'_> {
    /// Follows `path`, every link included; `None` where it leads nowhere, or where a sandbox has a
    /// say in where it leads.
    pub(crate) fn follow(&self, path: &Path) -> Option<OwnedFd> {
        let mut below: Vec<OwnedFd> = Vec::new();
        let mut names: VecDeque<OsString> = parts(path);
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                below.pop();
                continue;
            }
            let folder = below.last().map_or(self.root, |folder| folder.as_fd());
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = openat(folder, &name, flags, Mode::empty()).ok()?;
            if !is_trusted_folder(self.view, folder, self.trees)
                && !is_mount_point(folder, child.as_fd())
            {
                return None;
            }
            if FileType::from_raw_mode(fstat(&child).ok()?.st_mode) == FileType::Symlink {
                links += 1;
                let target = readlinkat(&child, "", Vec::new()).ok()?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if links > LINKS_MAX {
                    return None;
                }
                if target.is_absolute() {
                    below.clear();
                }
                for name in parts(&target).into_iter().rev() {
                    names.push_front(name);
                }
            } else {
                below.push(child);
            }
        }
        below.pop()
    }

    /// Where a path leads, followed so.
    pub(crate) fn target(&self, path: &Path) -> Option<PathBuf> {
        path_of(self.follow(path)?.as_fd()).ok()
    }
}

/// The names of a path; those that change nothing are left out.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Paths of entries that lead to `path`, the path of a file that is executed, by links: such too that
/// a sandbox made, by which nothing is granted, but a change is told.
pub(crate) fn links_to(trusted: &Trusted<'_>, entries: &[Entry], path: &Path) -> Vec<Alias> {
    let named = entries.iter().enumerate().filter_map(|(index, entry)| {
        let Matcher::Path(named) = &entry.matcher else {
            return None;
        };
        let target = || path_of(open_below(trusted.root, named).ok()?.as_fd()).ok();
        let leads_there = named != path && target().as_deref() == Some(path);
        leads_there.then(|| Alias {
            entry: index,
            named: named.clone(),
            resolved: path.to_path_buf(),
            is_trusted: trusted.target(named).as_deref() == Some(path),
        })
    });
    named.collect()
}

/// What the patterns of a policy match now that is a link.
pub(crate) struct Expansion {
    pub(crate) aliases: Vec<Alias>,
    /// Indices of the patterns that match nothing now.
    pub(crate) unmatched: Vec<usize>,
    /// The limit was reached: some links may be missing.
    pub(crate) is_cut: bool,
}

/// Looks for links among what the patterns match.
pub(crate) fn expand(trusted: &Trusted<'_>, entries: &[Entry]) -> Expansion {
    let mut walk = Walk {
        trusted,
        names_left: NAMES_MAX,
        found: Vec::new(),
    };
    let mut expansion = Expansion {
        aliases: Vec::new(),
        unmatched: Vec::new(),
        is_cut: false,
    };
    for (index, entry) in entries.iter().enumerate() {
        let Matcher::Pattern(pattern) = &entry.matcher else {
            continue;
        };
        // A tree of any depth is not walked: its files are matched by their own paths.
        if pattern.segments().contains(&Segment::AnyDepth) {
            continue;
        }
        walk.found.clear();
        walk.pattern(pattern);
        if walk.found.is_empty() {
            expansion.unmatched.push(index);
        }
        for named in walk.found.drain(..) {
            match trusted.target(&named) {
                Some(resolved) if resolved != named => expansion.aliases.push(Alias {
                    entry: index,
                    named,
                    resolved,
                    is_trusted: true,
                }),
                _ => {}
            }
        }
    }
    expansion.is_cut = walk.names_left == 0;
    expansion
}

struct Walk<'a> {
    trusted: &'a Trusted<'a>,
    names_left: usize,
    found: Vec<PathBuf>,
}

impl Walk<'_> {
    fn pattern(&mut self, pattern: &PathPattern) {
        self.below(PathBuf::from("/"), pattern.segments());
    }

    fn below(&mut self, folder: PathBuf, segments: &[Segment]) {
        let Some((segment, rest)) = segments.split_first() else {
            self.found.push(folder);
            return;
        };
        if let Segment::Literal(name) = segment {
            let path = folder.join(name);
            // Only the end needs to be there to be found.
            if !rest.is_empty() || open_below(self.trusted.root, &path).is_ok() {
                self.below(path, rest);
            }
            return;
        }
        // In a folder that a sandbox can write, its own names would be found.
        let Some(place) = self.trusted.follow(&folder) else {
            return;
        };
        if !is_trusted_folder(self.trusted.view, place.as_fd(), self.trusted.trees) {
            return;
        }
        let Ok(names) = fs::read_dir(link(place.as_fd())) else {
            return;
        };
        for name in names.flatten().map(|entry| entry.file_name()) {
            if self.names_left == 0 {
                return;
            }
            self.names_left -= 1;
            if segment.matches(&name) {
                self.below(folder.join(name), rest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
