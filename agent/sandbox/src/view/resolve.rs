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
    /// Each link met, in order; none of them lies beneath another link.
    pub(super) links: Vec<Link>,
}

/// A symbolic link on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Where it is.
    pub(super) at: PathBuf,
    /// What it says.
    pub(super) text: PathBuf,
    /// Whether nothing of the path was left after it.
    pub(super) is_last: bool,
}

/// The first name that could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {source}", name = .name.display())]
pub(super) struct Missing {
    name: PathBuf,
    source: io::Error,
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
    match resolve_partly(path, read_link)? {
        (resolved, None) => Ok(resolved),
        (_, Some(Missing { name, source })) => Err(ResolveError::Missing {
            path: path.to_owned(),
            missing: name,
            source,
        }),
    }
}

/// Resolves `path` as far as there is something, and tells what is not; what comes behind that is
/// taken as it is written.
pub(super) fn resolve_partly(
    path: &Path,
    read_link: ReadLink<'_>,
) -> Result<(Resolved, Option<Missing>), ResolveError> {
    let plain = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir);
    if !plain {
        return Err(ResolveError::NotPlain(path.to_owned()));
    }
    let mut real = PathBuf::from("/");
    let mut links: Vec<Link> = Vec::new();
    let mut missing = None;
    let mut pending: VecDeque<OsString> = parts(path).collect();
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let found = match &missing {
            None => read_link(&next),
            Some(_) => Ok(None),
        };
        let target = found.unwrap_or_else(|source| {
            missing = Some(Missing {
                name: next.clone(),
                source,
            });
            None
        });
        let Some(text) = target else {
            real = next;
            continue;
        };
        if links.len() == LINKS_MAX {
            return Err(ResolveError::Loop(path.to_owned()));
        }
        if text.is_absolute() {
            real = PathBuf::from("/");
        }
        let is_last = pending.is_empty();
        pending = parts(&text).chain(pending).collect();
        links.push(Link {
            at: next,
            text,
            is_last,
        });
    }
    Ok((Resolved { real, links }, missing))
}

// === impl Missing ===

impl Missing {
    /// Whether that is certain: there is no such name, or what holds it is no directory.
    pub(super) fn is_absence(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    }
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

    use super::{ResolveError, resolve, resolve_partly};

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
            .map(|link| (link.at.to_str().expect("utf-8"), link.is_last))
            .collect();
        let want = [
            ("/abs", true),
            ("/a/up", false),
            ("/bin", false),
            ("/usr/bin/sh", true),
        ];
        assert_eq!(links, want);
    }

    #[test]
    fn resolve_partly_goes_on_behind_what_is_missing() {
        let (got, missing) = resolve_partly(Path::new("/a/up/gone/x"), &|path: &Path| {
            if path.ends_with("gone") {
                return Err(io::ErrorKind::NotFound.into());
            }
            host(path)
        })
        .expect("resolves");
        assert_eq!(got.real, Path::new("/usr/bin/gone/x"));
        assert!(missing.expect("told").is_absence());
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
