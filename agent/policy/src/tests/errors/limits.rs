//! Too many mistakes, and too much of what is right.

use super::check;
use crate::{PolicyErrorKind::Limit, parse};

#[test]
fn errors_are_limited_in_number() {
    let keys: String = (0..5000).map(|i| format!("key{i}: 1\n")).collect();
    let errors = parse("p.yaml", &format!("version: 2\n{keys}")).expect_err("no such keys");
    assert_eq!(errors.as_slice().len(), crate::limits::MAX_ERRORS);
    assert!(errors.to_string().ends_with("\nand 4936 more errors"));
}

#[test]
fn counts_are_limited() {
    use crate::limits::{MAX_BINARIES, MAX_ENDPOINTS, MAX_GROUPS, MAX_PATHS};
    let policy = |endpoints: usize, binaries: usize, groups: usize| {
        let mut text = "version: 2\nnetwork: { mode: direct }\nnetwork_policies:\n".to_owned();
        for group in 1..groups {
            text += &format!("  g{group}: {{}}\n");
        }
        text += "  g:\n    endpoints:\n";
        text += &"      - { host: 192.0.2.1, port: 1 }\n".repeat(endpoints);
        text += "    binaries:\n";
        text + &"      - { path: /bin/x }\n".repeat(binaries)
    };
    let full = policy(MAX_ENDPOINTS, MAX_BINARIES, MAX_GROUPS);
    assert!(parse("p.yaml", &full).is_ok());
    for (text, line) in [
        (
            policy(MAX_ENDPOINTS + 1, 1, 1),
            "has 16385 endpoints, the limit is 16384",
        ),
        (
            policy(1, MAX_BINARIES + 1, 1),
            "has 257 `binaries` entries, the limit is 256",
        ),
        (
            policy(1, 1, MAX_GROUPS + 1),
            "has 257 entries, the limit is 256",
        ),
    ] {
        check(
            &text,
            &[(Limit, &format!("4:3: `network_policies` {line}"))],
        );
    }
    let paths: String = (0..=MAX_PATHS).map(|i| format!("/p{i}, ")).collect();
    let text = format!("version: 2\nfilesystem_policy: {{ read_only: [{paths}] }}\n");
    check(
        &text,
        &[(
            Limit,
            "2:33: `read_only` has 1025 entries, the limit is 1024",
        )],
    );
}
