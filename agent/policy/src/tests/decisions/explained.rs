//! The answers of `explain` against a linear scan over the checked policy.

use proptest::prelude::*;

use super::{
    generated::{attempts, files, policy},
    reference::{Attempt, File, reference},
};
use crate::{
    BinaryMatcher, Explainer, GroupPlaces, Parsed, Policy, Position, Protocol, Question, Who,
};

/// A policy as if it had been read from a file.
fn parsed(policy: &Policy) -> Parsed {
    let at = Position { line: 1, col: 1 };
    let places = policy.rules.iter().map(|group| GroupPlaces {
        at,
        endpoints: vec![at; group.endpoints.len()],
        names: Vec::new(),
        binaries: vec![at; group.binaries.len()],
    });
    Parsed {
        policy: policy.clone(),
        places: places.collect(),
        warnings: Vec::new(),
    }
}

/// The attempt as a question, which gives no ancestor's content.
fn question(attempt: &Attempt, files: &[File]) -> Option<Question> {
    let file = &files[attempt.file?];
    let before = attempt.ancestor.map(|index| files[index].path.clone());
    let scope = if attempt.scope_id == 0 { "" } else { "%1" };
    Some(Question {
        who: Who {
            binary: file.path.clone(),
            sha256: Some(file.sha256),
            ancestors: before.into_iter().collect(),
        },
        host: match attempt.ip.is_ipv6() {
            true => format!("{}{scope}", attempt.ip),
            false => attempt.ip.to_string(),
        },
        port: attempt.port,
        protocol: match attempt.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => return None,
        },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn explained_policy_decides_like_a_linear_scan(mut policy in policy(), seed in any::<u64>()) {
        for binary in policy.rules.iter_mut().flat_map(|group| &mut group.binaries) {
            binary.descendants &= !matches!(binary.matcher, BinaryMatcher::Sha256(_));
        }
        let files = files();
        let mut explainer = Explainer::new("p.yaml", parsed(&policy)).expect("small enough");
        for mut attempt in attempts(&policy, seed, 300) {
            (attempt.own_loopback, attempt.is_changed) = (false, false);
            let Some(question) = question(&attempt, &files) else { continue };
            let answer = explainer.decide(&question).expect("a question");
            let (allowed, reason, rule) = reference(&policy, &files, &attempt);
            prop_assert_eq!(answer.allowed, allowed, "{:?}", attempt);
            prop_assert_eq!(answer.reason, reason.name(), "{:?}", attempt);
            let named = explainer.policy_of(&answer).map(|name| format!("network_policies.{name}"));
            let whole = rule.map(|rule| rule.split(".binaries").next().expect("a part").to_owned());
            prop_assert_eq!(named, whole, "{:?}", attempt);
            let explanation = explainer.explain(&question, &answer);
            prop_assert!(!explanation.why.is_empty());
            prop_assert!(!allowed || explanation.near_misses.is_empty());
        }
    }
}
