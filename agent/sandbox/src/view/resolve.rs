//! Follows symbolic links one by one, and remembers them.
//!
//! The view has to hold the links too: `/bin/sh` is asked for by that name, and is a file of
//! `/usr/bin`.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// Most links in one path, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Reads a link: its target, or `None` for what is there and no link.
pub(super) type ReadLink<'a> = &'a dyn Fn(&Path) -> io::Result<Option<PathBuf>>;

/// A path without links, and the links that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Where it is.
    pub(super) real: PathBuf,
    /// Each link met, where it is and what it says; none of them lies beneath another link.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
}

/// Why a path has no place in a view.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("`{0}` is not an absolute path without `..`: write it out")]
    NotPlain(PathBuf),
    #[error("`{path}` is listed but not there (`{missing}`: {source}): create it, or take it off the list", path = .path.display(), missing = .missing.display())]
    Missing {
        path: PathBuf,
        missing: PathBuf,
        source: io::Error,
    },
    #[error("`{0}` leads through more than {LINKS_MAX} symbolic links")]
    Loop(PathBuf),
}

/// Resolves `path` fully.
pub(super) fn resolve(path: &Path, read_link: ReadLink<'_>) -> Result<Resolved, ResolveError> {
    let plain = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir);
    if !plain {
        return Err(ResolveError::NotPlain(path.to_owned()));
    }
    let mut real = PathBuf::from("/");
    let mut links = Vec::new();
    let mut pending: VecDeque<OsString> = parts(path).collect();
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let target = read_link(&next).map_err(|source| ResolveError::Missing {
            path: path.to_owned(),
            missing: next.clone(),
            source,
        })?;
        let Some(target) = target else {
            real = next;
            continue;
        };
        if links.len() == LINKS_MAX {
            return Err(ResolveError::Loop(path.to_owned()));
        }
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        pending = parts(&target).chain(pending).collect();
        links.push((next, target));
    }
    Ok(Resolved { real, links })
}

/// The names in a path; `.` and the root are none, `..` is one.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        path::{Path, PathBuf},
    };

    use super::{ResolveError, resolve};

    fn host(path: &Path) -> io::Result<Option<PathBuf>> {
        match path.to_str().expect("utf-8") {
            "/bin" => Ok(Some("usr/bin".into())),
            "/usr/bin/sh" => Ok(Some("dash".into())),
            "/a/up" => Ok(Some("../bin".into())),
            "/abs" => Ok(Some("/a/up/sh".into())),
            "/loop" => Ok(Some("loop".into())),
            "/gone" => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(None),
        }
    }

    #[test]
    fn resolve_follows_every_link_and_names_each() {
        let got = resolve(Path::new("/abs"), &host).expect("resolves");
        assert_eq!(got.real, Path::new("/usr/bin/dash"));
        let links: Vec<_> = got
            .links
            .iter()
            .map(|(at, _)| at.to_str().expect("utf-8"))
            .collect();
        assert_eq!(links, ["/abs", "/a/up", "/bin", "/usr/bin/sh"]);
    }

    #[test]
    fn resolve_refuses_loops_missing_files_and_paths_that_climb() {
        let of = |path: &str| resolve(Path::new(path), &host);
        assert!(matches!(of("/loop"), Err(ResolveError::Loop(_))));
        assert!(matches!(of("/gone/x"), Err(ResolveError::Missing { .. })));
        assert!(matches!(of("/a/../b"), Err(ResolveError::NotPlain(_))));
        assert!(matches!(of("a"), Err(ResolveError::NotPlain(_))));
    }
}
