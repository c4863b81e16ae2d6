//! Mistakes in an entry of `binaries`.

use super::{AROUND_BINARY, Case, check, errors};
use crate::PolicyErrorKind::{Limit, Missing, UnknownKey, Value};

/// Put where a binary stands: line 6, column 9; a path is in column 17.
const BINARIES: &[Case] = &[
    (
        "{ path: \"usr/*\" }",
        &[(Value, "6:17: pattern `usr/*` is not absolute")],
    ),
    (
        "{ path: \"/usr//*\" }",
        &[(
            Value,
            "6:17: pattern `/usr//*` has nothing between two slashes or behind the last",
        )],
    ),
    (
        "{ path: \"/usr/*/\" }",
        &[(
            Value,
            "6:17: pattern `/usr/*/` has nothing between two slashes or behind the last",
        )],
    ),
    (
        "{ path: \"/usr/*/../a\" }",
        &[(
            Value,
            "6:17: pattern `/usr/*/../a` holds `.` or `..` as a name",
        )],
    ),
    (
        "{ path: \"/usr/\\e*\" }",
        &[(
            Value,
            r"6:17: pattern `/usr/\u{1b}*` holds a control character",
        )],
    ),
    (
        "{ path: '/usr/\\*' }",
        &[(Value, r"6:17: pattern `/usr/\*` holds a backslash")],
    ),
    (
        "{ path: \"/usr/a}*\" }",
        &[(Value, "6:17: pattern `/usr/a}*` holds `{` or `}`")],
    ),
    (
        "{ path: \"/usr/a**\" }",
        &[(
            Value,
            "6:17: pattern `/usr/a**` has `**` beside other characters of a name",
        )],
    ),
    (
        "{ path: \"/usr/[a/b]\" }",
        &[(
            Value,
            "6:17: pattern `/usr/[a/b]` has a `[` without `]` in the same name",
        )],
    ),
    (
        "{ path: \"/usr/[^a]\" }",
        &[(Value, "6:17: pattern `/usr/[^a]` holds `[^`")],
    ),
    (
        "{ path: \"/usr/[[:alpha:]]\" }",
        &[(
            Value,
            "6:17: pattern `/usr/[[:alpha:]]` has `[:`, `[.` or `[=` within brackets",
        )],
    ),
    (
        "{ path: \"/usr/[ä]\" }",
        &[(
            Value,
            "6:17: pattern `/usr/[ä]` has a character outside ASCII within brackets",
        )],
    ),
    (
        "{ path: \"/usr/[z-a]\" }",
        &[(
            Value,
            "6:17: pattern `/usr/[z-a]` has a range that ends early: `z-a`",
        )],
    ),
    (
        "{ path: \"/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*\" }",
        &[(
            Limit,
            "6:17: pattern `/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*` has wildcards in 17 segments, the limit is 16",
        )],
    ),
    (
        "{ path: \"/**/a/**/b/**/c/**/d/**\" }",
        &[(
            Limit,
            "6:17: pattern `/**/a/**/b/**/c/**/d/**` has 5 segments `**`, the limit is 4",
        )],
    ),
    (
        "{ path: /a, descendants: \"true\" }",
        &[(Value, "6:34: `descendants` cannot be `true`")],
    ),
    (
        "{ path: /a, descendants: 1 }",
        &[(Value, "6:34: `descendants` cannot be `1`")],
    ),
    (
        "{ path: /a, descendants: }",
        &[(Value, "6:32: `descendants` has no value")],
    ),
    (
        "{ path: /a, descendants: [true] }",
        &[(
            Value,
            "6:34: `descendants` must be a single value, not a list",
        )],
    ),
    (
        "{ descendants: true }",
        &[(Missing, "6:9: a binary needs `path` or `sha256`")],
    ),
    (
        "{ path: /a, descendant: true }",
        &[(UnknownKey, "6:21: `descendant` is not a key of a binary")],
    ),
];

#[test]
fn binaries_have_these_errors() {
    for (binary, want) in BINARIES {
        check(&format!("{AROUND_BINARY}{binary}\n"), want);
    }
    let long = format!("{AROUND_BINARY}{{ path: \"/{}*\" }}\n", "x".repeat(4094));
    let [(Limit, message)] = &errors(&long)[..] else {
        panic!("not one error about a limit");
    };
    assert!(
        message.ends_with("(and 4016 more characters) has 4096 bytes, the limit is 4095"),
        "{message}"
    );
}
