//! The compiled tables against a linear scan over the checked policy.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use clawd_common::{
    addr::{Addr, AddrKind},
    decide::{GrantMask, Query, decide},
    record::SANDBOX_OWN_LOOPBACK,
    verdict::{Action, NO_GRANT, Reason, Verdict},
};
use proptest::prelude::*;

use crate::{
    BinaryMatcher, Compatibility, Endpoint, Filesystem, NetworkMode, Policy, Prefix, Process,
    Protocol, RuleGroup, compile,
};

const POLICY_ID: u32 = 7;

/// A binary on the machine.
#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    sha256: [u8; 32],
}

/// A destination as a program writes it, from a binary.
#[derive(Clone, Debug)]
struct Attempt {
    ip: IpAddr,
    scope_id: u32,
    port: u16,
    protocol: u16,
    own_loopback: bool,
    /// Index of the file, or `None` for a binary without identity.
    file: Option<usize>,
}

// === The reference: nothing of it is shared with the compiler ===

/// The decision, read off the policy entry by entry.
fn reference(policy: &Policy, files: &[File], attempt: &Attempt) -> (bool, Reason, Option<String>) {
    if ![6, 17].contains(&attempt.protocol) {
        return (false, Reason::ProtocolNotSupported, None);
    }
    let dest = match attempt.ip {
        IpAddr::V4(ip) => Addr::v4(ip.octets()),
        IpAddr::V6(ip) => Addr::v6(ip.octets()),
    };
    match dest.kind(attempt.scope_id) {
        AddrKind::Refused(reason) => return (false, reason, None),
        AddrKind::Loopback if attempt.own_loopback => return (true, Reason::OwnLoopback, None),
        AddrKind::Loopback | AddrKind::Ordinary => {}
    }
    let (mut address_listed, mut service_listed) = (false, false);
    let mut granted = None;
    for group in &policy.rules {
        for endpoint in group
            .endpoints
            .iter()
            .filter(|endpoint| inside(&dest, endpoint))
        {
            address_listed = true;
            let protocol = if endpoint.protocol == Protocol::Tcp {
                6
            } else {
                17
            };
            if protocol != attempt.protocol || !endpoint.ports.contains(&attempt.port) {
                continue;
            }
            service_listed = true;
            let Some(file) = attempt.file.and_then(|index| files.get(index)) else {
                continue;
            };
            for (i, binary) in group.binaries.iter().enumerate() {
                if matches(binary, file) && granted.is_none() {
                    granted = Some(format!("network_policies.{}.binaries[{i}]", group.name));
                }
            }
        }
    }
    let reason = match (address_listed, service_listed, attempt.file, &granted) {
        (false, ..) => Reason::AddressNotListed,
        (_, false, ..) => Reason::PortNotListed,
        (_, _, None, _) => Reason::NoIdentity,
        (_, _, _, None) => Reason::BinaryNotListed,
        (_, _, _, Some(_)) => return (true, Reason::Rule, granted),
    };
    (false, reason, None)
}

