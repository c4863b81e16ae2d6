//! No bytes make the policy reader, its errors, the compiler or its answers panic.
//!
//! `cargo xtask fuzz parse`, with the shipped policies as seeds
#![no_main]

use clawd_policy::{Checked, Explainer, Parsed, Protocol, Question, Who};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match clawd_policy::read("policy.yaml", text) {
        Ok(Checked {
            parsed,
            not_enforced,
        }) => {
            if let Some(errors) = not_enforced {
                assert!(is_fit(&errors.to_string()));
                assert!(clawd_policy::parse("policy.yaml", text).is_err());
            }
            for warning in &parsed.warnings {
                assert!(is_fit(&warning.to_string()));
            }
            if let Ok(image) = clawd_policy::compile(&parsed.policy, 1) {
                assert!(image.addresses.iter().all(|(.., class)| *class > 0));
            }
            explain(parsed);
        }
        Err(errors) => {
            assert!(!errors.as_slice().is_empty());
            assert!(is_fit(&errors.to_string()));
        }
    }
});

/// Every question gets an answer with its reason.
fn explain(parsed: Parsed) {
    let Ok(mut explainer) = Explainer::new("policy.yaml", parsed) else {
        return;
    };
    for host in ["192.0.2.1", "127.0.0.1", "2001:db8::1", "example.com"] {
        let question = Question {
            who: Who {
                binary: "/usr/bin/curl".into(),
                sha256: None,
                ancestors: vec!["/bin/sh".into()],
            },
            host: host.to_owned(),
            port: 443,
            protocol: Protocol::Tcp,
        };
        let answer = explainer.decide(&question).expect("a question");
        let explanation = explainer.explain(&question, &answer);
        assert!(!explanation.why.is_empty());
        assert!(!answer.allowed || explanation.near_misses.is_empty());
    }
}

/// Nothing of the file reaches a terminal as a control character.
fn is_fit(shown: &str) -> bool {
    !shown.contains(|c: char| c != '\n' && c.is_control())
}
