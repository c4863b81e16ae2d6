//! What a policy says of an attempt, and why: the decision of the kernel's hooks, without a kernel.
//!
//! Decided by [`clawd_common::decide::decide`] over the compiled policy, as in the hooks. What differs is
//! how a program is known: here by its path as written, since no file is opened. So a link is not
//! followed, and every path holds the content that is pinned for it.

mod listed;
mod named;
mod near;
mod question;
mod words;

use std::collections::{BTreeMap, HashMap};

use clawd_common::{
    decide::{GRANT_BITS, MaskValue, Query, decide},
    record::SANDBOX_OWN_LOOPBACK,
    verdict::{NO_GRANT, Reason},
};

pub use self::question::{Question, QuestionError, Who};
use self::{
    named::NameTables,
    question::{Target, means},
};
use crate::{
    compile::{CompileError, MapImage, Sources, compile, sources},
    model::{NetworkMode, Policy},
    parse::Parsed,
    places::GroupPlaces,
};

/// The reason where the policy has no network: not one of the kernel's, which is not asked.
const NO_NETWORK: &str = "no_network";
/// The reason for a name that no entry lists.
const NAME_NOT_LISTED: &str = "name_not_listed";

/// Stands for the policy in the keys of the image, which nobody else sees.
const POLICY_ID: u32 = 1;
/// Stands for the line of executables of whoever asks.
const CHAIN: u32 = 1;

/// Programs whose grants are remembered; with more, all are forgotten.
const MAX_REMEMBERED: usize = 4096;

/// A policy that questions are put to.
#[derive(Debug)]
pub struct Explainer {
    file: String,
    policy: Policy,
    places: Vec<GroupPlaces>,
    network: NetworkMode,
    image: MapImage,
    sources: Sources,
    /// For each bit of a mask: position of the group, and of the entry in it.
    entries: Vec<(usize, usize)>,
    remembered: HashMap<Who, MaskValue>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Answer {
    /// Whether the attempt goes on.
    pub allowed: bool,
    /// Why: a name of [`Reason::name`], `no_network` or `name_not_listed`.
    pub reason: &'static str,
    rule: Option<RuleIndex>,
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RuleIndex {
    /// Position in [`Policy::rules`].
    group: usize,
    /// Position in its `binaries`; `None` if it denies everybody.
    binary: Option<usize>,
}

/// An answer in words. Names and paths of the policy are in them as they are: they are to be escaped
/// before a terminal shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What decided, with its places in the file.
    pub why: Vec<String>,
    /// What would have to be different for the attempt to be allowed, the most likely first.
    pub near_misses: Vec<String>,
}

// === impl Explainer ===

impl Explainer {
    /// Takes a policy; `file` is its name in explanations.
    ///
    /// # Errors
    /// [`CompileError`] if the policy does not fit into the kernel's tables, so that none can have it.
    pub fn new(file: &str, parsed: Parsed) -> Result<Self, CompileError> {
        let Parsed { policy, places, .. } = parsed;
        let binaries = policy.rules.iter().map(|group| group.binaries.len());
        let entries = binaries
            .enumerate()
            .flat_map(|(group, count)| (0..count).map(move |binary| (group, binary)));
        Ok(Self {
            image: compile(&policy, POLICY_ID)?,
            sources: sources(&policy)?,
            file: file.to_owned(),
            entries: entries.collect(),
            network: policy.network,
            policy,
            places,
            remembered: HashMap::new(),
        })
    }

    /// The same for a sandbox whose network mode is not the policy's: a run may narrow it.
    #[must_use]
    pub fn in_network(self, network: NetworkMode) -> Self {
        Self { network, ..self }
    }

    /// Decides an attempt.
    ///
    /// # Errors
    /// [`QuestionError`] where it cannot be told what is asked. Nothing is allowed by it.
    pub fn decide(&mut self, question: &Question) -> Result<Answer, QuestionError> {
        question.who.check()?;
        let mask = self.mask(&question.who);
        let answer = self.by_hooks(question, mask, self.network)?;
        // The hooks know nothing of network modes but whose the loopback is.
        if self.network == NetworkMode::None && answer.reason != Reason::OwnLoopback.name() {
            return Ok(Answer::denied(NO_NETWORK));
        }
        Ok(answer)
    }

    /// The key in `network_policies` of the entry that decided, if one did.
    #[must_use]
    pub fn policy_of(&self, answer: &Answer) -> Option<&str> {
        let group = self.policy.rules.get(answer.rule?.group)?;
        Some(&group.name)
    }

    /// What the hooks say of a program with that mask.
    fn by_hooks(
        &self,
        question: &Question,
        mask: MaskValue,
        network: NetworkMode,
    ) -> Result<Answer, QuestionError> {
        let sandbox_flags = match network {
            NetworkMode::None => SANDBOX_OWN_LOOPBACK,
            NetworkMode::Direct => 0,
        };
        let query = |addr, scope_id| Query {
            policy_id: POLICY_ID,
            sandbox_flags,
            chain: CHAIN,
            scope_id,
            addr,
            port: question.port,
            protocol: question.protocol.number(),
        };
        let (verdict, reason) = match Target::read(&question.host)? {
            Target::Address { addr, scope_id } => {
                let masks = BTreeMap::from([(CHAIN, mask)]);
                let verdict = decide(&self.image.lookup(&masks), &query(addr, scope_id));
                (verdict, verdict.reason.name())
            }
            Target::Name => {
                let tables = NameTables::new(&self.policy, &self.sources, question, mask);
                let verdict = decide(&tables, &query(NameTables::STAND_IN, 0));
                let reason = match verdict.reason {
                    Reason::AddressNotListed => NAME_NOT_LISTED,
                    reason => reason.name(),
                };
                (verdict, reason)
            }
        };
        Ok(Answer {
            allowed: verdict.is_allowed(),
            reason,
            rule: self.rule(verdict.grant_index),
        })
    }

    fn rule(&self, grant_index: u32) -> Option<RuleIndex> {
        if grant_index == NO_GRANT {
            return None;
        }
        let index = usize::try_from(grant_index).ok()?;
        if let Some(group) = index.checked_sub(GRANT_BITS) {
            return Some(RuleIndex {
                group,
                binary: None,
            });
        }
        let (group, binary) = *self.entries.get(index)?;
        Some(RuleIndex {
            group,
            binary: Some(binary),
        })
    }

    /// The mask of a program, which is looked up again and again.
    fn mask(&mut self, who: &Who) -> MaskValue {
        if let Some(mask) = self.remembered.get(who) {
            return *mask;
        }
        let mask = self.mask_of(who);
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(who.clone(), mask);
        mask
    }

    /// What the exec gate would write for a program.
    fn mask_of(&self, who: &Who) -> MaskValue {
        let mut mask = MaskValue::ZERO;
        let groups = self.policy.rules.iter();
        for (bit, binary) in groups.flat_map(|group| &group.binaries).enumerate() {
            let how = means(binary, who);
            if how.own {
                mask.own.insert(bit);
            }
            if how.lineage {
                mask.lineage.insert(bit);
            }
        }
        mask
    }
}

// === impl Answer ===

impl Answer {
    const fn denied(reason: &'static str) -> Self {
        Self {
            allowed: false,
            reason,
            rule: None,
        }
    }
}
