//! Each mistake, where it is reported and in which words.

use crate::{
    PolicyErrorKind::{self, Limit, Missing, NotEnforced, Syntax, UnknownKey, Value, Version},
    parse,
};

/// A text, and the errors it gets: kind, and `line:col: message`.
type Case = (&'static str, &'static [(PolicyErrorKind, &'static str)]);

const FILES: &[Case] = &[
    ("", &[(Missing, "1:1: the file holds no policy")]),
    (
        "version: 1\nfoo: 1",
        &[(
            Version,
            "1:10: version 1 of the policy language is not read yet",
        )],
    ),
    (
        "version: \"2\"",
        &[(Version, "1:10: `version` is a text, not a number")],
    ),
    (
        "version: 3",
        &[(
            Version,
            "1:10: version `3` is not a version of the policy language",
        )],
    ),
    (
        "foo: 1",
        &[
            (UnknownKey, "1:1: `foo` is not a key of a policy"),
            (Missing, "1:1: `version` is missing"),
        ],
    ),
    (
        "- a",
        &[(Value, "1:1: a policy must be a mapping, not a list")],
    ),
    (
        "version: 2\nversion: 2",
        &[(Syntax, "2:1: key `version` is written twice")],
    ),
    (
        "version: 2\n---\nversion: 2",
        &[(Syntax, "3:1: the file holds more than one YAML document")],
    ),
    (
        "version: 2\nenv: { <<: {A: b} }",
        &[(Syntax, "2:8: merge keys (`<<`) are not read")],
    ),
    (
        "version: 2\nenv: { A: [",
        &[(Syntax, "2:11: not valid YAML: unclosed bracket '['")],
    ),
    (
        "version: 2\nfilesystem_policy: { read_onyl: [/a], deny: [/b], read_write_execute: [] }",
        &[
            (
                UnknownKey,
                "2:22: `read_onyl` is not a key of `filesystem_policy`",
            ),
            (
                NotEnforced,
                "2:39: `deny` of `filesystem_policy` is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "2:51: `read_write_execute` of `filesystem_policy` is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "version: 2\nfilesystem_policy:\n  include_workdir: yes\n  read_only: [a/b, /a/../b, /a//b/, /a, \"/b\\n\"]\n  read_execute: [/a, ~]\n  read_write: [/]",
        &[
            (Value, "3:20: `include_workdir` cannot be `yes`"),
            (Value, "4:15: path `a/b` is not absolute"),
            (Value, "4:20: path `/a/../b` holds `..`"),
            (Value, "4:29: path `/a//b/` is not in its shortest form"),
            (Value, r#"4:41: path `/b\n` holds a control character"#),
            (Value, "5:18: `/a` is already in `read_only`, line 4"),
            (Value, "5:22: an entry of `read_execute` has no value"),
            (Value, "6:16: `/` cannot be in `read_write`"),
        ],
    ),
    (
        "version: 2\nfilesystem_policy: []",
        &[(
            Value,
            "2:20: `filesystem_policy` must be a mapping, not a list",
        )],
    ),
    (
        "version: 2\nfilesystem_policy:\n  read_only: /etc",
        &[(Value, "3:14: `read_only` must be a list, not `/etc`")],
    ),
    (
        "version: 2\nlandlock: { compatibility: hard_requirment }",
        &[(Value, "2:28: `hard_requirment` is not a compatibility")],
    ),
    (
        "version: 2\nlandlock: hard_requirement",
        &[(
            Value,
            "2:11: `landlock` must be a mapping, not `hard_requirement`",
        )],
    ),
    (
        "version: 2\nprocess: { run_as_user: root, run_as_group: 0, seccomp: jit, pids_max: 5 }",
        &[
            (Value, "2:25: `run_as_user` cannot be `root`"),
            (Value, "2:45: `run_as_group` cannot be `0`"),
            (
                NotEnforced,
                "2:57: `jit` as a seccomp profile is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "2:62: `pids_max` of `process` is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "version: 2\nprocess: { run_as_user: 4294967295, run_as_group: \"a b\", seccomp: 1 }",
        &[
            (Value, "2:25: `4294967295` is not a user or group id"),
            (Value, "2:51: `a b` is not a user or group name"),
            (Value, "2:67: `1` is not a seccomp profile"),
        ],
    ),
    (
        "version: 2\nnetwork: { mode: isolated }",
        &[(
            NotEnforced,
            "2:18: `isolated` as a network mode is understood but not enforced by this version",
        )],
    ),
    (
        "version: 2\nnetwork: { mode: Direct }",
        &[(Value, "2:18: `Direct` is not a network mode")],
    ),
    (
        "version: 2\nenv: { 1A: x, A-B: y, \"\": z, N: \"a\\0b\", M: ~ }",
        &[
            (Value, "2:8: `1A` is not a variable's name"),
            (Value, "2:15: `A-B` is not a variable's name"),
            (Value, "2:23: `` is not a variable's name"),
            (Value, "2:33: the value of `N` holds a NUL character"),
            (Value, "2:44: variable `M` has no value"),
        ],
    ),
    (
        "version: 2\nnetwork_policies:\n  \"a b\": {}\n  g: { name: \"x\\u202e\", binaries: [{}, { path: /a, sha256: x }, { path: \"/usr/bin/*\" }, { sha256: 12 }, { path: / }, { path: x, script: /y, descendants: true }] }",
        &[
            (Value, "3:3: `a b` is not a name for a network policy"),
            (Value, r#"4:14: `x\u{202e}` cannot be a `name`"#),
            (Missing, "4:36: a binary needs `path` or `sha256`"),
            (Missing, "4:40: a binary has both `path` and `sha256`"),
            (
                NotEnforced,
                "4:73: pattern `/usr/bin/*` is not enforced by this version",
            ),
            (Value, "4:99: `12` is not a SHA-256"),
            (Value, "4:113: `/` is not a file"),
            (Value, "4:126: path `x` is not absolute"),
            (
                NotEnforced,
                "4:129: `script` of a binary is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "4:141: `descendants` of a binary is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "version: 2\ningress: []\nrootfs: /x",
        &[
            (
                NotEnforced,
                "2:1: `ingress` of a policy is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "3:1: `rootfs` of a policy is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "version: 2\na: *nope",
        &[(Syntax, "2:4: not valid YAML: reference to unknown value")],
    ),
    (
        "version: 2\nenv: !foo {A: b}",
        &[(Syntax, "2:11: not valid YAML: unsupported tag `!foo`")],
    ),
    (
        "version: 2\nnetwork_policies:\n  g: { endpoints: [{ host: &h foo, port: 1 }, { host: *h, port: 1 }] }\n",
        &[(
            NotEnforced,
            "3:31: host `foo` is a name, and names are not enforced by this version",
        )],
    ),
];

/// Put where an endpoint stands: line 7, column 9.
const ENDPOINTS: &[Case] = &[
    (
        "{ host: api.github.com, port: 443, protocol: rest, access: read-only }",
        &[
            (
                NotEnforced,
                "7:17: host `api.github.com` is a name, and names are not enforced by this version",
            ),
            (
                NotEnforced,
                "7:54: `rest` as a protocol is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:60: `access` of an endpoint is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "{ port: 443 }",
        &[(Missing, "7:9: an endpoint needs `host` or `cidr`")],
    ),
    (
        "{ host: 192.0.2.1 }",
        &[(Missing, "7:9: an endpoint needs `port` or `ports`")],
    ),
    (
        "{ host: 192.0.2.1, cidr: 192.0.2.0/24, port: 1, ports: [2] }",
        &[
            (Missing, "7:9: an endpoint has both `host` and `cidr`"),
            (Missing, "7:9: an endpoint has both `port` and `ports`"),
        ],
    ),
    (
        r#"{ host: "::ffff:1.2.3.4", port: 1 }"#,
        &[(
            Value,
            "7:17: `::ffff:1.2.3.4` is IPv4 written as IPv6, which is judged as IPv4",
        )],
    ),
    (
        r#"{ cidr: "::ffff:1.2.3.0/120", port: 1 }"#,
        &[(
            Value,
            "7:17: `::ffff:1.2.3.0/120` is IPv4 written as IPv6, which is judged as IPv4",
        )],
    ),
    (
        "{ cidr: 192.0.2.1/24, port: 1 }",
        &[(
            Value,
            "7:17: `192.0.2.1/24` has bits set behind its first 24",
        )],
    ),
    (
        "{ cidr: 192.0.2.1/0, port: 1 }",
        &[(Value, "7:17: `192.0.2.1/0` has bits set behind its first 0")],
    ),
    (
        "{ cidr: 192.0.2.0/33, port: 1 }",
        &[(
            Value,
            "7:17: prefix length 33 is more than the 32 bits of the address",
        )],
    ),
    (
        "{ cidr: 192.0.2.0/024, port: 1 }",
        &[(Value, "7:17: cidr `192.0.2.0/024` is not a prefix")],
    ),
    (
        "{ cidr: 192.0.2.0, port: 1 }",
        &[(Value, "7:17: cidr `192.0.2.0` has no length")],
    ),
    (
        "{ cidr: banana, port: 1 }",
        &[(Value, "7:17: cidr `banana` is not a prefix")],
    ),
    (
        "{ cidr: 224.0.0.0/8, port: 1 }",
        &[(
            Value,
            "7:17: `224.0.0.0/8` is multicast, which is always refused",
        )],
    ),
    (
        r#"{ cidr: "2002::/16", port: 1 }"#,
        &[(
            Value,
            "7:17: `2002::/16` is a transition form with an IPv4 address inside (compatible, translated, NAT64, 6to4, Teredo or ISATAP), which is always refused",
        )],
    ),
    (
        r#"{ cidr: "ff02::/16", port: 1 }"#,
        &[(
            Value,
            "7:17: `ff02::/16` is multicast, which is always refused",
        )],
    ),
    (
        "{ host: 255.255.255.255, port: 1 }",
        &[(
            Value,
            "7:17: `255.255.255.255` is the broadcast address, which is always refused",
        )],
    ),
    (
        "{ host: 0.0.0.0, port: 1 }",
        &[(Value, "7:17: `0.0.0.0` reaches loopback")],
    ),
    (
        r#"{ host: "::", port: 1 }"#,
        &[(Value, "7:17: `::` reaches loopback")],
    ),
    (
        "{ host: 010.0.0.1, port: 1 }",
        &[(Value, "7:17: host `010.0.0.1` is not an address")],
    ),
    (
        "{ host: 127.1, port: 1 }",
        &[(Value, "7:17: host `127.1` is not an address")],
    ),
    (
        r#"{ host: "192.0.2.1:443", port: 1 }"#,
        &[(Value, "7:17: host `192.0.2.1:443` is not an address")],
    ),
    (
        r#"{ host: "[::1]", port: 1 }"#,
        &[(Value, "7:17: host `[::1]` is not an address")],
    ),
    (
        r#"{ host: "fe80::1%eth0", port: 1 }"#,
        &[(Value, "7:17: host `fe80::1%eth0` is not an address")],
    ),
    (
        r#"{ host: "https://x/", port: 1 }"#,
        &[(Value, "7:17: host `https://x/` is not an address")],
    ),
    (
        r#"{ host: "", port: 1 }"#,
        &[(Value, "7:17: host `` is not an address")],
    ),
    (
        "{ host: 192.0.2.1, port: 0 }",
        &[(Value, "7:34: `0` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: 65536 }",
        &[(Value, "7:34: `65536` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: 0x1bb }",
        &[(Value, "7:34: `0x1bb` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: +443 }",
        &[(Value, "7:34: `+443` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: 443.0 }",
        &[(Value, "7:34: `443.0` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: [443] }",
        &[(Value, "7:34: `port` must be a single value, not a list")],
    ),
    (
        "{ host: 192.0.2.1, ports: 443 }",
        &[(Value, "7:35: `ports` must be a list, not `443`")],
    ),
    (
        "{ host: 192.0.2.1, ports: [] }",
        &[(Missing, "7:35: `ports` has no entry")],
    ),
    (
        "{ host: 192.0.2.1, ports: [443, 9010-9000, http, 1-2-3] }",
        &[
            (Value, "7:41: `9010-9000` is not a port or a range of ports"),
            (Value, "7:52: `http` is not a port or a range of ports"),
            (Value, "7:58: `1-2-3` is not a port or a range of ports"),
        ],
    ),
    (
        "{ host: 192.0.2.1, ports: [1-1025] }",
        &[(Limit, "7:35: an endpoint has more than 1024 ports")],
    ),
    (
        "{ host: 192.0.2.1, port: 1, protocol: sctp }",
        &[(Value, "7:47: `sctp` is not a protocol")],
    ),
    (
        "{ host: 192.0.2.1, port: 1, protcol: tcp, rules: [], tls: x, allowed_ips: [], enforcement: enforce }",
        &[
            (UnknownKey, "7:37: `protcol` is not a key of an endpoint"),
            (
                NotEnforced,
                "7:51: `rules` of an endpoint is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:62: `tls` of an endpoint is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:70: `allowed_ips` of an endpoint is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:87: `enforcement` of an endpoint is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "192.0.2.1",
        &[(Value, "7:9: an endpoint must be a mapping, not `192.0.2.1`")],
    ),
];

const AROUND_ENDPOINT: &str = "version: 2
network: { mode: direct }
network_policies:
  g:
    binaries: [{ path: /bin/x }]
    endpoints:
      - ";

fn errors(text: &str) -> Vec<(PolicyErrorKind, String)> {
    let Err(errors) = parse("p.yaml", text) else {
        panic!("accepted: {text}");
    };
    let line = |error: &crate::PolicyError| {
        assert!(error.help.is_some(), "no help: {error}");
        (
            error.kind,
            format!("{}:{}: {}", error.line, error.col, error.message),
        )
    };
    errors.as_slice().iter().map(line).collect()
}

fn check(text: &str, want: &[(PolicyErrorKind, &str)]) {
    let got = errors(text);
    let got: Vec<(PolicyErrorKind, &str)> = got
        .iter()
        .map(|(kind, line)| (*kind, line.as_str()))
        .collect();
    assert_eq!(got, want, "{text}");
}

#[test]
fn files_have_these_errors() {
    for (text, want) in FILES {
        check(text, want);
    }
}

#[test]
fn endpoints_have_these_errors() {
    for (endpoint, want) in ENDPOINTS {
        check(&format!("{AROUND_ENDPOINT}{endpoint}\n"), want);
    }
}

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

    let text = "version: 2\nnetwrok: {} # \u{202e}x\nenv: { A: 1, 2B: x }\n";
    let errors = parse("p.yaml", text).expect_err("two mistakes");
    let want = "\
p.yaml:2:1: `netwrok` is not a key of a policy
  netwrok: {} # \\u{202e}x
  ^
help: did you mean `network`?
p.yaml:3:14: `2B` is not a variable's name
  env: { A: 1, 2B: x }
               ^
help: a name has letters, digits and `_`, and starts with no digit";
    assert_eq!(errors.to_string(), want);
}

#[test]
fn display_cuts_long_lines_around_the_place() {
    let text = format!(
        "version: 2\nenv: {{ A: {}, 2B: x, C: {} }}\n",
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
            "has 4097 endpoints, the limit is 4096",
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
