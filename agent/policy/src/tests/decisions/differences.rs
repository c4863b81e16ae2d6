//! The differences between two policies against what both decide.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use clawd_common::{
    addr::AddrKind,
    decide::{MaskValue, Query, decide},
    packet::{Packet, ingress},
    record::SandboxValue,
    verdict::{Reason, Verdict},
};
use proptest::prelude::*;

use super::{
    POLICY_ID,
    generated::{attempts, files, policy},
    reference::{Attempt, File, Means, canonical, means, reference},
    reference_ingress,
};
use crate::{
    Binary, BinaryMatcher, MapImage, Policy, Prefix, RuleGroup, compile,
    diff::{Change, NetworkChange, Program, Who, diff},
};

/// Two policies: of the second, some entries are those of the first.
fn pair() -> impl Strategy<Value = (Policy, Policy)> {
    let which = prop::collection::vec(any::<bool>(), 8);
    (policy(), policy(), which).prop_map(|(old, other, which)| {
        let of_other = |at: &usize| which.get(*at).copied().unwrap_or(true);
        let most = old.rules.len().max(other.rules.len());
        let rules = (0..most).filter_map(|at| {
            let from = if of_other(&at) { &other } else { &old };
            from.rules.get(at).cloned()
        });
        let new = Policy {
            rules: rules.collect(),
            ingress: if of_other(&7) {
                other.ingress
            } else {
                old.ingress.clone()
            },
            ..old.clone()
        };
        (old, new)
    })
}

/// The same, written otherwise: other names, another order, each endpoint in an entry of its own.
fn rewritten(policy: &Policy) -> Policy {
    let mut rules = Vec::new();
    for (at, group) in policy.rules.iter().rev().enumerate() {
        let mut binaries = group.binaries.clone();
        binaries.reverse();
        for (part, endpoint) in group.endpoints.iter().rev().enumerate() {
            rules.push(RuleGroup {
                name: format!("{at:02}-{part:02}"),
                line: 9,
                title: Some("another".to_owned()),
                action: group.action,
                names: group.names.clone(),
                endpoints: vec![endpoint.clone()],
                binaries: binaries.clone(),
            });
        }
    }
    let mut ingress = policy.ingress.clone();
    ingress.reverse();
    Policy {
        rules,
        ingress,
        ..policy.clone()
    }
}

/// An address of the change's that a rule judges, where there is one.
fn address(change: &NetworkChange) -> Option<IpAddr> {
    let mut near = edges(&change.prefix);
    near.extend(change.except.iter().flat_map(edges));
    // Inside of what has many special addresses.
    near.extend(
        ["9.9.9.9", "126.0.0.1", "2001:db8::9", "4000::1"]
            .map(|text| text.parse::<IpAddr>().unwrap()),
    );
    let is_said_of = |ip: &IpAddr| {
        let addr = canonical(*ip);
        let has = |prefix: &Prefix| prefix.addr().covers(prefix.bits(), &addr);
        has(&change.prefix)
            && !change.except.iter().any(has)
            && !matches!(addr.kind(1), AddrKind::Refused(_))
    };
    near.into_iter().find(is_said_of)
}

/// The first and last addresses of a prefix and those beside them, spelt as they are.
fn edges(prefix: &Prefix) -> Vec<IpAddr> {
    match prefix.ip() {
        IpAddr::V4(ip) => {
            let first = u32::from(ip);
            let last = first | u32::MAX.checked_shr(prefix.bits()).unwrap_or(0);
            let all = [
                first,
                first.wrapping_add(1),
                first.wrapping_sub(1),
                last,
                last.wrapping_add(1),
                last.wrapping_sub(1),
            ];
            all.map(|value| IpAddr::V4(Ipv4Addr::from(value))).to_vec()
        }
        IpAddr::V6(ip) => {
            let first = u128::from(ip);
            let last = first | u128::MAX.checked_shr(prefix.bits()).unwrap_or(0);
            let all = [
                first,
                first.wrapping_add(1),
                first.wrapping_sub(1),
                last,
                last.wrapping_add(1),
                last.wrapping_sub(1),
            ];
            all.map(|value| IpAddr::V6(Ipv6Addr::from(value))).to_vec()
        }
    }
}

