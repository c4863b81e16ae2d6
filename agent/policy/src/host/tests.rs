use proptest::prelude::*;

use super::{HostPattern, HostPatternError};

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap_or_else(|error| panic!("{text} {error}"))
}

#[test]
fn patterns_mean_these_names() {
    for (text, meant, others) in [
        (
            "api.example.com",
            &["api.example.com", "API.Example.COM", "api.example.com."][..],
            &[
                "example.com",
                "x.api.example.com",
                "api.example.com..",
                "api-example.com",
                "api.example.org",
                "",
                ".",
            ][..],
        ),
        (
            "*.Example.com",
            &["a.example.com", "A-b_c.EXAMPLE.com."],
            &[
                "example.com",
                ".example.com",
                "a.b.example.com",
                "aexample.com",
                "*.example.com",
            ],
        ),
        (
            "**.example.com",
            &["a.example.com", "a.b.c.example.com"],
            &[
                "example.com",
                ".example.com",
                "a..example.com",
                "aexample.com",
                "a.example.com.org",
            ],
        ),
        (
            "api.*.example.com",
            &["api.eu.example.com"],
            &["api.example.com", "api.a.b.example.com", "x.eu.example.com"],
        ),
        (
            "**.*.example.com",
            &["a.b.example.com", "a.b.c.example.com"],
            &["a.example.com", "example.com"],
        ),
        (
            "localhost",
            &["localhost", "LOCALHOST."],
            &["localhost.x", "x.localhost"],
        ),
    ] {
        let pattern = pattern(text);
        assert_eq!(pattern.to_string(), text.to_ascii_lowercase());
        for name in meant {
            assert!(pattern.matches(name), "{text} means {name}");
        }
        for name in others {
            assert!(!pattern.matches(name), "{text} does not mean {name}");
        }
    }
}

#[test]
fn texts_that_are_no_patterns_say_why() {
    use HostPatternError::{
        AnyDepthInside, Character, Empty, EmptyLabel, Hyphen, LabelTooLong, NotAscii, Number,
        PartialWildcard, TooLong, TooWide,
    };
    let long_label = format!("{}.example.com", "a".repeat(64));
    let long = format!("{}example.com", "a.".repeat(122));
    for (text, want) in [
        ("", Empty),
        (".", EmptyLabel),
        ("example.com.", EmptyLabel),
        (".example.com", EmptyLabel),
        ("a..example.com", EmptyLabel),
        ("ex_ample!.com", Character),
        ("https://example.com", Character),
        ("example.com:443", Character),
        ("a b.example.com", Character),
        ("a?.example.com", Character),
        ("bücher.example", NotAscii),
        ("-a.example.com", Hyphen),
        ("a-.example.com", Hyphen),
        ("1.2.3.4.5", Number),
        ("a-*.example.com", PartialWildcard),
        ("***.example.com", PartialWildcard),
        ("a.**.example.com", AnyDepthInside),
        ("*", TooWide),
        ("**", TooWide),
        ("*.com", TooWide),
        ("**.com", TooWide),
        ("api.example.*", TooWide),
        ("api.*.com", TooWide),
        (&long_label, LabelTooLong { bytes: 64 }),
        (&long, TooLong { bytes: 255 }),
    ] {
        assert_eq!(HostPattern::parse(text), Err(want), "{text}");
        assert!(!want.help().is_empty());
    }
}

/// The same by regular words: label by label, from the end.
fn means(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let pattern = pattern.to_ascii_lowercase();
    let (own, given): (Vec<&str>, Vec<&str>) = (
        pattern.split('.').rev().collect(),
        name.split('.').rev().collect(),
    );
    let valid = |label: &&str| {
        !label.is_empty()
            && label.len() < 64
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if name.len() > 253 || !given.iter().all(valid) {
        return false;
    }
    for (at, label) in own.iter().enumerate() {
        match (*label, given.get(at)) {
            ("**", found) => return found.is_some(),
            ("*", Some(_)) => {}
            (label, Some(found)) if label == *found => {}
            _ => return false,
        }
    }
    own.len() == given.len()
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "A", "example", "com", "x-y"]).prop_map(str::to_owned),
        2 => Just("*".to_owned()),
        1 => Just("**".to_owned()),
        1 => Just(String::new()),
        1 => "[a-zA-Z0-9_.*-]{0,4}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(label(), 1..6).prop_map(|labels| labels.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pattern_matches_label_by_label(pattern in name(), names in prop::collection::vec(name(), 8)) {
        if let Ok(parsed) = HostPattern::parse(&pattern) {
            for name in names {
                prop_assert_eq!(parsed.matches(&name), means(&pattern, &name), "{} {}", pattern, name);
            }
            // Each wildcard replaced by a label.
            let one = pattern.replace("**", "q").replace('*', "q");
            prop_assert!(parsed.matches(&one), "{pattern} {one}");
        }
    }

    #[test]
    fn parse_takes_any_text(text in any::<String>(), name in any::<String>()) {
        if let Ok(pattern) = HostPattern::parse(&text) {
            prop_assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern.clone()));
            prop_assert!(!pattern.matches(&name) || name.is_ascii());
        }
    }
}
