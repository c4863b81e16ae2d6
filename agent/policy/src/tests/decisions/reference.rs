//! The decision, read off the policy entry by entry: nothing of it is shared with the compiler. The
//! kernel tests include this file too.

use std::{net::IpAddr, path::PathBuf};

use clawd_common::{
    addr::{Addr, AddrKind},
    verdict::Reason,
};

use clawd_policy::{Binary, BinaryMatcher, Endpoint, Policy, Protocol, RuleAction, RuleGroup};

/// A binary on the machine.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) sha256: [u8; 32],
}

/// A destination as a program writes it, from a binary.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) ip: IpAddr,
    pub(super) scope_id: u32,
    pub(super) port: u16,
    pub(super) protocol: u16,
    pub(super) own_loopback: bool,
    /// Index of the file, or `None` for a binary without identity.
    pub(super) file: Option<usize>,
    /// Another content than the one that was pinned is at the file's path now, and asks.
    pub(super) is_changed: bool,
    /// Index of the file that an ancestor runs.
    pub(super) ancestor: Option<usize>,
}

/// Outcome, reason, and the rule that is named.
pub(super) type Decision = (bool, Reason, Option<String>);

/// How an entry means who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// It is its content.
    Own,
    /// An ancestor is, and the entry is for descendants.
    Lineage,
    /// Its path is the entry's, and its content another one.
    Changed,
}

pub(super) fn reference(policy: &Policy, files: &[File], attempt: &Attempt) -> Decision {
    if ![6, 17].contains(&attempt.protocol) {
        return (false, Reason::ProtocolNotSupported, None);
    }
    let dest = canonical(attempt.ip);
    match dest.kind(attempt.scope_id) {
        AddrKind::Refused(reason) => return (false, reason, None),
        AddrKind::Loopback if attempt.own_loopback => return (true, Reason::OwnLoopback, None),
        AddrKind::Loopback | AddrKind::Ordinary => {}
    }
    let inside_of = |endpoint: &&Endpoint| inside(&dest, endpoint);
    let all = policy.rules.iter().flat_map(|group| &group.endpoints);
    // One table of addresses serves both directions: the reason may then name the port.
    if !all
        .chain(&policy.ingress)
        .any(|endpoint| inside(&dest, endpoint))
    {
        return (false, Reason::AddressNotListed, None);
    }
    let covers = |group: &&RuleGroup| {
        let endpoints = group.endpoints.iter().filter(inside_of);
        let mut endpoints = endpoints.filter(|endpoint| number(endpoint) == attempt.protocol);
        endpoints.any(|endpoint| endpoint.ports.contains(attempt.port))
    };
    let covering: Vec<&RuleGroup> = policy.rules.iter().filter(covers).collect();
    let (denying, allowing): (Vec<&RuleGroup>, Vec<&RuleGroup>) = covering
        .iter()
        .partition(|group| group.action == RuleAction::Deny);
    if covering.is_empty() {
        return (false, Reason::PortNotListed, None);
    }
    if let Some(group) = denying.iter().find(|group| group.binaries.is_empty()) {
        let name = format!("network_policies.{}", group.name);
        return (false, Reason::DeniedByRule, Some(name));
    }
    let Some(file) = attempt.file.and_then(|index| files.get(index)) else {
        return (false, Reason::NoIdentity, None);
    };
    let ancestor = attempt.ancestor.and_then(|index| files.get(index));
    let first = |groups: &[&RuleGroup], how: &[Means]| {
        groups.iter().find_map(|group| {
            let mut binaries = group.binaries.iter();
            let index = binaries.position(|binary| {
                let means = means(binary, (file, attempt.is_changed), ancestor);
                means.iter().any(|means| how.contains(means))
            })?;
            Some(format!("network_policies.{}.binaries[{index}]", group.name))
        })
    };
    let every = [Means::Own, Means::Lineage, Means::Changed];
    if let Some(name) = first(&denying, &every) {
        return (false, Reason::DeniedByRule, Some(name));
    }
    // What a program is itself counts first.
    for how in [Means::Own, Means::Lineage] {
        if let Some(name) = first(&allowing, &[how]) {
            return (true, Reason::Rule, Some(name));
        }
    }
    match first(&allowing, &[Means::Changed]) {
        Some(name) => (false, Reason::BinaryChanged, Some(name)),
        None => (false, Reason::BinaryNotListed, None),
    }
}

pub(super) fn canonical(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(ip) => Addr::v4(ip.octets()),
        IpAddr::V6(ip) => Addr::v6(ip.octets()),
    }
}

pub(super) fn number(endpoint: &Endpoint) -> u16 {
    match endpoint.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// Whether a canonical address is in the endpoint's prefix, bit by bit.
pub(super) fn inside(dest: &Addr, endpoint: &Endpoint) -> bool {
    let (family, octets) = match endpoint.prefix.ip() {
        IpAddr::V4(ip) => (4, {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&ip.octets());
            octets
        }),
        IpAddr::V6(ip) => (6, ip.octets()),
    };
    let bit = |octets: &[u8; 16], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    let bits = usize::try_from(endpoint.prefix.bits()).expect("small");
    dest.family == family && (0..bits).all(|at| bit(&dest.octets, at) == bit(&octets, at))
}

/// How an entry means a program and its ancestor.
pub(super) fn means(
    binary: &Binary,
    (file, is_changed): (&File, bool),
    ancestor: Option<&File>,
) -> Vec<Means> {
    let by_path = |file: &File| match &binary.matcher {
        BinaryMatcher::Path(path) => *path == file.path,
        BinaryMatcher::Pattern(pattern) => pattern.matches(&file.path),
        BinaryMatcher::Sha256(_) => false,
    };
    let by_content = |file: &File| match &binary.matcher {
        BinaryMatcher::Sha256(hash) => *hash == file.sha256,
        BinaryMatcher::Path(_) | BinaryMatcher::Pattern(_) => false,
    };
    let mut how = Vec::new();
    if by_content(file) || (by_path(file) && !is_changed) {
        how.push(Means::Own);
    }
    if binary.descendants && ancestor.is_some_and(|file| by_content(file) || by_path(file)) {
        how.push(Means::Lineage);
    }
    if by_path(file) && is_changed {
        how.push(Means::Changed);
    }
    how
}
