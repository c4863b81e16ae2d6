//! Which contents entries mean, and which paths they name.

use std::path::{Path, PathBuf};

use clawd_common::decide::{GRANT_BITS, GrantMask, MaskValue};
use clawd_policy::PathPattern;

use super::{Alias, Entry, Line, Matcher, PolicyBook, means};
use crate::pins::Pins;

fn entry(matcher: Matcher) -> Entry {
    Entry {
        label: "rule".to_owned(),
        matcher,
        descendants: false,
        denies: false,
    }
}

fn whole(contents: &[(u32, [u8; 32])]) -> Line {
    Line {
        contents: contents.to_vec(),
        is_whole: true,
    }
}

fn path(path: &str) -> Matcher {
    Matcher::Path(PathBuf::from(path))
}

fn pattern(text: &str) -> Matcher {
    Matcher::Pattern(PathPattern::parse(text).expect("a pattern"))
}

fn policy(matchers: &[Matcher], aliases: Vec<Alias>) -> PolicyBook {
    let entries: Vec<Entry> = matchers.iter().cloned().map(entry).collect();
    PolicyBook::new(1, entries.into(), aliases)
}

fn link(entry: usize, named: &str, resolved: &str) -> Alias {
    Alias {
        entry,
        named: PathBuf::from(named),
        resolved: PathBuf::from(resolved),
        is_trusted: true,
    }
}

fn naming(policy: &PolicyBook, path: &str, links: &[Alias]) -> Vec<(usize, String)> {
    let named = policy.naming((Path::new(path), true), links);
    named
        .map(|named| (named.entry, named.path.display().to_string()))
        .collect()
}

fn pins(list: &[(&str, u8)]) -> (tempfile::TempDir, Pins) {
    let dir = tempfile::tempdir().expect("folder");
    let mut pins = Pins::open(dir.path().join("pins.json")).expect("none yet");
    for (path, content) in list {
        let pinned = pins.insert(Path::new(path), [*content; 32], "box");
        pinned.expect("written");
    }
    (dir, pins)
}

#[test]
fn naming_is_by_path_and_pattern_and_never_by_content() {
    let policy = policy(
        &[
            Matcher::Sha256([1; 32]),
            path("/bin/a"),
            pattern("/bin/*"),
            path("/bin/b"),
            pattern("/opt/**/a"),
        ],
        Vec::new(),
    );
    let named = |index, path: &str| (index, path.to_owned());
    let want = [named(1, "/bin/a"), named(2, "/bin/a")];
    assert_eq!(naming(&policy, "/bin/a", &[]), want);
    assert_eq!(naming(&policy, "/bin/x/a", &[]), []);
    assert_eq!(naming(&policy, "/opt/x/y/a", &[]), [named(4, "/opt/x/y/a")]);
}

#[test]
fn naming_by_a_link_gives_the_name_that_the_policy_has() {
    let known = vec![
        link(0, "/bin/python", "/bin/python3"),
        link(1, "/x/1", "/y"),
    ];
    let policy = policy(&[path("/bin/python"), pattern("/x/*")], known);
    let now = [
        link(0, "/bin/python", "/bin/python4"),
        link(1, "/x/2", "/elsewhere"),
    ];
    let named = |index, path: &str| (index, path.to_owned());
    // One that was found at the load, one that leads there now.
    let want = [named(0, "/bin/python")];
    assert_eq!(naming(&policy, "/bin/python3", &now), want);
    assert_eq!(naming(&policy, "/bin/python4", &now), want);
    assert_eq!(naming(&policy, "/y", &now), [named(1, "/x/1")]);
    assert_eq!(naming(&policy, "/bin/python5", &now), []);
    // The target of a link is not named by the link's pattern itself.
    assert_eq!(naming(&policy, "/x/1", &now), [named(1, "/x/1")]);
}

#[test]
fn trust_is_that_of_the_way_by_which_a_file_is_named() {
    let links = [link(0, "/x/1", "/y"), link(0, "/x/2", "/y")].map(|alias| Alias {
        is_trusted: alias.named == Path::new("/x/1"),
        ..alias
    });
    let policy = policy(&[pattern("/x/*"), path("/y")], Vec::new());
    for trusted in [false, true] {
        let named = policy.naming((Path::new("/y"), trusted), &links);
        let found: Vec<_> = named.map(|n| (n.entry, n.path, n.is_trusted)).collect();
        let want = [(1, "/y", trusted), (0, "/x/1", true), (0, "/x/2", false)];
        assert_eq!(
            found,
            want.map(|(n, path, is)| (n, PathBuf::from(path), is))
        );
    }
}