/// Whether a canonical address is in the endpoint's prefix, bit by bit.
fn inside(dest: &Addr, endpoint: &Endpoint) -> bool {
    let ip = match endpoint.prefix.ip() {
        IpAddr::V4(ip) => (4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (6, ip.octets().to_vec()),
    };
    let bit = |octets: &[u8], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    let bits = usize::try_from(endpoint.prefix.bits()).expect("small");
    dest.family == ip.0 && (0..bits).all(|at| bit(&dest.octets, at) == bit(&ip.1, at))
}

fn matches(binary: &BinaryMatcher, file: &File) -> bool {
    match binary {
        BinaryMatcher::Path(path) => *path == file.path,
        BinaryMatcher::Sha256(hash) => *hash == file.sha256,
    }
}

// === Policies and attempts ===

/// Few paths and hashes, so that groups and files share them.
fn files() -> Vec<File> {
    let file = |i: u8| File {
        path: PathBuf::from(format!("/bin/{i}")),
        sha256: [i / 2; 32],
    };
    (0..6).map(file).collect()
}

fn matcher() -> impl Strategy<Value = BinaryMatcher> {
    prop_oneof![
        (0..7_u8).prop_map(|i| BinaryMatcher::Path(PathBuf::from(format!("/bin/{i}")))),
        (0..4_u8).prop_map(|i| BinaryMatcher::Sha256([i; 32])),
    ]
}

/// Prefixes of a few bases, so that they lie inside each other.
fn prefix() -> impl Strategy<Value = Prefix> {
    const BASES: [&str; 8] = [
        "192.0.2.77",
        "192.0.2.128",
        "198.51.100.1",
        "127.0.0.1",
        "2001:db8::77",
        "2001:db8::",
        "::1",
        "fe80::1",
    ];
    let bits = prop_oneof![Just(0_u32), Just(1), Just(128), 0..=128_u32, 120..=128_u32];
    (prop::sample::select(BASES.to_vec()), bits).prop_map(|(base, bits)| {
        let ip: IpAddr = base.parse().expect("an address");
        let bits = if ip.is_ipv4() {
            bits.saturating_sub(if bits > 32 { 96 } else { 0 })
        } else {
            bits
        };
        match Prefix::new(ip, bits) {
            Ok(prefix) => prefix,
            Err(crate::PrefixError::HostBits { corrected }) => corrected,
            Err(error) => panic!("{error}"),
        }
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let ports = prop::collection::btree_set(1..6_u16, 1..4);
    (prefix(), any::<bool>(), ports).prop_map(|(prefix, udp, ports)| Endpoint {
        prefix,
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        ports: ports.into_iter().collect(),
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let group = (
        prop::collection::vec(endpoint(), 0..5),
        prop::collection::vec(matcher(), 0..4),
    );
    prop::collection::vec(group, 0..6).prop_map(|groups| Policy {
        filesystem: Filesystem::default(),
        process: Process::default(),
        network: NetworkMode::Direct,
        landlock: Compatibility::HardRequirement,
        env: BTreeMap::new(),
        rules: ('a'..)
            .zip(groups)
            .map(|(name, (endpoints, binaries))| RuleGroup {
                name: name.to_string(),
                title: None,
                endpoints,
                binaries,
            })
            .collect(),
    })
}

/// The addresses at the edges of a prefix, in and out, and other spellings of them.
fn edges(prefix: &Prefix) -> Vec<IpAddr> {
    let near = |first: u128, last: u128| {
        [
            first,
            last,
            first.wrapping_sub(1),
            last.wrapping_add(1),
            first + (last - first) / 2,
        ]
    };
    match prefix.ip() {
        IpAddr::V4(ip) => {
            let first = u32::from(ip);
            let last = first | u32::MAX.checked_shr(prefix.bits()).unwrap_or(0);
            let v4 = near(first.into(), last.into())
                .map(|value| Ipv4Addr::from(u32::try_from(value & 0xffff_ffff).expect("32 bits")));
            v4.iter()
                .flat_map(|ip| [IpAddr::V4(*ip), IpAddr::V6(ip.to_ipv6_mapped())])
                .collect()
        }
        IpAddr::V6(ip) => {
            let first = u128::from(ip);
            let last = first | u128::MAX.checked_shr(prefix.bits()).unwrap_or(0);
            near(first, last)
                .map(|value| IpAddr::V6(Ipv6Addr::from(value)))
                .to_vec()
        }
    }
}

fn attempt(policy: &Policy) -> impl Strategy<Value = Attempt> + use<> {
    let mut ips: Vec<IpAddr> = policy
        .rules
        .iter()
        .flat_map(|group| &group.endpoints)
        .flat_map(|endpoint| edges(&endpoint.prefix))
        .collect();
    for text in [
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "::1",
        "::ffff:192.0.2.77",
        "224.0.0.1",
        "203.0.113.9",
    ] {
        ips.push(text.parse().expect("an address"));
    }
    let ip = prop_oneof![
        8 => prop::sample::select(ips),
        1 => any::<u32>().prop_map(|ip| IpAddr::V4(ip.into())),
        1 => any::<u128>().prop_map(|ip| IpAddr::V6(ip.into())),
    ];
    let protocol = prop_oneof![5 => Just(6_u16), 5 => Just(17), 1 => Just(1)];
    let file = prop::option::weighted(0.9, 0..6_usize);
    (
        ip,
        0..2_u32,
        0..7_u16,
        protocol,
        prop::bool::weighted(0.2),
        file,
    )
        .prop_map(
            |(ip, scope_id, port, protocol, own_loopback, file)| Attempt {
                ip,
                scope_id,
                port,
                protocol,
                own_loopback,
                file,
            },
        )
}

/// What the kernel would decide with the compiled maps.
fn compiled(policy: &Policy, files: &[File], attempts: &[Attempt]) -> Vec<Verdict> {
    let image = compile(policy, POLICY_ID).expect("small enough");
    let masks: BTreeMap<u32, GrantMask> = (1..)
        .zip(files)
        .filter_map(|(file_id, file)| {
            let mut mask = GrantMask::ZERO;
            for (bit, entry) in policy.grants().iter().enumerate() {
                if matches(&entry.matcher, file) {
                    mask.insert(bit);
                }
            }
            (!mask.is_empty()).then_some((file_id, mask))
        })
        .collect();
    let tables = image.lookup(&masks);
    let query = |attempt: &Attempt| Query {
        policy_id: POLICY_ID,
        sandbox_flags: if attempt.own_loopback {
            SANDBOX_OWN_LOOPBACK
        } else {
            0
        },
        file_id: attempt
            .file
            .map_or(0, |i| u32::try_from(i).expect("small") + 1),
        scope_id: attempt.scope_id,
        addr: match attempt.ip {
            IpAddr::V4(ip) => Addr::v4(ip.octets()),
            IpAddr::V6(ip) => Addr::v6(ip.octets()),
        },
        port: attempt.port,
        protocol: attempt.protocol,
    };
    attempts
        .iter()
        .map(|attempt| decide(&tables, &query(attempt)))
        .collect()
}

fn policy_and_attempts() -> impl Strategy<Value = (Policy, Vec<Attempt>)> {
    policy().prop_flat_map(|policy| {
        let attempts = prop::collection::vec(attempt(&policy), 24);
        (Just(policy), attempts)
    })
}

proptest! {
    // With 24 attempts each, 36,000 decisions.
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn compiled_policy_decides_like_a_linear_scan((policy, attempts) in policy_and_attempts()) {
        let files = files();
        let grants = policy.grants();
        for (attempt, got) in attempts.iter().zip(compiled(&policy, &files, &attempts)) {
            let (allowed, reason, grant) = reference(&policy, &files, attempt);
            prop_assert_eq!(got.is_allowed(), allowed, "{:?}", attempt);
            prop_assert_eq!(got.action == Action::Allowed, allowed);
            prop_assert_eq!(got.reason, reason, "{:?}", attempt);
            let named = usize::try_from(got.grant_index)
                .ok()
                .filter(|_| got.grant_index != NO_GRANT)
                .map(|index| grants[index].to_string());
            prop_assert_eq!(named, grant, "{:?}", attempt);
        }
    }
}

/// The property above is worth what its cases are: each outcome has to come up.
#[test]
fn generated_attempts_have_every_outcome() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..400 {
        let tree = policy_and_attempts()
            .new_tree(&mut runner)
            .expect("a value");
        let (policy, attempts) = tree.current();
        for attempt in &attempts {
            let (_, reason, _) = reference(&policy, &files(), attempt);
            *seen.entry(reason.name()).or_default() += 1;
        }
    }
    for reason in [
        Reason::Rule,
        Reason::OwnLoopback,
        Reason::AddressNotListed,
        Reason::PortNotListed,
        Reason::BinaryNotListed,
        Reason::NoIdentity,
        Reason::ProtocolNotSupported,
        Reason::Multicast,
        Reason::EmbeddedAddress,
        Reason::LinkLocalNoScope,
    ] {
        let count = seen.get(reason.name()).copied().unwrap_or(0);
        assert!(
            count >= 10,
            "{} came up {count} times: {seen:?}",
            reason.name()
        );
    }
}
