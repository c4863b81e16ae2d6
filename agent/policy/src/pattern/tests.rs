//! Patterns by example, and against a reference that shares nothing with them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{PathPattern, PatternError, Segment};
use crate::limits::MAX_PATH_BYTES;

fn pattern(text: &str) -> PathPattern {
    PathPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn matches_as_documented() {
    for (text, yes, no) in [
        (
            "/bin/sh",
            &["/bin/sh"][..],
            &["/bin/sh2", "/bin", "/bin/sh/x"][..],
        ),
        (
            "/bin/*",
            &["/bin/a", "/bin/.a", "/bin/größe"],
            &["/bin", "/bin/", "/bin/a/b"],
        ),
        (
            "/bin/a*c",
            &["/bin/ac", "/bin/abc", "/bin/acc"],
            &["/bin/ab", "/bin/a/c"],
        ),
        (
            "/bin/*a*b*",
            &["/bin/ab", "/bin/xaybz"],
            &["/bin/ba", "/bin/a"],
        ),
        (
            "/bin/?",
            &["/bin/a", "/bin/?"],
            &["/bin/", "/bin/ab", "/bin/ä"],
        ),
        ("/bin/??", &["/bin/ä", "/bin/ab"], &["/bin/a"]),
        (
            "/bin/python3.[0-9]",
            &["/bin/python3.9"],
            &["/bin/python3.10", "/bin/python3."],
        ),
        (
            "/bin/[!a-c]",
            &["/bin/d", "/bin/-"],
            &["/bin/a", "/bin/c", "/bin/"],
        ),
        ("/bin/[]!-]", &["/bin/]", "/bin/!", "/bin/-"], &["/bin/["]),
        ("/bin/[!]]", &["/bin/["], &["/bin/]"]),
        ("/bin/[[]", &["/bin/["], &["/bin/]", "/bin/[[]"]),
        ("/bin/[*]x", &["/bin/*x"], &["/bin/ax"]),
        ("/bin/a]*", &["/bin/a]", "/bin/a]b"], &["/bin/a"]),
        (
            "/bin/[+-9]x",
            &["/bin/.x", "/bin/0x"],
            &["/bin//x", "/bin/x"],
        ),
        (
            "/**",
            &["/", "/a", "/a/b/c", "/a/.git/c"],
            &["a", "", "//", "/a/", "/a/../b", "/a/./b"],
        ),
        ("/a/**", &["/a", "/a/b", "/a/b/c"], &["/ab", "/", "/b/a"]),
        ("/**/x", &["/x", "/a/x", "/a/b/x"], &["/ax", "/x/a", "/"]),
        (
            "/a/**/x",
            &["/a/x", "/a/b/x", "/a/x/x"],
            &["/ax", "/a/b", "/b/a/x"],
        ),
        (
            "/**/a/**/b",
            &["/a/b", "/x/a/y/b", "/a/a/b/b"],
            &["/b/a", "/a", "/b"],
        ),
        ("/a/**/**/b", &["/a/b", "/a/x/y/b"], &["/a/x"]),
        ("/*/**/*", &["/a/b", "/a/b/c"], &["/a", "/"]),
    ] {
        let pattern = pattern(text);
        for path in yes {
            assert!(pattern.matches(Path::new(path)), "{text} and {path}");
        }
        for path in no {
            assert!(!pattern.matches(Path::new(path)), "{text} and {path}");
        }
    }
}

#[test]
fn matches_bytes_that_are_no_text() {
    let path = PathBuf::from(OsString::from_vec(b"/bin/\xff\xfe".to_vec()));
    for (text, want) in [
        ("/bin/??", true),
        ("/bin/*", true),
        ("/bin/[!a][!a]", true),
        ("/**", true),
        ("/bin/?", false),
        ("/bin/\u{fffd}*", false),
    ] {
        assert_eq!(pattern(text).matches(&path), want, "{text}");
    }
}

#[test]
fn segments_judge_one_name() {
    let pattern = pattern("/opt/py*/**/x");
    let [opt, name, any_depth, x] = pattern.segments() else {
        panic!("not four segments");
    };
    assert_eq!(*opt, Segment::Literal("opt".to_owned()));
    assert!(matches!(name, Segment::Pattern(_)));
    assert_eq!(*any_depth, Segment::AnyDepth);
    assert!(name.matches(OsStr::new("python")) && !name.matches(OsStr::new("ruby")));
    assert!(any_depth.matches(OsStr::new("anything")));
    assert!(x.matches(OsStr::new("x")) && !x.matches(OsStr::new("xx")));
    for no_name in ["", ".", "..", "py/x", "/"] {
        assert!(!name.matches(OsStr::new(no_name)), "{no_name}");
        assert!(!any_depth.matches(OsStr::new(no_name)), "{no_name}");
    }
}

#[test]
fn literal_prefix_is_the_folder_before_the_first_wildcard() {
    for (text, want) in [
        ("/usr/bin/curl", "/usr/bin"),
        ("/curl", "/"),
        ("/usr/bin/*", "/usr/bin"),
        ("/usr/b*/curl", "/usr"),
        ("/opt/**/node", "/opt"),
        ("/**", "/"),
        ("/a/b/[*]", "/a/b"),
    ] {
        assert_eq!(pattern(text).literal_prefix(), Path::new(want), "{text}");
    }
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    let shown = |text: &str| PathPattern::parse(text).expect_err(text).to_string();
    assert_eq!(
        shown("/usr/{a,b}"),
        "the pattern holds `{` or `}`; choices are not read: write two entries, one for each"
    );
    assert_eq!(
        shown("/usr/***"),
        "the pattern has `**` beside other characters of a name; \
         write `*` for any part of a name, or `/**/` for any number of folders"
    );
    for text in [
        "", "/", "a", "/a/", "/./*", "/..", "/[", "/[]", "/[!]", "/[a", "/*\n", "/}",
    ] {
        assert!(shown(text).contains("; "), "{text}");
    }
    let longest = format!("/{}", "x".repeat(MAX_PATH_BYTES - 1));
    assert!(PathPattern::parse(&longest).is_ok());
    let bytes = MAX_PATH_BYTES + 1;
    let error = PathPattern::parse(&(longest + "x"));
    assert_eq!(error, Err(PatternError::TooLong { bytes }));
    assert!(PathPattern::parse(&"/*".repeat(16)).is_ok());
    let found = 17;
    let error = PathPattern::parse(&"/*".repeat(found));
    assert_eq!(error, Err(PatternError::TooManyWildcards { found }));
    assert!(PathPattern::parse(&"/**".repeat(4)).is_ok());
    let found = 5;
    let error = PathPattern::parse(&"/**".repeat(found));
    assert_eq!(error, Err(PatternError::TooManyAnyDepths { found }));
}

#[test]
fn serde_passes_the_text_and_checks_it() {
    let text = "/opt/**/node-[0-9]*";
    let json = serde_json::to_string(&pattern(text)).expect("serializes");
    assert_eq!(json, format!("\"{text}\""));
    let back: PathPattern = serde_json::from_str(&json).expect("deserializes");
    assert_eq!(back, pattern(text));
    assert_eq!((back.as_str(), back.to_string().as_str()), (text, text));
    for wrong in ["\"bin/*\"", "\"/{a}\"", "\"/a**\"", "1"] {
        assert!(
            serde_json::from_str::<PathPattern>(wrong).is_err(),
            "{wrong}"
        );
    }
}

/// What takes a backtracking matcher until the end of time.
#[test]
fn no_pattern_takes_long() {
    let names = "/a".repeat(MAX_PATH_BYTES / 2);
    let letters = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
    let start = Instant::now();
    for (text, path) in [
        (format!("/{}b", "a*".repeat(2000)), &letters),
        (format!("/{}b", "*a".repeat(2000)), &letters),
        (format!("/{}b", "?*".repeat(2000)), &letters),
        (format!("/{}b", "[a-z]*".repeat(600)), &letters),
        (format!("/{}b", "**/a/a/".repeat(4)), &names),
        (format!("/{}b", "**/*/*/".repeat(4)), &names),
        (format!("/**/{}b", "a/".repeat(1000)), &names),
        (format!("/*{}b", "a".repeat(2000)), &letters),
    ] {
        assert!(!pattern(&text).matches(Path::new(path)), "{text}");
    }
    // Far below a second without optimisation; the limit leaves room for busy machines.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

// === The reference: what each wildcard may stand for, tried one after the other ===

fn reference(pattern: &[&str], names: &[&[u8]]) -> bool {
    match pattern {
        [] => names.is_empty(),
        ["**", rest @ ..] => (0..=names.len()).any(|taken| reference(rest, &names[taken..])),
        [one, rest @ ..] => names.split_first().is_some_and(|(name, others)| {
            reference_name(one.as_bytes(), name) && reference(rest, others)
        }),
    }
}

fn reference_name(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|taken| reference_name(rest, &name[taken..])),
        [b'[', rest @ ..] => {
            let negated = rest[0] == b'!';
            let set = &rest[usize::from(negated)..];
            let len = 1 + set[1..]
                .iter()
                .position(|byte| *byte == b']')
                .expect("closed");
            let Some((first, others)) = name.split_first() else {
                return false;
            };
            let (mut at, mut is_member) = (0, false);
            while at < len {
                let is_range = at + 2 < len && set[at + 1] == b'-';
                let last = if is_range { set[at + 2] } else { set[at] };
                is_member |= set[at] <= *first && *first <= last;
                at += if is_range { 3 } else { 1 };
            }
            is_member != negated && reference_name(&set[len + 1..], others)
        }
        [one, rest @ ..] => name.split_first().is_some_and(|(first, others)| {
            (*one == b'?' || one == first) && reference_name(rest, others)
        }),
    }
}