/// What the gate would write for the change's program, or for what it starts.
fn mask(policy: &Policy, Program(matcher): &Program, is_started: bool) -> MaskValue {
    let nobody = File {
        path: PathBuf::from("/nowhere"),
        sha256: [0xee; 32],
    };
    let file = match matcher {
        BinaryMatcher::Path(path) => Some(File {
            path: path.clone(),
            ..nobody.clone()
        }),
        BinaryMatcher::Sha256(sha256) => Some(File {
            sha256: *sha256,
            ..nobody.clone()
        }),
        BinaryMatcher::Pattern(_) => None,
    };
    let how = |binary: &Binary| match (&file, is_started) {
        (Some(file), false) => means(binary, (file, false), None),
        (Some(file), true) => means(binary, (&nobody, false), Some(file)),
        (None, _) if binary.matcher != *matcher => Vec::new(),
        (None, false) => vec![Means::Own],
        (None, true) if binary.descendants => vec![Means::Lineage],
        (None, true) => Vec::new(),
    };
    let mut mask = MaskValue::ZERO;
    let binaries = policy.rules.iter().flat_map(|group| &group.binaries);
    for (bit, binary) in binaries.enumerate() {
        for how in how(binary) {
            match how {
                Means::Own => mask.own.insert(bit),
                Means::Lineage => mask.lineage.insert(bit),
                Means::Changed => mask.changed.insert(bit),
            }
        }
    }
    mask
}

/// A policy with what is compiled of it.
struct Compiled<'a> {
    policy: &'a Policy,
    image: MapImage,
}

fn compiled(policy: &Policy) -> Compiled<'_> {
    let image = compile(policy, POLICY_ID).expect("small enough");
    Compiled { policy, image }
}

/// What a policy decides about an attempt of that kind.
fn verdict(of: &Compiled<'_>, who: &Who, ip: IpAddr, port: u16, protocol: u16) -> Vec<Verdict> {
    let Compiled { policy, image } = of;
    let of_mask = |mask: Option<MaskValue>| {
        let masks: BTreeMap<u32, MaskValue> = mask.into_iter().map(|mask| (1, mask)).collect();
        let query = Query {
            policy_id: POLICY_ID,
            sandbox_flags: 0,
            chain: u32::from(!masks.is_empty()),
            scope_id: 1,
            addr: canonical(ip),
            port,
            protocol,
        };
        decide(&image.lookup(&masks), &query)
    };
    match who {
        Who::EveryProgram => vec![of_mask(None)],
        Who::Program(program) => vec![of_mask(Some(mask(policy, program, false)))],
        Who::StartedBy(program) => vec![of_mask(Some(mask(policy, program, true)))],
        Who::ProgramAndStarted(program) => [false, true]
            .map(|is_started| of_mask(Some(mask(policy, program, is_started))))
            .to_vec(),
        Who::Peers => {
            let sandbox = SandboxValue {
                sandbox_id: 1,
                policy_id: POLICY_ID,
                ..SandboxValue::ZERO
            };
            let packet = Packet {
                peer: canonical(ip),
                peer_port: 40_000,
                local_port: port,
                protocol,
            };
            let masks = BTreeMap::new();
            vec![ingress(&image.lookup(&masks), &sandbox, &packet)]
        }
    }
}

fn protocol(change: &NetworkChange) -> u16 {
    match change.protocol {
        "tcp" => 6,
        "udp" => 17,
        other => panic!("{other}"),
    }
}

/// Confirms a difference at an address and at the edges of its ports; tells whether there is such an
/// address.
fn confirm(
    old: &Compiled<'_>,
    new: &Compiled<'_>,
    change: &NetworkChange,
) -> Result<bool, TestCaseError> {
    prop_assert!(!change.ports.is_empty());
    let Some(ip) = address(change) else {
        return Ok(false);
    };
    let edges = change
        .ports
        .ranges()
        .iter()
        .flat_map(|range| [range.first, range.last]);
    for port in edges {
        let say = |of| verdict(of, &change.who, ip, port, protocol(change));
        for (old, new) in say(old).into_iter().zip(say(new)) {
            let reasons = (old.reason, new.reason);
            let denied = |reason: Reason| reason == Reason::DeniedByRule;
            let is_so = match change.change {
                Change::Reached => !old.is_allowed() && new.is_allowed(),
                Change::NotReached => old.is_allowed() && !new.is_allowed(),
                Change::Denied => !old.is_allowed() && !denied(reasons.0) && denied(reasons.1),
                Change::NotDenied => denied(reasons.0) && !new.is_allowed() && !denied(reasons.1),
            };
            prop_assert!(is_so, "{change:?} at {ip} {port}: {old:?}, {new:?}");
        }
    }
    Ok(true)
}

