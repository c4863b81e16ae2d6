use std::io::BufReader;

use clawd_policy::Explainer;
use proptest::prelude::*;

use super::{LINE_BYTES, answer_all};

const POLICY: &str = "version: 2
network: { mode: direct }
network_policies:
  web:
    endpoints: [{ host: 192.0.2.1, port: 443 }, { host: 192.0.2.2, port: 53, protocol: udp }]
    binaries:
      - { path: /usr/bin/curl, descendants: true }
      - { sha256: abababababababababababababababababababababababababababababababab }
";

fn explainer() -> Explainer {
    let parsed = clawd_policy::parse("p.yaml", POLICY).expect("a policy");
    Explainer::new("p.yaml", parsed).expect("fits")
}

/// Exit code and lines.
fn answers(text: &[u8]) -> (u8, Vec<String>) {
    let mut output = Vec::new();
    let code = answer_all(&mut explainer(), BufReader::new(text), &mut output).expect("answers");
    let output = String::from_utf8(output).expect("UTF-8");
    (code, output.lines().map(str::to_owned).collect())
}

#[test]
fn each_question_gets_a_line() {
    let hash = "AB".repeat(32);
    let text = format!(
        r#"{{"binary":"/usr/bin/curl","ancestors":[],"host":"192.0.2.1","port":443}}

{{"binary":"/usr/bin/wget","host":"192.0.2.1","port":443}}
{{"binary":"/bin/sh","ancestors":["/usr/bin/curl"],"host":"192.0.2.2","port":53,"protocol":"udp"}}
{{"binary":"/bin/sh","sha256":"{hash}","host":"192.0.2.1","port":443}}
{{"binary":"/bin/sh","host":"example.com","port":443}}"#
    );
    let (code, lines) = answers(text.as_bytes());
    assert_eq!(code, 0);
    let denied = |reason| format!(r#"{{"allowed":false,"policy":null,"reason":"{reason}"}}"#);
    let allowed = r#"{"allowed":true,"policy":"web","reason":"rule"}"#.to_owned();
    let want = [
        allowed.clone(),
        denied("binary_not_listed"),
        allowed.clone(),
        allowed,
        denied("name_not_listed"),
    ];
    assert_eq!(lines, want);
}

#[test]
fn line_that_is_no_question_gets_an_error_in_its_place() {
    let good = r#"{"binary":"/usr/bin/curl","host":"192.0.2.1","port":443}"#;
    for (bad, want) in [
        ("{", "EOF"),
        ("[]", "invalid"),
        (
            r#"{"binary":"/a","host":"192.0.2.1"}"#,
            "missing field `port`",
        ),
        (
            r#"{"binary":"/a","host":"192.0.2.1","port":65536}"#,
            "65536",
        ),
        (
            r#"{"binary":"/a","host":"192.0.2.1","port":1,"ancestor":[]}"#,
            "unknown field `ancestor`",
        ),
        // Requests are not decided: an answer about the connection would be another question's.
        (
            r#"{"binary":"/a","host":"192.0.2.1","port":1,"method":"GET","path":"/"}"#,
            "unknown field `method`",
        ),
        (
            r#"{"binary":"/a","host":"192.0.2.1","port":1,"protocol":"icmp"}"#,
            "icmp",
        ),
        (
            r#"{"binary":"/a","host":"192.0.2.1","port":1,"sha256":"ab"}"#,
            "`sha256` is not 64 hexadecimal digits",
        ),
        (
            r#"{"binary":"a","host":"192.0.2.1","port":1}"#,
            "`a` is not the path",
        ),
        (
            r#"{"binary":"/a","host":"127.1","port":1}"#,
            "`127.1` is neither",
        ),
    ] {
        let (code, lines) = answers(format!("{good}\n{bad}\n{good}\n").as_bytes());
        assert_eq!(code, 2, "{bad}");
        assert_eq!(lines.len(), 3, "{bad}");
        let told: serde_json::Value = serde_json::from_str(&lines[1]).expect("JSON");
        assert_eq!(told["line"], 2, "{bad}");
        assert!(told.get("allowed").is_none(), "{bad}");
        let error = told["error"].as_str().expect("a text");
        assert!(error.contains(want), "{bad}: {error}");
        assert!(lines[2].contains("true"), "{bad}");
    }
}

#[test]
fn line_without_end_is_not_kept() {
    let limit = usize::try_from(LINE_BYTES).expect("fits");
    let text = " ".repeat(limit + 1);
    let mut output = Vec::new();
    let input = BufReader::new(text.as_bytes());
    let error = answer_all(&mut explainer(), input, &mut output).expect_err("refused");
    assert!(
        error.to_string().contains("line 1 is longer than"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn batch_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (code, lines) = answers(&bytes);
        prop_assert!(code == 0 || code == 2);
        for line in lines {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        }
    }
}
