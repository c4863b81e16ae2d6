//! No text makes the reader panic.

use proptest::prelude::*;

use crate::{Checked, Explainer, Protocol, Question, Who, compile, parse, read};

/// Every key and some values of each kind.
pub(super) const FULL: &str = r#"version: 2
filesystem_policy:
  include_workdir: true
  read_only: [/etc/a, "/etc/b"]
  read_execute:
    - /usr
  read_write: [/tmp]
  read_write_execute: [/project]
  deny: [/project/.env, /etc/shadow]
  rootfs: /srv/root
landlock: { compatibility: best_effort }
process:
  run_as_user: agent
  run_as_group: "1000"
  supplementary_groups: [video, "44"]
  seccomp: strict
  seccomp_allow: [personality]
  seccomp_deny: [listen, "mkdirat"]
  pids_max: 512
  memory_max: 4GiB
  cpu_max: 1.5
  nofile_max: 4096
  fsize_max: 512MiB
network: { mode: direct }
env_allow: [LD_PRELOAD, PYTHONPATH]
env: { LANG: C.UTF-8, "PATH": '/usr/bin' }
network_policies:
  web: &web
    name: Web
    endpoints:
      - { host: 192.0.2.1, port: 443 }
      - { cidr: "2001:db8::/32", ports: [80, 9000-9010], protocol: udp }
    binaries: &bins
      - { path: /usr/bin/curl, descendants: true }
      - { path: "/opt/**/python3.[0-9]*" }
      - { sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 }
  again:
    endpoints:
      - { cidr: 0.0.0.0/0, port: 22 }
    binaries: *bins
  never:
    action: deny
    endpoints: [{ cidr: 10.0.0.0/8 }, { port: 25, protocol: tcp }]
    binaries: [{ path: /usr/bin/nc }]
"#;

/// Parses, shows and compiles whatever comes out.
fn exercise(text: &str) {
    match read("policy\u{1b}.yaml", text) {
        Ok(Checked {
            parsed,
            not_enforced,
        }) => {
            let is_enforced = parse("policy\u{1b}.yaml", text).is_ok();
            assert_eq!(is_enforced, not_enforced.is_none());
            let shown = not_enforced.map(|errors| errors.to_string());
            assert!(shown.is_none_or(|text| fit(&text)));
            let shown: Vec<String> = parsed.warnings.iter().map(ToString::to_string).collect();
            assert!(shown.iter().all(|text| fit(text)), "{shown:?}");
            let _image = compile(&parsed.policy, 1);
            if let Ok(mut explainer) = Explainer::new("policy.yaml", parsed) {
                for host in ["192.0.2.1", "::1", "example.com"] {
                    let asked = question(host);
                    let answer = explainer.decide(&asked).expect("a question");
                    assert!(!explainer.explain(&asked, &answer).why.is_empty());
                }
            }
        }
        Err(errors) => {
            assert!(!errors.as_slice().is_empty(), "refused without a reason");
            let shown = errors.to_string();
            assert!(fit(&shown), "{shown:?}");
        }
    }
}

fn question(host: &str) -> Question {
    Question {
        who: Who {
            binary: "/usr/bin/curl".into(),
            sha256: None,
            ancestors: vec!["/usr/bin/nc".into()],
        },
        host: host.to_owned(),
        port: 443,
        protocol: Protocol::Tcp,
    }
}

fn fit(shown: &str) -> bool {
    !shown.contains(|c: char| c != '\n' && c.is_control())
}

/// Pieces that mean something to YAML or to the policy language.
fn piece() -> impl Strategy<Value = String> {
    const PIECES: [&str; 52] = [
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "|",
        ">",
        "&a ",
        "*a",
        "*bins",
        "<<",
        "!!int ",
        "!!binary ",
        "!x ",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "#",
        "\t",
        "\r",
        "\0",
        "\u{feff}",
        "\u{202e}",
        "~",
        "null",
        "-1",
        "1e999",
        ".nan",
        "0x10",
        "::ffff:1.2.3.4",
        "host: api.example.com",
        "host: \"**.example.com\"",
        "*.",
        "9000-1",
        "0-65535",
        "version: 2\n",
        "ports",
        "cidr",
        "script",
        "action: deny\n",
        "? ",
        "/**",
        "/[!a-",
        "/*?[]]",
        "descendants: true",
    ];
    prop_oneof![
        6 => prop::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parse_takes_any_text(text in any::<String>()) {
        exercise(&text);
    }

    #[test]
    fn parse_takes_any_pieces(pieces in prop::collection::vec(piece(), 0..40)) {
        exercise(&pieces.concat());
    }

    #[test]
    fn parse_takes_changed_policies(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..30_usize, piece()), 1..4),
    ) {
        let mut chars: Vec<char> = FULL.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(chars.len().max(1)).min(chars.len());
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        exercise(&chars.into_iter().collect::<String>());
    }
}

#[test]
fn full_policy_is_valid() {
    let parsed = parse("full.yaml", FULL).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(parsed.warnings, []);
}

#[test]
fn parse_survives_depth_and_size() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "a:\n".repeat(100_000),
        (0..20_000)
            .map(|i| format!("{}a:\n", " ".repeat(i % 1000)))
            .collect(),
        format!("version: 2\n{}", "x: [".repeat(200_000)),
        format!(
            "version: 2\n{}",
            (0..60_000)
                .map(|i| format!("k{i}: 1\n"))
                .collect::<String>()
        ),
        format!("a: &a [x]\nb: [{}]", "*a,".repeat(10_000)),
        "x".repeat((1 << 20) + 1),
        "\"".to_owned() + &"\\u0001".repeat(100_000),
    ] {
        exercise(&text);
        assert!(parse("p", &text).is_err());
    }
}

#[test]
fn parse_refuses_exploding_aliases() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 9].join(", ");
        text += &format!("a{i}: &a{i} [{list}]\n");
    }
    let errors = parse("p", &text).expect_err("a bomb");
    assert!(errors.to_string().contains("too complex"), "{errors}");
}
