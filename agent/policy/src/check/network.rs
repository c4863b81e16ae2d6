//! Judges `network_policies`.

use crate::{
    check::{endpoint::endpoint, is_title, value::path},
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field},
    file::{BinaryFile, GroupFile},
    limits::{MAX_BINARIES, MAX_ENDPOINTS, MAX_GROUP_NAME_BYTES, MAX_GROUPS},
    model::{BinaryMatcher, RuleGroup},
    node::{Key, Scalar},
    problem::{Position, Problems},
};

/// Judges every entry; sorts them by name.
pub(super) fn groups(
    entries: At<Vec<(Key, GroupFile)>>,
    problems: &mut Problems,
) -> Vec<RuleGroup> {
    if !within_limits(&entries, problems) {
        return Vec::new();
    }
    let mut groups: Vec<RuleGroup> = entries
        .value
        .into_iter()
        .map(|(key, file)| group(key, file, problems))
        .collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups
}

/// Counts before anything is expanded.
fn within_limits(entries: &At<Vec<(Key, GroupFile)>>, problems: &mut Problems) -> bool {
    let groups = entries.value.iter().map(|(_, group)| group);
    let counts = [
        ("entries", entries.value.len(), MAX_GROUPS),
        (
            "endpoints",
            groups.clone().map(|group| len(&group.endpoints)).sum(),
            MAX_ENDPOINTS,
        ),
        (
            "`binaries` entries",
            groups.map(|group| len(&group.binaries)).sum(),
            MAX_BINARIES,
        ),
    ];
    let mut within = true;
    for (what, count, limit) in counts {
        if count > limit {
            within = false;
            problems.error(
                entries.at,
                PolicyErrorKind::Limit,
                format!("`network_policies` has {count} {what}, the limit is {limit}"),
                "merge entries that say the same, or list prefixes in place of addresses",
            );
        }
    }
    within
}

fn len<T>(list: &Field<Vec<T>>) -> usize {
    match list {
        Field::Given(list) => list.value.len(),
        Field::Absent | Field::Bad => 0,
    }
}

fn group(key: Key, file: GroupFile, problems: &mut Problems) -> RuleGroup {
    let at = key.at;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if key.text.is_empty() || key.text.len() > MAX_GROUP_NAME_BYTES || !key.text.chars().all(fits) {
        problems.value(
            at,
            format!("{} is not a name for a network policy", quoted(&key.text)),
            "audit records show it: use up to 64 ASCII letters, digits, `_`, `-` and `.`; \
             a text for people goes into `name`",
        );
    }
    for (list, absent, effect) in [
        (
            "endpoints",
            is_empty(&file.endpoints),
            "it allows no destination",
        ),
        ("binaries", is_empty(&file.binaries), "it allows nobody"),
    ] {
        if absent {
            problems.warn(
                at,
                format!(
                    "network policy {} has no `{list}`: {effect}",
                    quoted(&key.text)
                ),
                format!("add an entry to `{list}`, or remove the network policy"),
            );
        }
    }
    RuleGroup {
        title: file.name.given().map(|name| title(name, problems)),
        endpoints: each(file.endpoints, |entry| endpoint(entry, problems)),
        binaries: each(file.binaries, |entry| binary(entry, problems)),
        name: key.text,
    }
}

/// Whether a list is absent or empty; one of the wrong shape has been reported already.
fn is_empty<T>(list: &Field<Vec<T>>) -> bool {
    match list {
        Field::Absent => true,
        Field::Bad => false,
        Field::Given(list) => list.value.is_empty(),
    }
}

fn each<T, U>(list: Field<Vec<T>>, mut check: impl FnMut(T) -> Option<U>) -> Vec<U> {
    let entries = list.given().map(|list| list.value).unwrap_or_default();
    entries.into_iter().filter_map(&mut check).collect()
}

fn title(name: At<Scalar>, problems: &mut Problems) -> String {
    if !is_title(&name.value.text) {
        problems.value(
            name.at,
            format!("{} cannot be a `name`", quoted(&name.value.text)),
            "use at most 200 characters on one line, none of them invisible",
        );
    }
    name.value.text
}

fn binary(entry: At<BinaryFile>, problems: &mut Problems) -> Option<BinaryMatcher> {
    let BinaryFile { path, sha256 } = entry.value;
    match (path, sha256) {
        (Field::Given(path), Field::Absent) => binary_path(&path, problems),
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
    }
}

/// Reports keys that are missing or exclude each other.
pub(super) fn missing<T>(
    at: Position,
    message: &str,
    help: &str,
    problems: &mut Problems,
) -> Option<T> {
    problems.error(at, PolicyErrorKind::Missing, message.to_owned(), help);
    None
}

fn binary_path(given: &At<Scalar>, problems: &mut Problems) -> Option<BinaryMatcher> {
    let text = &given.value.text;
    if text.contains(['*', '?', '[', '{']) {
        problems.error(
            given.at,
            PolicyErrorKind::NotEnforced,
            format!("pattern {} is not enforced by this version", quoted(text)),
            "list each binary by its path",
        );
        return None;
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
    Some(BinaryMatcher::Path(path))
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

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
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