#[test]
fn a_link_to_itself_names_a_file_once() {
    let policy = policy(&[path("/a")], vec![link(0, "/a", "/a")]);
    assert_eq!(naming(&policy, "/a", &[]).len(), 1);
}

#[test]
fn means_is_the_content_listed_or_pinned() {
    let (_dir, pins) = pins(&[("/bin/a", 1), ("/bin/b", 2), ("/opt/c", 3)]);
    let is_meant = |matcher: &Matcher, content: u8| means(matcher, &[content; 32], &pins);
    let cases = [
        (Matcher::Sha256([9; 32]), vec![9]),
        (path("/bin/a"), vec![1]),
        (path("/bin/gone"), vec![]),
        (pattern("/bin/*"), vec![1, 2]),
        (pattern("/**"), vec![1, 2, 3]),
        (pattern("/usr/*"), vec![]),
    ];
    for (matcher, want) in cases {
        let found: Vec<u8> = (0..10).filter(|n| is_meant(&matcher, *n)).collect();
        assert_eq!(found, want, "{matcher:?}");
    }
}

#[test]
fn mask_of_an_empty_line_is_empty() {
    let (_dir, pins) = pins(&[]);
    let policy = policy(&[Matcher::Sha256([1; 32])], Vec::new());
    assert_eq!(policy.mask(&whole(&[]), &pins), MaskValue::ZERO);
}

#[test]
fn mask_takes_own_from_the_running_one_and_lineage_from_its_ancestors() {
    let (_dir, pins) = pins(&[]);
    let mut matchers = vec![Matcher::Sha256([1; 32]); GRANT_BITS - 1];
    matchers.push(Matcher::Sha256([2; 32]));
    let mut policy = policy(&matchers, Vec::new());
    let entries: Vec<Entry> = policy.entries.iter().cloned().collect();
    let last = entries.into_iter().enumerate().map(|(index, entry)| Entry {
        descendants: index == 0 || index == GRANT_BITS - 1,
        ..entry
    });
    policy.entries = last.collect();
    let line = [(1, [9; 32]), (2, [2; 32]), (3, [1; 32])];
    let mut want = GrantMask::ZERO;
    want.insert(0);
    want.insert(GRANT_BITS - 1);
    let mask = policy.mask(&whole(&line), &pins);
    assert_eq!((mask.own, mask.lineage), (GrantMask::ZERO, want));
    // The running one is no ancestor of itself.
    let mask = policy.mask(&whole(&line[1..2]), &pins);
    let mut own = GrantMask::ZERO;
    own.insert(GRANT_BITS - 1);
    assert_eq!((mask.own, mask.lineage), (own, GrantMask::ZERO));
}

#[test]
fn mask_shows_what_changed_of_the_running_one_alone() {
    let (_dir, pins) = pins(&[("/a", 1)]);
    let mut policy = policy(&[path("/a")], Vec::new());
    let mut changed = GrantMask::ZERO;
    changed.insert(0);
    policy.changed.insert(5, changed);
    assert_eq!(policy.mask(&whole(&[(5, [2; 32])]), &pins).changed, changed);
    let behind = policy.mask(&whole(&[(6, [3; 32]), (5, [2; 32])]), &pins);
    assert_eq!(behind, MaskValue::ZERO);
}

#[test]
fn mask_counts_what_is_not_known_of_a_line_as_denied() {
    let (_dir, pins) = pins(&[("/a", 1)]);
    let mut policy = policy(&[path("/a"), path("/a"), path("/a")], Vec::new());
    let entries: Vec<Entry> = policy.entries.iter().cloned().collect();
    let as_is = entries.into_iter().enumerate().map(|(index, entry)| Entry {
        descendants: index < 2,
        denies: index > 0,
        ..entry
    });
    policy.entries = as_is.collect();
    let mut denies_descendants = GrantMask::ZERO;
    denies_descendants.insert(1);
    // An ancestor fell off.
    let cut = Line {
        is_whole: false,
        ..whole(&[(6, [3; 32])])
    };
    assert_eq!(policy.mask(&cut, &pins).lineage, denies_descendants);
    assert_eq!(policy.mask(&whole(&cut.contents), &pins), MaskValue::ZERO);
    // An ancestor ran what is at the path in place of what was pinned.
    let mut changed = GrantMask::ZERO;
    (0..3).for_each(|index| changed.insert(index));
    policy.changed.insert(5, changed);
    let behind = policy.mask(&whole(&[(6, [3; 32]), (5, [2; 32])]), &pins);
    assert_eq!(behind.lineage, denies_descendants);
    assert!(behind.own.is_empty() && behind.changed.is_empty());
}
