//! What an entry lists, addresses and names alike, held against a question.

use std::fmt;

use super::question::{Question, Target};
use crate::{
    model::{Endpoint, Protocol, RuleAction, RuleGroup},
    places::GroupPlaces,
    ports::PortSet,
    problem::Position,
};

/// A set of destinations that an entry lists.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a> {
    /// Whether the question's host is among them.
    pub(super) has_host: bool,
    /// The hosts, as text.
    pub(super) hosts: &'a dyn fmt::Display,
    /// Whether they are names.
    pub(super) is_name: bool,
    pub(super) protocol: Protocol,
    pub(super) ports: &'a PortSet,
    /// Where it stands, if places were given.
    pub(super) at: Option<&'a Position>,
}

impl Listed<'_> {
    /// Whether the host, the protocol and the port of a question are among them.
    pub(super) fn covers(&self, question: &Question) -> bool {
        self.has_host && self.protocol == question.protocol && self.ports.contains(question.port)
    }

    /// Protocol and ports, as text.
    pub(super) fn service(&self) -> String {
        let (protocol, ports) = (self.protocol.name(), self.ports);
        match ports.ranges() {
            [range] if range.first == range.last => format!("{protocol} port {ports}"),
            _ => format!("{protocol} ports {ports}"),
        }
    }
}

/// Everything that an entry lists, addresses first.
///
/// A name is meant by an address prefix only where that denies all addresses: whatever the name stands for
/// is then denied.
pub(super) fn listed<'a>(
    group: &'a RuleGroup,
    places: Option<&'a GroupPlaces>,
    question: &'a Question,
) -> impl Iterator<Item = Listed<'a>> {
    let target = Target::read(&question.host).ok();
    let denies = group.action == RuleAction::Deny;
    let addresses = group
        .endpoints
        .iter()
        .enumerate()
        .map(move |(at, endpoint)| {
            let prefix = endpoint.prefix;
            Listed {
                has_host: match target {
                    Some(Target::Address { addr, .. }) => {
                        prefix.addr().covers(prefix.bits(), &addr)
                    }
                    Some(Target::Name) => denies && is_everywhere(group, endpoint),
                    None => false,
                },
                hosts: &endpoint.prefix,
                is_name: false,
                protocol: endpoint.protocol,
                ports: &endpoint.ports,
                at: places.and_then(|places| places.endpoints.get(at)),
            }
        });
    let names = group
        .names
        .iter()
        .enumerate()
        .map(move |(at, name)| Listed {
            has_host: target == Some(Target::Name) && name.host.matches(&question.host),
            hosts: &name.host,
            is_name: true,
            protocol: name.protocol,
            ports: &name.ports,
            at: places.and_then(|places| places.names.get(at)),
        });
    addresses.chain(names)
}

/// Whether an entry lists all addresses of both families alike.
fn is_everywhere(group: &RuleGroup, endpoint: &Endpoint) -> bool {
    let is_twin = |other: &Endpoint| {
        other.prefix.bits() == 0
            && other.prefix.addr().family != endpoint.prefix.addr().family
            && (other.protocol, &other.ports) == (endpoint.protocol, &endpoint.ports)
    };
    endpoint.prefix.bits() == 0 && group.endpoints.iter().any(is_twin)
}