/// Whether a difference is told of the attempt's destination, whoever's it is.
fn is_told(changes: &[NetworkChange], attempt: &Attempt, is_ingress: bool) -> bool {
    let addr = canonical(attempt.ip);
    let has = |prefix: &Prefix| prefix.addr().covers(prefix.bits(), &addr);
    changes.iter().any(|change| {
        (change.who == Who::Peers) == is_ingress
            && has(&change.prefix)
            && !change.except.iter().any(has)
            && change.ports.contains(attempt.port)
            && protocol(change) == attempt.protocol
    })
}

const PAIRS: u32 = if cfg!(debug_assertions) { 200 } else { 2000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(PAIRS))]

    #[test]
    fn policy_written_otherwise_is_no_other(policy in policy()) {
        let none = diff(&policy, &policy).expect("small enough");
        prop_assert!(none.is_empty(), "{none:?}");
        let other = rewritten(&policy);
        for (a, b) in [(&policy, &other), (&other, &policy)] {
            let none = diff(a, b).expect("small enough");
            prop_assert!(none.is_empty(), "{none:?}");
        }
    }

    #[test]
    fn differences_told_are_decided_so((old, new) in pair()) {
        let told = diff(&old, &new).expect("small enough");
        let (was, is) = (compiled(&old), compiled(&new));
        for change in &told.network {
            confirm(&was, &is, change)?;
        }
        // The other way round it is the same, with old and new exchanged.
        let back = diff(&new, &old).expect("small enough");
        prop_assert_eq!(told.network.len(), back.network.len());
    }

    #[test]
    fn differences_decided_are_told((old, new) in pair(), seed in any::<u64>()) {
        let told = diff(&old, &new).expect("small enough").network;
        let files = files();
        let mut all = attempts(&old, seed, 150);
        all.extend(attempts(&new, !seed, 150));
        for attempt in all {
            let (was, ..) = reference(&old, &files, &attempt);
            let (is, ..) = reference(&new, &files, &attempt);
            prop_assert!(was == is || is_told(&told, &attempt, false), "{attempt:?}");
            let peers = (reference_ingress(&old, &attempt), reference_ingress(&new, &attempt));
            prop_assert!(peers.0 == peers.1 || is_told(&told, &attempt, true), "{attempt:?}");
        }
    }
}

/// The properties above are worth what their cases are: each kind of difference has to come up.
#[test]
fn generated_differences_are_of_every_kind() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<(String, &str), usize> = BTreeMap::new();
    let mut excepting = 0;
    for _ in 0..300 {
        let (old, new) = pair().new_tree(&mut runner).expect("a value").current();
        let (was, is) = (compiled(&old), compiled(&new));
        for change in diff(&old, &new).expect("small enough").network {
            if !confirm(&was, &is, &change).expect("confirmed") {
                continue;
            }
            excepting += usize::from(!change.except.is_empty());
            let who = match change.who {
                Who::EveryProgram => "every",
                Who::Program(_) => "program",
                Who::StartedBy(_) => "started",
                Who::ProgramAndStarted(_) => "both",
                Who::Peers => "peers",
            };
            *seen
                .entry((format!("{:?}", change.change), who))
                .or_default() += 1;
        }
    }
    assert!(excepting > 20, "{excepting}");
    let programs = ["program", "started", "both"];
    let mut want: Vec<(&str, &str)> = Vec::new();
    for change in ["Reached", "NotReached", "Denied", "NotDenied"] {
        want.extend(programs.map(|who| (change, who)));
    }
    want.extend([("Denied", "every"), ("NotDenied", "every")]);
    want.extend([("Reached", "peers"), ("NotReached", "peers")]);
    for (change, who) in want {
        let count = seen.get(&(change.to_owned(), who)).copied().unwrap_or(0);
        assert!(count >= 3, "{change} of {who}: {count} times: {seen:?}");
    }
}

