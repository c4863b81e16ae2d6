//! Mistakes in an entry that denies.

use super::{Case, check};
use crate::{
    PolicyErrorKind::{Missing, NotEnforced, UnknownKey, Value},
    parse,
};

#[test]
fn groups_that_deny_have_these_errors() {
    const AROUND: &str = "version: 2\nnetwork: { mode: direct }\nnetwork_policies:\n  g: ";
    const CASES: &[Case] = &[
        (
            "{ action: denny, endpoints: [{ host: 192.0.2.1, port: 1 }], binaries: [{ path: /x }] }",
            &[(Value, "4:16: `denny` is not an action")],
        ),
        (
            "{ action: [deny], endpoints: [{ host: 192.0.2.1, port: 1 }], binaries: [{ path: /x }] }",
            &[(Value, "4:16: `action` must be a single value, not a list")],
        ),
        (
            "{ action: deny, endpoints: [{ port: 25 }], binaries: [] }",
            &[(
                Missing,
                "4:59: `binaries` of network policy `g` has no entry, so it is not clear whom it denies",
            )],
        ),
        (
            "{ action: deny, endpoints: [{}, { host: x, ports: [] }] }",
            &[
                (Missing, "4:34: an endpoint says nothing of what is denied"),
                (
                    NotEnforced,
                    "4:46: host `x` is a name, and names are not enforced by this version",
                ),
                (Missing, "4:56: `ports` has no entry"),
            ],
        ),
        // What would never match, and so deny nothing, is a mistake as well.
        (
            r#"{ action: deny, endpoints: [{ cidr: "::ffff:10.0.0.0/104" }] }"#,
            &[(
                Value,
                "4:42: `::ffff:10.0.0.0/104` is IPv4 written as IPv6, which is judged as IPv4",
            )],
        ),
        (
            "{ action: deny, endpoints: [{ port: 25 }], binary: [{ path: /x }] }",
            &[(
                UnknownKey,
                "4:49: `binary` is not a key of a network policy",
            )],
        ),
    ];
    for (group, want) in CASES {
        check(&format!("{AROUND}{group}\n"), want);
    }
    let help = |text: &str| {
        let errors = parse("p.yaml", &format!("{AROUND}{text}\n")).expect_err("a mistake");
        errors.as_slice()[0].help.clone().unwrap_or_default()
    };
    assert_eq!(help("{ action: denny }"), "did you mean `deny`?");
    assert_eq!(help("{ action: drop }"), "this version has: allow, deny");
    assert_eq!(help("{ acton: deny }"), "did you mean `action`?");
}
