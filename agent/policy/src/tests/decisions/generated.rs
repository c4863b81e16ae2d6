//! Policies, and attempts near their boundaries.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use proptest::prelude::*;

use super::reference::{Attempt, File};
use crate::{
    Binary, BinaryMatcher, Compatibility, Endpoint, Filesystem, NetworkMode, PathPattern, Policy,
    PortRange, PortSet, Prefix, Process, Protocol, RuleAction, RuleGroup,
};

/// Few paths and hashes, so that groups and files share them.
pub(super) fn files() -> Vec<File> {
    let file = |i: u8| File {
        path: PathBuf::from(format!("/bin/{i}")),
        sha256: [i / 2; 32],
    };
    (0..FILES).map(file).collect()
}

const FILES: u8 = 6;

fn binary() -> impl Strategy<Value = Binary> {
    let matcher = prop_oneof![
        (0..7_u8).prop_map(|i| BinaryMatcher::Path(PathBuf::from(format!("/bin/{i}")))),
        prop::sample::select(vec!["/bin/*", "/bin/[1-3]", "/**/[!0-4]", "/usr/*"]).prop_map(
            |text| { BinaryMatcher::Pattern(PathPattern::parse(text).expect("a pattern")) }
        ),
        (0..4_u8).prop_map(|i| BinaryMatcher::Sha256([i; 32])),
    ];
    (matcher, any::<bool>()).prop_map(|(matcher, descendants)| Binary {
        matcher,
        descendants,
    })
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

/// Single ports and ranges, of few numbers, so that they meet and lie inside each other; and all.
fn ports() -> impl Strategy<Value = PortSet> {
    let edge = prop_oneof![
        4 => 1..7_u16,
        1 => prop::sample::select(vec![255, 256, 1023, 1024, 32767, 32768, 65534, 65535]),
        1 => 1..=u16::MAX,
    ];
    let range = prop_oneof![
        2 => edge.clone().prop_map(|port| PortRange { first: port, last: port }),
        2 => (edge.clone(), edge).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) }),
    ];
    prop_oneof![
        9 => prop::collection::vec(range, 1..4).prop_map(PortSet::from_iter),
        1 => Just(PortSet::all()),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (prefix(), any::<bool>(), ports()).prop_map(|(prefix, udp, ports)| Endpoint {
        prefix,
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        ports,
    })
}

pub(super) fn policy() -> impl Strategy<Value = Policy> {
    let group = (
        prop::bool::weighted(0.25),
        prop::collection::vec(endpoint(), 0..5),
        prop::collection::vec(binary(), 0..4),
    );
    let ingress = prop::collection::vec(endpoint(), 0..4);
    (prop::collection::vec(group, 0..7), ingress).prop_map(|(groups, ingress)| Policy {
        filesystem: Filesystem::default(),
        process: Process::default(),
        network: NetworkMode::Direct,
        landlock: Compatibility::HardRequirement,
        env: BTreeMap::new(),
        env_allow: BTreeSet::new(),
        ingress,
        rules: ('a'..)
            .zip(groups)
            .map(|(name, (denies, endpoints, binaries))| RuleGroup {
                name: name.to_string(),
                line: 0,
                title: None,
                action: match denies {
                    true => RuleAction::Deny,
                    false => RuleAction::Allow,
                },
                endpoints,
                names: Vec::new(),
                binaries,
            })
            .collect(),
    })
}

/// Numbers from a seed (Steele, Lea and Flood, Fast splittable pseudorandom number generators):
/// millions of attempts by strategies would take minutes.
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("64 bits");
        usize::try_from(self.next() % end.max(1)).expect("below a size")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Where what a policy says begins and ends.
pub(super) struct Edges {
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Edges {
    pub(super) fn of(policy: &Policy) -> Self {
        let groups = policy.rules.iter();
        let endpoints = groups.flat_map(|group| &group.endpoints);
        let endpoints: Vec<&Endpoint> = endpoints.chain(&policy.ingress).collect();
        let mut ips: Vec<IpAddr> = endpoints
            .iter()
            .flat_map(|endpoint| around(&endpoint.prefix))
            .collect();
        for text in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::1",
            "::ffff:192.0.2.77",
            "224.0.0.1",
            "203.0.113.9",
            "2001:db8::7777",
            "64:ff9b::1",
            "fe80::2",
        ] {
            ips.push(text.parse().expect("an address"));
        }
        let ranges = endpoints
            .iter()
            .flat_map(|endpoint| endpoint.ports.ranges());
        let mut ports: Vec<u16> = ranges
            .flat_map(|PortRange { first, last }| {
                let middle = first + (last - first) / 2;
                [first - 1, *first, middle, *last, last.saturating_add(1)]
            })
            .collect();
        ports.extend([0, 1, 443, u16::MAX]);
        Self { ips, ports }
    }

    pub(super) fn attempt(&self, random: &mut Random) -> Attempt {
        let files = usize::from(FILES);
        let ip = match random.below(16) {
            0 => IpAddr::V4(u32::try_from(random.next() >> 32).expect("32 bits").into()),
            1 => {
                let high = u128::from(random.next());
                IpAddr::V6((high << 64 | u128::from(random.next())).into())
            }
            _ => random.pick(&self.ips),
        };
        let port = match random.below(8) {
            0 => u16::try_from(random.next() >> 48).expect("16 bits"),
            _ => random.pick(&self.ports),
        };
        Attempt {
            ip,
            scope_id: u32::from(random.one_in(2)),
            port,
            protocol: random.pick(&[6, 6, 6, 6, 6, 17, 17, 17, 17, 17, 1]),
            own_loopback: random.one_in(5),
            file: (!random.one_in(10)).then(|| random.below(files)),
            is_changed: random.one_in(4),
            ancestor: random.one_in(2).then(|| random.below(files)),
        }
    }
}

/// Attempts on a policy.
pub(super) fn attempts(policy: &Policy, seed: u64, count: usize) -> Vec<Attempt> {
    let edges = Edges::of(policy);
    let mut random = Random(seed);
    (0..count).map(|_| edges.attempt(&mut random)).collect()
}

/// The addresses at the edges of a prefix, in and out, and other spellings of them.
fn around(prefix: &Prefix) -> Vec<IpAddr> {
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
