//! No text makes the reader of patterns panic, and a match is what a walk by its segments finds.
//!
//! `cargo xtask fuzz pattern`; an input is a pattern, a line break, a path
#![no_main]

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use clawd_policy::{HostPattern, PathPattern, Segment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else {
        return;
    };
    let behind = data.get(text.len() + 1..).unwrap_or_default();
    host(text, std::str::from_utf8(behind).unwrap_or_default());
    let pattern = match PathPattern::parse(text) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control));
            return;
        }
    };
    assert_eq!(pattern.to_string(), text);
    assert_eq!(PathPattern::parse(pattern.as_str()), Ok(pattern.clone()));
    let path = Path::new(OsStr::from_bytes(parts.next().unwrap_or_default()));
    let matches = pattern.matches(path);
    assert_eq!(matches, walk(&pattern, path), "{pattern} and {path:?}");
    if matches {
        assert!(path.starts_with(pattern.literal_prefix()));
    }
});

/// The same text as a pattern for host names, and what is behind it as a name.
fn host(text: &str, name: &str) {
    match HostPattern::parse(text) {
        Ok(pattern) => {
            assert_eq!(pattern.to_string(), text.to_ascii_lowercase());
            assert_eq!(
                pattern.matches(name),
                pattern.matches(&name.to_ascii_uppercase())
            );
            if pattern.matches(name) {
                let labels = |text: &str| text.matches('.').count();
                assert!(labels(name) >= labels(text), "{text} and {name}");
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

/// Goes down the path with the set of segments that may come next.
fn walk(pattern: &PathPattern, path: &Path) -> bool {
    let segments = pattern.segments();
    let Some(relative) = path.as_os_str().as_bytes().strip_prefix(b"/") else {
        return false;
    };
    let mut next = vec![false; segments.len() + 1];
    next[0] = true;
    skip_any_depth(segments, &mut next);
    if !relative.is_empty() {
        for name in relative.split(|byte| *byte == b'/').map(OsStr::from_bytes) {
            let mut after = vec![false; next.len()];
            for (at, segment) in segments.iter().enumerate() {
                if next[at] && segment.matches(name) {
                    let stays = *segment == Segment::AnyDepth;
                    after[if stays { at } else { at + 1 }] = true;
                }
            }
            next = after;
            skip_any_depth(segments, &mut next);
        }
    }
    next[segments.len()]
}

/// `**` may stand for no name.
fn skip_any_depth(segments: &[Segment], next: &mut [bool]) {
    for (at, segment) in segments.iter().enumerate() {
        if *segment == Segment::AnyDepth && next[at] {
            next[at + 1] = true;
        }
    }
}
