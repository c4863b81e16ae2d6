//! Judges one entry of `binaries`.

use std::path::{Path, PathBuf};

use crate::{
    check::{
        network::missing,
        value::{boolean, path},
    },
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field},
    file::BinaryFile,
    model::{Binary, BinaryMatcher, Filesystem, RuleAction},
    node::Scalar,
    pattern::{PathPattern, PatternError},
    problem::Problems,
};

/// Judges one entry; reports all of its mistakes. What is around it tells which files are writable, and
/// whether it denies.
pub(super) fn binary(
    entry: At<BinaryFile>,
    around: (&Filesystem, RuleAction),
    problems: &mut Problems,
) -> Option<Binary> {
    let BinaryFile {
        path,
        sha256,
        descendants,
    } = entry.value;
    let matcher = match (path, sha256) {
        (Field::Given(path), Field::Absent) => binary_path(&path, around, problems),
        (Field::Absent, Field::Given(hash)) => sha256_of(&hash, problems),
        (Field::Absent, Field::Absent) => missing(
            entry.at,
            "a binary needs `path` or `sha256`",
            "write { path: /usr/bin/curl }, or { sha256: ... } with the hash of the file",
            problems,
        ),
        (Field::Given(_), Field::Given(_)) => missing(
            entry.at,
            "a binary has both `path` and `sha256`",
            "keep one: two entries would allow either, and both in one are not enforced",
            problems,
        ),
        _ => None, // reported where it was read
    };
    let descendants = boolean(descendants, "descendants", problems);
    Some(Binary {
        matcher: matcher?,
        descendants,
    })
}

fn binary_path(
    given: &At<Scalar>,
    around: (&Filesystem, RuleAction),
    problems: &mut Problems,
) -> Option<BinaryMatcher> {
    // Braces are no wildcards here; somebody who writes one means choices, not a file's name.
    if given.value.text.contains(['*', '?', '[', '{']) {
        let pattern = pattern(given, problems)?;
        if !pattern_reaches_fixed(&pattern, around.0) {
            warn_writable(given, pattern.literal_prefix(), around, problems);
        }
        return Some(BinaryMatcher::Pattern(pattern));
    }
    let path = path(given, problems)?;
    if path.as_os_str() == "/" {
        problems.value(
            given.at,
            "`/` is not a file".to_owned(),
            "write the path of an executable",
        );
        return None;
    }
    warn_writable(given, &path, around, problems);
    Some(BinaryMatcher::Path(path))
}

/// Whether a tree that the sandbox may not write begins below the folder where a pattern begins.
fn pattern_reaches_fixed(pattern: &PathPattern, filesystem: &Filesystem) -> bool {
    let is_below = |tree: &PathBuf| tree.starts_with(pattern.literal_prefix());
    let Filesystem {
        read_only,
        read_execute,
        ..
    } = filesystem;
    read_only.iter().chain(read_execute).any(is_below)
}

/// Warns if the sandbox may write `place` and what is below it, or does not see it at all.
fn warn_writable(
    given: &At<Scalar>,
    place: &Path,
    (filesystem, action): (&Filesystem, RuleAction),
    problems: &mut Problems,
) {
    let Filesystem {
        include_workdir: _, // where it is, nobody knows yet
        read_only,
        read_execute,
        read_write,
        read_write_execute,
        deny,
        rootfs: _, // paths of binaries are those of the view, too
    } = filesystem;
    if let Some(tree) = deny.iter().find(|tree| place.starts_with(tree)) {
        problems.warn(
            given.at,
            format!(
                "{} is in {}, which `deny` takes away: it cannot be executed",
                quoted(&given.value.text),
                quoted(&tree.to_string_lossy()),
            ),
            "remove one of the two",
        );
        return;
    }
    let lists = [
        (read_only, None),
        (read_execute, None),
        (read_write, Some("read_write")),
        (read_write_execute, Some("read_write_execute")),
    ];
    // Of the trees around a place, each is in the next one; the longest decides.
    let innermost = lists
        .into_iter()
        .flat_map(|(trees, writable)| trees.iter().map(move |tree| (tree, writable)))
        .filter(|(tree, _)| place.starts_with(tree))
        .max_by_key(|(tree, _)| tree.as_os_str().len());
    if let Some((tree, Some(list))) = innermost {
        let (what, help) = match action {
            RuleAction::Allow => (
                "a file that the sandbox may write is never pinned at first use",
                "name its `sha256`",
            ),
            RuleAction::Deny => (
                "the sandbox may give what is there another name, by which it is not denied",
                "name its `sha256` too, or deny every program by leaving out `binaries`",
            ),
        };
        problems.warn(
            given.at,
            format!(
                "{} is in {}, a tree of `{list}`: {what}",
                quoted(&given.value.text),
                quoted(&tree.to_string_lossy()),
            ),
            help,
        );
    }
}

fn pattern(given: &At<Scalar>, problems: &mut Problems) -> Option<PathPattern> {
    let text = &given.value.text;
    match PathPattern::parse(text) {
        Ok(pattern) => {
            if pattern.is_unrestricted() {
                problems.warn(
                    given.at,
                    format!("pattern {} means any program of the view", quoted(text)),
                    "name the folders that hold the programs that are meant",
                );
            }
            Some(pattern)
        }
        Err(error) => {
            let kind = match error {
                PatternError::TooLong { .. }
                | PatternError::TooManyWildcards { .. }
                | PatternError::TooManyAnyDepths { .. } => PolicyErrorKind::Limit,
                _ => PolicyErrorKind::Value,
            };
            let message = format!("pattern {} {}", quoted(text), error.what());
            problems.error(given.at, kind, message, error.help());
            None
        }
    }
}

fn sha256_of(given: &At<Scalar>, problems: &mut Problems) -> Option<BinaryMatcher> {
    let text = &given.value.text;
    let parsed = parse_sha256(text);
    if parsed.is_none() {
        problems.value(
            given.at,
            format!("{} is not a SHA-256", quoted(text)),
            format!(
                "write the 64 hexadecimal digits that sha256sum prints; these are {} characters",
                text.chars().count()
            ),
        );
    }
    parsed.map(BinaryMatcher::Sha256)
}

/// Reads the 64 hexadecimal digits of a SHA-256, in either case.
#[must_use]
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    }
    Some(hash)
}
