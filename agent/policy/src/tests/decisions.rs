//! The compiled tables against a linear scan over the checked policy.

mod differences;
mod explained;
mod generated;
mod reference;

use std::collections::BTreeMap;

use clawd_common::{
    decide::{GrantMask, MaskValue, Query, decide},
    packet::{Packet, ingress},
    record::{SANDBOX_OWN_LOOPBACK, SandboxValue},
    verdict::{Action, NO_GRANT, Reason},
};
use proptest::prelude::*;

use self::{
    generated::{attempts, files, policy},
    reference::{Attempt, File, Means, canonical, inside, means, number, reference},
};
use crate::{Policy, compile};

const POLICY_ID: u32 = 7;

/// A number for each line of a file, or of what is in its place, and an ancestor; from 1.
fn chain(file: usize, is_changed: bool, ancestor: Option<usize>) -> u32 {
    let line = (file * 2 + usize::from(is_changed)) * 16 + ancestor.map_or(0, |index| index + 1);
    u32::try_from(line + 1).expect("small")
}

/// What the exec gate writes to `MASK`.
fn masks(policy: &Policy, files: &[File]) -> BTreeMap<u32, MaskValue> {
    let mut masks = BTreeMap::new();
    let binaries: Vec<_> = (policy.rules.iter())
        .flat_map(|group| &group.binaries)
        .collect();
    for (file, is_changed) in (0..files.len()).flat_map(|file| [(file, false), (file, true)]) {
        for ancestor in std::iter::once(None).chain((0..files.len()).map(Some)) {
            let mut mask = MaskValue::ZERO;
            for (bit, binary) in binaries.iter().enumerate() {
                let before = ancestor.map(|index| &files[index]);
                for how in means(binary, (&files[file], is_changed), before) {
                    match how {
                        Means::Own => mask.own.insert(bit),
                        Means::Lineage => mask.lineage.insert(bit),
                        Means::Changed => mask.changed.insert(bit),
                    }
                }
            }
            if !mask.is_empty() {
                masks.insert(chain(file, is_changed, ancestor), mask);
            }
        }
    }
    masks
}

fn query(attempt: &Attempt) -> Query {
    Query {
        policy_id: POLICY_ID,
        sandbox_flags: if attempt.own_loopback {
            SANDBOX_OWN_LOOPBACK
        } else {
            0
        },
        chain: attempt
            .file
            .map_or(0, |file| chain(file, attempt.is_changed, attempt.ancestor)),
        scope_id: attempt.scope_id,
        addr: canonical(attempt.ip),
        port: attempt.port,
        protocol: attempt.protocol,
    }
}

/// Whether `ingress` lets the other side of an attempt reach the port.
fn reference_ingress(policy: &Policy, attempt: &Attempt) -> bool {
    let peer = canonical(attempt.ip);
    policy.ingress.iter().any(|entry| {
        inside(&peer, entry)
            && number(entry) == attempt.protocol
            && entry.ports.contains(attempt.port)
    })
}

/// Attempts on each policy, and policies: more than two million decisions in the profile of the release,
/// of which each takes a fraction of a microsecond.
const ATTEMPTS: usize = 700;
const POLICIES: u32 = if cfg!(debug_assertions) { 300 } else { 3000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(POLICIES))]

    #[test]
    fn compiled_policy_decides_like_a_linear_scan(policy in policy(), seed in any::<u64>()) {
        let files = files();
        let image = compile(&policy, POLICY_ID).expect("small enough");
        let masks = masks(&policy, &files);
        let tables = image.lookup(&masks);
        let names = policy.rule_names();
        for attempt in attempts(&policy, seed, ATTEMPTS) {
            let got = decide(&tables, &query(&attempt));
            let (allowed, reason, rule) = reference(&policy, &files, &attempt);
            prop_assert_eq!(got.is_allowed(), allowed, "{:?}", attempt);
            prop_assert_eq!(got.action == Action::Allowed, allowed);
            prop_assert_eq!(got.reason, reason, "{:?}", attempt);
            let named = (got.grant_index != NO_GRANT).then(|| names[&got.grant_index].clone());
            prop_assert_eq!(named, rule, "{:?}", attempt);
        }
    }

    #[test]
    fn compiled_ingress_decides_like_a_linear_scan(policy in policy(), seed in any::<u64>()) {
        let image = compile(&policy, POLICY_ID).expect("small enough");
        let masks = BTreeMap::new();
        let tables = image.lookup(&masks);
        let sandbox = SandboxValue { sandbox_id: 1, policy_id: POLICY_ID, ..SandboxValue::ZERO };
        for attempt in attempts(&policy, seed, ATTEMPTS / 4) {
            let Attempt { ip, port, protocol, .. } = attempt;
            let peer = canonical(ip);
            let packet = Packet { peer, peer_port: 40_000, local_port: port, protocol };
            let got = ingress(&tables, &sandbox, &packet);
            let want = reference_ingress(&policy, &attempt);
            prop_assert_eq!(got.is_allowed(), want, "{:?}", attempt);
        }
    }

    /// No key is twice in a map, so nothing of what was compiled is lost when it is written; and each
    /// rule is of classes that there are.
    #[test]
    fn image_has_every_key_once(policy in policy()) {
        let image = compile(&policy, POLICY_ID).expect("small enough");
        let unique = |mut keys: Vec<Vec<u32>>| {
            let count = keys.len();
            keys.sort();
            keys.dedup();
            keys.len() == count
        };
        let addresses = image.addresses.iter().map(|(bits, key, _)| {
            let octets = key.addr.octets.map(u32::from);
            [&[*bits, key.addr.family][..], &octets[..]].concat()
        });
        prop_assert!(unique(addresses.collect()));
        let ports = image.ports.iter().map(|(bits, key, _)| {
            vec![*bits, key.protocol.into(), u16::from_be_bytes(key.port_be).into()]
        });
        prop_assert!(unique(ports.collect()));
        for (key, rule) in &image.rules {
            prop_assert!(image.addresses.iter().any(|(.., class)| *class == key.address_class));
            prop_assert!(image.ports.iter().any(|(.., class)| *class == key.port_class));
            prop_assert!(rule.deny_all == NO_GRANT || rule.allow == GrantMask::ZERO, "dead");
        }
    }
}

/// The property above is worth what its cases are: each outcome has to come up.
#[test]
fn generated_attempts_have_every_outcome() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..100 {
        let policy = policy().new_tree(&mut runner).expect("a value").current();
        for attempt in attempts(&policy, seed, 100) {
            let (_, reason, _) = reference(&policy, &files(), &attempt);
            *seen.entry(reason.name()).or_default() += 1;
        }
    }
    for reason in [
        Reason::Rule,
        Reason::DeniedByRule,
        Reason::OwnLoopback,
        Reason::AddressNotListed,
        Reason::PortNotListed,
        Reason::BinaryNotListed,
        Reason::BinaryChanged,
        Reason::NoIdentity,
        Reason::ProtocolNotSupported,
        Reason::Multicast,
        Reason::EmbeddedAddress,
        Reason::LinkLocalNoScope,
    ] {
        let count = seen.get(reason.name()).copied().unwrap_or(0);
        assert!(
            count >= 20,
            "{} came up {count} times: {seen:?}",
            reason.name()
        );
    }
}
