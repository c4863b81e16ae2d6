//! What would have to be different for a denied attempt to be allowed.

use std::collections::BTreeSet;

use super::{
    Answer, Explainer, RuleIndex,
    listed::{Listed, listed},
    question::{Question, means},
    words::{addr_of, named},
};
use crate::model::{Binary, NetworkMode, RuleAction, RuleGroup};

/// Near misses that are told.
const MAX_TOLD: usize = 5;

/// Values that one of them names.
const MAX_NAMED: usize = 3;

/// What of an attempt an entry does not mean: the only thing of four. The most likely mistake first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    Nothing,
    Program,
    Port,
    Protocol,
    Host,
}

impl Explainer {
    /// The entries that allow all but one thing of what is asked, in the order of what they miss.
    pub(super) fn near_misses(&self, question: &Question, answer: &Answer) -> Vec<String> {
        let mut found: Vec<(Miss, usize, String)> = Vec::new();
        for (at, group) in self.policy.rules.iter().enumerate() {
            if group.action == RuleAction::Allow
                && let Some((miss, want)) = self.miss(question, answer, group)
            {
                found.push((miss, at, format!("entry {} {want}", self.entry(at))));
            }
        }
        found.sort();
        let told = found.into_iter().take(MAX_TOLD);
        told.map(|(.., text)| text).collect()
    }

    /// What is allowed but for the network mode.
    pub(super) fn near_miss_of_network(&self, question: &Question) -> Vec<String> {
        let direct = self.by_hooks(question, self.mask_of(&question.who), NetworkMode::Direct);
        let allowing = direct.ok().filter(|answer| answer.allowed);
        let rule = allowing.and_then(|answer| answer.rule);
        let text = |rule: RuleIndex| {
            let entry = self.entry(rule.group);
            format!("entry {entry} would allow it if the network mode were `direct`")
        };
        rule.map(text).into_iter().collect()
    }

    /// The smallest thing that an entry misses, if that is all.
    fn miss(
        &self,
        question: &Question,
        answer: &Answer,
        group: &RuleGroup,
    ) -> Option<(Miss, String)> {
        let is_meant = group.binaries.iter().any(|binary| {
            let how = means(binary, &question.who);
            how.own || how.lineage
        });
        let of = |listed: &Listed<'_>| miss_of(listed, question, is_meant);
        let all: Vec<Listed<'_>> = listed(group, None, question).collect();
        let miss = all.iter().filter_map(of).min()?;
        let alike = all.iter().filter(|listed| of(listed) == Some(miss));
        let want = match miss {
            Miss::Nothing => return Some((miss, self.overruled(answer))),
            Miss::Program => programs(question, group),
            Miss::Port => {
                let ports = alike.map(|listed| listed.ports.to_string());
                format!("if the port were {}", any_of(ports))
            }
            Miss::Protocol => {
                let names = alike.map(|listed| listed.protocol.name().to_owned());
                format!("if the protocol were {}", any_of(names))
            }
            Miss::Host => {
                let is_address = addr_of(question).is_some();
                let hosts = alike.map(|listed| match listed.is_name {
                    true => listed.hosts.to_string(),
                    false if is_address => format!("in {}", listed.hosts),
                    false => format!("an address in {}", listed.hosts),
                });
                format!("if the host were {}", any_of(hosts))
            }
        };
        Some((miss, format!("would allow it {want}")))
    }

    /// What keeps an entry from allowing what it means.
    fn overruled(&self, answer: &Answer) -> String {
        match answer.rule {
            Some(rule) => format!(
                "would allow it if entry {} did not deny it",
                self.entry(rule.group)
            ),
            None => "means it, but such a destination is always refused".to_owned(),
        }
    }
}

/// What an endpoint misses, if no more than one thing.
fn miss_of(listed: &Listed<'_>, question: &Question, is_meant: bool) -> Option<Miss> {
    let missed = [
        (is_meant, Miss::Program),
        (listed.ports.contains(question.port), Miss::Port),
        (listed.protocol == question.protocol, Miss::Protocol),
        (listed.has_host, Miss::Host),
    ];
    let mut missed = missed.iter().filter(|(is_there, _)| !is_there);
    match (missed.next(), missed.next()) {
        (None, _) => Some(Miss::Nothing),
        (Some((_, only)), None) => Some(*only),
        (Some(_), Some(_)) => None,
    }
}

fn programs(question: &Question, group: &RuleGroup) -> String {
    if group.binaries.is_empty() {
        return "if it had `binaries`: without them it allows nobody".to_owned();
    }
    let widened = |binary: &&Binary| {
        let wide = Binary {
            descendants: true,
            ..(*binary).clone()
        };
        means(&wide, &question.who).lineage
    };
    if let Some(binary) = group.binaries.iter().find(widened) {
        return format!(
            "if its binary {} had `descendants: true`: an ancestor of the program is meant",
            named(binary)
        );
    }
    format!(
        "if the binary were {}",
        any_of(group.binaries.iter().map(named))
    )
}

/// The first few of some values.
fn any_of(values: impl Iterator<Item = String>) -> String {
    let mut seen = BTreeSet::new();
    let mut values: Vec<String> = values.filter(|value| seen.insert(value.clone())).collect();
    let left_out = values.len().saturating_sub(MAX_NAMED);
    values.truncate(MAX_NAMED);
    let mut text = values.join(" or ");
    if left_out > 0 {
        text += &format!(" or one of {left_out} more");
    }
    text
}