/// Few letters, so that patterns and paths meet.
fn pattern_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "ab", "*", "*", "*", "?", "[ab]", "[!a]", "[a-b]", "[]a]", "[!-b]", ".", "ä",
    ]);
    let name = prop::collection::vec(piece, 1..3).prop_map(|pieces| pieces.concat());
    let segment = prop_oneof![3 => name, 1 => Just("**".to_owned())];
    prop::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn path_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"ab",
        b"ba",
        b".",
        b"]",
        b"-",
        b"\xff",
        "ä".as_bytes(),
    ]);
    let name = prop::collection::vec(piece, 1..3).prop_map(|pieces| pieces.concat());
    prop::collection::vec(name, 0..4).prop_map(|names| {
        let relative = names.join(&b'/');
        [&b"/"[..], &relative].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn matches_like_the_reference(text in pattern_text(), path in path_bytes()) {
        let Ok(pattern) = PathPattern::parse(&text) else {
            // `**` in a name, `.`, `..`, too many `**`: what the generator does not avoid.
            return Ok(());
        };
        let relative = &path[1..];
        let names: Vec<&[u8]> = if relative.is_empty() {
            Vec::new()
        } else {
            relative.split(|byte| *byte == b'/').collect()
        };
        let segments: Vec<&str> = text[1..].split('/').collect();
        let is_name = |name: &&[u8]| !matches!(*name, b"." | b"..");
        let want = names.iter().all(is_name) && reference(&segments, &names);
        let path = Path::new(OsStr::from_bytes(&path));
        prop_assert_eq!(pattern.matches(path), want, "{} and {:?}", pattern, path);
        if want {
            prop_assert!(path.starts_with(pattern.literal_prefix()));
        }
    }

    #[test]
    fn parse_takes_any_text(text in "/?[a*?\\[\\]!^:.{}/\\\\ä\u{1b}-]{0,24}|.*") {
        match PathPattern::parse(&text) {
            Ok(pattern) => {
                prop_assert_eq!(pattern.as_str(), &text);
                let parts = pattern.segments().iter().zip(text[1..].split('/'));
                let fits = |(segment, part): (&Segment, &str)| match segment {
                    Segment::Literal(name) => name == part,
                    Segment::Pattern(_) => part.contains(['*', '?', '[']),
                    Segment::AnyDepth => part == "**",
                };
                prop_assert!(parts.into_iter().all(fits));
                if pattern.segments().iter().all(|it| matches!(it, Segment::Literal(_))) {
                    prop_assert!(pattern.matches(Path::new(&text)));
                }
            }
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
        }
    }
}

/// The property above is worth what its cases are: both answers have to come up.
#[test]
fn generated_paths_match_often_enough() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut matched, mut any_depth, mut refused) = (0, 0, 0);
    for _ in 0..4000 {
        let tree = (pattern_text(), path_bytes()).new_tree(&mut runner);
        let (text, path) = tree.expect("a value").current();
        let Ok(pattern) = PathPattern::parse(&text) else {
            continue;
        };
        if !pattern.matches(Path::new(OsStr::from_bytes(&path))) {
            refused += 1;
        } else if text.contains("**") {
            any_depth += 1;
        } else {
            matched += 1;
        }
    }
    assert!(
        matched > 40 && any_depth > 40 && refused > 40,
        "{matched}, {any_depth} with `**`, {refused} refused"
    );
}
