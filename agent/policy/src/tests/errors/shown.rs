//! What is shown of a mistake: advice, the place, and never a value of `env`.

use super::AROUND_ENDPOINT;
use crate::parse;

/// The advice that depends on the mistake.
#[test]
fn help_says_what_to_write() {
    for (endpoint, want) in [
        ("{ cidr: 192.0.2.1/24, port: 1 }", "write 192.0.2.0/24 for"),
        (
            r#"{ cidr: "2001:db8::1/32", port: 1 }"#,
            "write 2001:db8::/32 for",
        ),
        (
            r#"{ host: "::ffff:1.2.3.4", port: 1 }"#,
            "write it as IPv4: 1.2.3.4",
        ),
        (
            r#"{ cidr: "::ffff:1.2.3.0/120", port: 1 }"#,
            "write it as IPv4: 1.2.3.0/24",
        ),
        ("{ host: 0.0.0.0, port: 1 }", "write 127.0.0.1"),
        ("{ hots: 192.0.2.1, port: 1 }", "did you mean `host`?"),
        ("{ host: 192.0.2.1, prot: 1 }", "did you mean `port`?"),
        (
            "{ host: 192.0.2.1, port: 1, protocol: sctp }",
            "this version has: tcp, udp",
        ),
        (
            "{ host: 192.0.2.1, port: 1, acces: x }",
            "did you mean `access`?",
        ),
    ] {
        let Err(errors) = parse("p.yaml", &format!("{AROUND_ENDPOINT}{endpoint}\n")) else {
            panic!("accepted: {endpoint}");
        };
        let helps: Vec<_> = errors
            .as_slice()
            .iter()
            .filter_map(|e| e.help.clone())
            .collect();
        assert!(
            helps.iter().any(|help| help.starts_with(want)),
            "{endpoint}: {helps:?}"
        );
    }
}

#[test]
fn display_points_at_the_place() {
    let text = "version: 2\r\nfilesystem_policy:\r\n\tread_only: []\r\n";
    let errors = parse("a\u{1b}b.yaml", text).expect_err("a tab");
    let shown = errors.to_string();
    assert!(shown.starts_with("a\\u{1b}b.yaml:3:"), "{shown}");

    let text = "version: 2\nnetwrok: {} # \u{202e}x\nnetwork: { mode: none, 2B: x }\n";
    let errors = parse("p.yaml", text).expect_err("two mistakes");
    let want = "\
p.yaml:2:1: `netwrok` is not a key of a policy
  netwrok: {} # \\u{202e}x
  ^
help: did you mean `network`?
p.yaml:3:24: `2B` is not a key of `network`
  network: { mode: none, 2B: x }
                         ^
help: known here: mode";
    assert_eq!(errors.to_string(), want);
}

#[test]
fn display_cuts_long_lines_around_the_place() {
    let text = format!(
        "version: 2\nfilesystem_policy: {{ read_only: [/{}, 2B, /{}] }}\n",
        "ä".repeat(900),
        "c".repeat(900)
    );
    let errors = parse("p.yaml", &text).expect_err("a mistake").to_string();
    let lines: Vec<&str> = errors.lines().collect();
    let caret = lines[2].chars().count() - 1;
    assert_eq!(
        lines[1].chars().skip(caret).take(2).collect::<String>(),
        "2B"
    );
    assert!(lines[1].chars().count() < 130, "{errors}");
}

#[test]
fn error_near_env_shows_none_of_its_values() {
    for text in [
        "version: 2\nenv: hunter2secret",
        "version: 2\nenv: [hunter2secret]",
        "version: 2\nenv: { A: hunter2secret, B-C: hunter2secret }",
        "version: 2\nenv: { A: hunter2secret, B: [hunter2secret] }",
        "version: 2\nenv:\n  A: \"hunter2secret\n  B: C",
        "version: 2\nenv:\n  A: \"hunter2secret\\q\"",
        "version: 2\nenv:\n  A: hunter2secret: x",
        "version: 2\nenv:\n  A: !!int hunter2secret",
        "version: 2\nenv:\n  A: !!binary hunter2secret",
        "version: 2\nenv:\n  A: !hunter2secret x",
        "version: 2\nenv:\n  A: *hunter2secret",
        "version: 2\nenv: !hunter2secret { A: x }",
        "version: 2\nenv: { A: hunter2secret, A: hunter2secret }",
        "version: 2\nenv: { A: \"hunter2secret\\0\" }",
        "{ version: 2, env: { A: hunter2secret }, bad: 1 }",
        "version: 2\nenv: { A: hunter2secret, B: ~ }",
        "version: 2\nenv: { A: hunter2secret, <<: {} }",
        "version: 3\nenv: { A: hunter2secret }",
        "version: 2\nenv:\n  A: |\n   x\n  hunter2secret\n",
    ] {
        let errors = parse("p.yaml", text).expect_err(text).to_string();
        assert!(!errors.contains("hunter2"), "{text}: {errors}");
        assert!(errors.starts_with("p.yaml:"), "{text}: {errors}");
    }
    let elsewhere = "version: 2\nenv: { A: b }\nnetwork: { mode: nine }";
    let errors = parse("p.yaml", elsewhere).expect_err("a mode").to_string();
    assert!(errors.contains("\n  network: { mode: nine }\n"), "{errors}");
}