fn parsed(text: &str) -> Policy {
    let text = format!("version: 2\n{text}");
    crate::parse("p", &text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}

fn told(old: &str, new: &str) -> Vec<String> {
    let told = diff(&parsed(old), &parsed(new)).expect("small enough");
    let network = told.network.iter().map(|of| {
        let except: Vec<_> = of.except.iter().map(ToString::to_string).collect();
        let change = of.change;
        let who = match &of.who {
            Who::EveryProgram => "every program".to_owned(),
            Who::Program(program) => program.to_string(),
            Who::StartedBy(program) => format!("started by {program}"),
            Who::ProgramAndStarted(program) => format!("{program} and started"),
            Who::Peers => "peers".to_owned(),
        };
        format!(
            "{change:?} {who} {} {} {except:?} {}",
            of.protocol, of.prefix, of.ports
        )
    });
    let files = told.files.iter().map(|of| {
        let access =
            |state: &Option<crate::diff::FileState>| state.as_ref().map(|state| state.access);
        format!("{:?}: {:?} {:?}", of.path, access(&of.old), access(&of.new))
    });
    let settings = told
        .settings
        .iter()
        .map(|of| format!("{}: {:?} {:?}", of.key, of.old, of.new));
    network.chain(files).chain(settings).collect()
}

#[test]
fn difference_leaves_out_what_is_as_before() {
    let group = |endpoints: &str, binaries: &str| {
        format!("network_policies:\n  g: {{ endpoints: [{endpoints}], binaries: [{binaries}] }}\n")
    };
    let curl = "{ path: /usr/bin/curl }";
    let old = group(
        "{ cidr: 192.0.2.0/24, port: 443 }, { host: 192.0.2.9, port: 80 }",
        curl,
    );
    let new = group(
        "{ host: 192.0.2.7, ports: [443, 8443] }, { host: 192.0.2.9, port: 80 }",
        curl,
    );
    let program = "/usr/bin/curl";
    assert_eq!(
        told(&old, &new),
        [
            format!(r#"NotReached {program} tcp 192.0.2.0/24 ["192.0.2.7/32"] 443"#),
            format!(r#"Reached {program} tcp 192.0.2.7/32 [] 8443"#),
        ]
    );
    // A pattern that goes on meaning the program: nothing that it reaches is lost.
    let both = group(
        "{ host: 192.0.2.9, port: 80 }",
        "{ path: /usr/bin/* }, { path: /usr/bin/curl }",
    );
    let one = group("{ host: 192.0.2.9, port: 80 }", "{ path: /usr/bin/* }");
    assert!(told(&both, &one).is_empty());
    let started = group(
        "{ host: 192.0.2.9, port: 80 }",
        "{ path: /usr/bin/*, descendants: true }",
    );
    assert_eq!(
        told(&one, &started),
        ["Reached started by /usr/bin/* tcp 192.0.2.9/32 [] 80"]
    );
}

#[test]
fn two_halves_of_a_prefix_are_told_and_not_the_empty_rest() {
    let group = |endpoints: &str| {
        format!(
            "network_policies:\n  g: {{ endpoints: [{endpoints}], binaries: [{{ path: /a }}] }}\n"
        )
    };
    let old = group("{ cidr: 10.0.0.0/8, port: 1 }");
    let new = group("{ cidr: 10.0.0.0/9, port: 2 }, { cidr: 10.128.0.0/9, port: 1 }");
    let program = "/a";
    assert_eq!(
        told(&old, &new),
        [
            format!("Reached {program} tcp 10.0.0.0/9 [] 2"),
            format!("NotReached {program} tcp 10.0.0.0/9 [] 1"),
        ]
    );
}

#[test]
fn files_and_settings_are_compared_by_what_they_come_to() {
    let old = "filesystem_policy: { read_execute: [/usr], read_only: [/srv] }\n\
               process: { pids_max: 9, seccomp_deny: [listen] }\n\
               env: { A: hunter2, B: x, C: y }\n";
    let new = "filesystem_policy: { include_workdir: true, read_execute: [/usr, /usr/share], read_write: [/srv/a], deny: [/srv/b] }\n\
               process: { seccomp_deny: [accept] }\n\
               network: { mode: direct }\n\
               env: { A: hunter3, B: x, D: z }\n";
    let got = told(old, new);
    let want = [
        "None: None Some(ReadWrite)",
        r#"Some("/etc/hosts"): Some(Read) Some(Read)"#,
        r#"Some("/etc/resolv.conf"): Some(Read) Some(Read)"#,
        r#"Some("/srv"): Some(Read) None"#,
        r#"Some("/srv/a"): Some(Read) Some(ReadWrite)"#,
        r#"Some("/srv/b"): Some(Read) Some(Denied)"#,
        r#"env.A: Some("(set)") Some("(set to another value)")"#,
        r#"env.C: Some("(set)") None"#,
        r#"env.D: None Some("(set)")"#,
        r#"network.mode: Some("none") Some("direct")"#,
        r#"process.pids_max: Some("9") None"#,
        r#"process.seccomp_deny: None Some("accept")"#,
        r#"process.seccomp_deny: Some("listen") None"#,
    ];
    assert_eq!(got, want);
}
