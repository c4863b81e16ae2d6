//! Why an attempt is allowed or denied, in words.

use clawd_common::{
    addr::{Addr, AddrKind},
    verdict::Reason,
};

use super::{
    Answer, Explainer, Explanation, NAME_NOT_LISTED, NO_NETWORK, RuleIndex,
    listed::listed,
    question::{Question, Target, means},
};
use crate::{
    model::{Binary, BinaryMatcher, NetworkMode, RuleAction},
    places::GroupPlaces,
    problem::Position,
};

impl Explainer {
    /// Says why the answer to a question is what it is.
    #[must_use]
    pub fn explain(&self, question: &Question, answer: &Answer) -> Explanation {
        let mut why = match answer.rule {
            Some(rule) => self.by_rule(question, answer, rule),
            None => vec![without_rule(question, answer.reason)],
        };
        let addr = addr_of(question);
        if !answer.allowed
            && self.network == NetworkMode::Direct
            && addr.is_some_and(|addr| addr.kind(1) == AddrKind::Loopback)
        {
            why.push(
                "a server of the sandbox's own is reached on loopback without a rule".to_owned(),
            );
        }
        if answer.allowed && addr.is_none() {
            why.extend(self.may_deny_addresses());
        }
        if question.who.sha256.is_none() {
            why.extend(self.not_compared(question));
        }
        let near_misses = if answer.allowed {
            Vec::new()
        } else if answer.reason == NO_NETWORK {
            self.near_miss_of_network(question)
        } else {
            self.near_misses(question, answer)
        };
        Explanation { why, near_misses }
    }

    /// Names the entry, the endpoint and the binary that made the decision.
    fn by_rule(&self, question: &Question, answer: &Answer, rule: RuleIndex) -> Vec<String> {
        let (Some(group), Some(places)) = (
            self.policy.rules.get(rule.group),
            self.places.get(rule.group),
        ) else {
            return Vec::new();
        };
        let does = match answer.allowed {
            true => "allows it",
            false => "denies it, whatever allows it",
        };
        let mut why = vec![format!("entry {} {does}", self.entry(rule.group))];
        let mut all = listed(group, Some(places), question);
        if let Some(covering) = all.find(|listed| listed.covers(question)) {
            why.push(format!(
                "its endpoint {} covers the destination: {}, {}",
                self.place(covering.at),
                covering.hosts,
                covering.service(),
            ));
        }
        match rule.binary {
            None => why.push("it has no `binaries`: every program is denied".to_owned()),
            Some(at) => {
                let binary = group.binaries.get(at);
                why.extend(binary.map(|binary| self.by_binary(question, binary, (places, at))));
            }
        }
        why
    }

    fn by_binary(
        &self,
        question: &Question,
        binary: &Binary,
        (places, at): (&GroupPlaces, usize),
    ) -> String {
        let what = match means(binary, &question.who).own {
            true => "the program",
            false => "an ancestor, with its descendants",
        };
        let place = self.place(places.binaries.get(at));
        format!("its binary {place} means {what}: {}", named(binary))
    }

    /// Which entry may deny what a name stands for.
    fn may_deny_addresses(&self) -> Option<String> {
        let mut groups = self.policy.rules.iter().enumerate();
        let (at, _) = groups
            .find(|(_, group)| group.action == RuleAction::Deny && !group.endpoints.is_empty())?;
        Some(format!(
            "entry {} denies addresses: it wins where the name stands for one of them",
            self.entry(at)
        ))
    }

    /// Which entry by SHA-256 might change the answer.
    fn not_compared(&self, question: &Question) -> Option<String> {
        let by_hash = |binary: &Binary| matches!(binary.matcher, BinaryMatcher::Sha256(_));
        let mut groups = self.policy.rules.iter().enumerate();
        let (at, _) = groups.find(|(_, group)| {
            group.binaries.iter().any(by_hash)
                && listed(group, None, question).any(|listed| listed.covers(question))
        })?;
        Some(format!(
            "entry {} names a SHA-256, which is not compared: the question has none",
            self.entry(at)
        ))
    }

    /// An entry of `network_policies` with its place.
    pub(super) fn entry(&self, group: usize) -> String {
        let name = self.policy.rules.get(group).map(|group| &group.name);
        let name = name.map_or("", String::as_str);
        let at = self.places.get(group).map(|places| &places.at);
        format!("`{name}` ({})", self.place(at))
    }

    pub(super) fn place(&self, at: Option<&Position>) -> String {
        let file = &self.file;
        at.map_or_else(|| file.clone(), |at| format!("{file}:{at}"))
    }
}

/// Why no rule had to be asked, or none was found.
fn without_rule(question: &Question, reason: &str) -> String {
    let Question {
        host,
        port,
        protocol,
        ..
    } = question;
    let protocol = protocol.name();
    let text = match reason {
        NO_NETWORK => {
            "the network mode is `none`: there is no network but the sandbox's own loopback"
        }
        NAME_NOT_LISTED => {
            return format!("no entry lists the name {host}");
        }
        _ => match Reason::ALL.iter().find(|known| known.name() == reason) {
            Some(Reason::AddressNotListed) => return format!("no endpoint covers {host}"),
            Some(Reason::PortNotListed) => {
                return format!("endpoints cover {host}, but none of them {protocol} port {port}");
            }
            Some(Reason::BinaryNotListed) => "the destination is listed, but not for this program",
            Some(Reason::OwnLoopback) => "the sandbox's own loopback needs no rule",
            Some(Reason::Multicast) => "multicast destinations are always refused",
            Some(Reason::Broadcast) => "broadcast destinations are always refused",
            Some(Reason::LinkLocalNoScope) => {
                "a link-local address names no host without its interface, as in fe80::1%eth0"
            }
            Some(Reason::EmbeddedAddress) => {
                "an IPv6 address with an IPv4 address inside is always refused"
            }
            _ => return reason.to_owned(),
        },
    };
    text.to_owned()
}

pub(super) fn addr_of(question: &Question) -> Option<Addr> {
    match Target::read(&question.host) {
        Ok(Target::Address { addr, .. }) => Some(addr),
        Ok(Target::Name) | Err(_) => None,
    }
}

/// Which program an entry means.
pub(super) fn named(binary: &Binary) -> String {
    match &binary.matcher {
        BinaryMatcher::Path(path) => path.display().to_string(),
        BinaryMatcher::Pattern(pattern) => pattern.to_string(),
        BinaryMatcher::Sha256(sha256) => {
            let digits: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("the file with SHA-256 {digits}")
        }
    }
}
