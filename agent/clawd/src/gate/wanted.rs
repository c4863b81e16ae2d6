//! What a gate must know, kept for the next one.

use std::collections::BTreeMap;

use clawd_identity::protocol::{Policy, Request, Watch};

/// The sandboxes that are watched, each with its policies: the one in force, and during a push the
/// one that comes after it.
#[derive(Default)]
pub(super) struct Wanted(BTreeMap<u32, Sandbox>);

struct Sandbox {
    watch: Watch,
    further: Vec<Policy>,
}

impl Wanted {
    pub(super) fn insert(&mut self, watch: Watch) {
        let further = Vec::new();
        self.0.insert(watch.sandbox_id, Sandbox { watch, further });
    }

    pub(super) fn remove(&mut self, sandbox_id: u32) {
        self.0.remove(&sandbox_id);
    }

    pub(super) fn add_policy(&mut self, sandbox_id: u32, policy: Policy) {
        if let Some(sandbox) = self.0.get_mut(&sandbox_id) {
            sandbox.further.push(policy);
        }
    }

    pub(super) fn remove_policy(&mut self, policy_id: u32) {
        for sandbox in self.0.values_mut() {
            sandbox
                .further
                .retain(|policy| policy.policy_id != policy_id);
            if sandbox.watch.policy.policy_id == policy_id && !sandbox.further.is_empty() {
                sandbox.watch.policy = sandbox.further.remove(0);
            }
        }
    }

    /// Every sandbox, and the policies that come on top of those in force.
    pub(super) fn all(&self) -> (Vec<Watch>, Vec<(u32, Policy)>) {
        let watches = self.0.values().map(|sandbox| sandbox.watch.clone());
        let further = self.0.iter().flat_map(|(id, sandbox)| {
            let policies = sandbox.further.iter().cloned();
            policies.map(|policy| (*id, policy))
        });
        (watches.collect(), further.collect())
    }
}

impl Wanted {
    /// What must be told of things that were wanted then and are not any more.
    pub(super) fn gone_since(&self, before: &(Vec<Watch>, Vec<(u32, Policy)>)) -> Vec<Request> {
        let (now, further) = self.all();
        let sandboxes = before.0.iter().map(|watch| watch.sandbox_id);
        let unwatch = sandboxes
            .filter(|id| !self.0.contains_key(id))
            .map(|sandbox_id| Request::Unwatch { sandbox_id });
        let is_wanted = |policy_id: u32| {
            let mut watched = now.iter().map(|watch| watch.policy.policy_id);
            let mut pushed = further.iter().map(|(_, policy)| policy.policy_id);
            watched.any(|id| id == policy_id) || pushed.any(|id| id == policy_id)
        };
        let watched = before.0.iter().map(|watch| watch.policy.policy_id);
        let pushed = before.1.iter().map(|(_, policy)| policy.policy_id);
        let retire = watched
            .chain(pushed)
            .filter(|policy_id| !is_wanted(*policy_id))
            .map(|policy_id| Request::Retire { policy_id });
        unwatch.chain(retire).collect()
    }
}

#[cfg(test)]
mod tests {
    use clawd_identity::protocol::{Policy, Request, Watch};

    use super::Wanted;

    fn policy(policy_id: u32) -> Policy {
        Policy {
            policy_id,
            entries: Vec::new(),
        }
    }

    fn wanted() -> Wanted {
        let mut wanted = Wanted::default();
        wanted.insert(Watch {
            sandbox_id: 1,
            name: "box".to_owned(),
            init_pid: 2,
            exec_mounts: Vec::new(),
            policy: policy(10),
        });
        wanted
    }

    fn policies(wanted: &Wanted) -> (Vec<u32>, Vec<u32>) {
        let (watches, further) = wanted.all();
        let watched = watches.iter().map(|watch| watch.policy.policy_id);
        let further = further.iter().map(|(_, policy)| policy.policy_id);
        (watched.collect(), further.collect())
    }

    #[test]
    fn a_push_leaves_the_new_policy() {
        let mut wanted = wanted();
        wanted.add_policy(1, policy(11));
        assert_eq!(policies(&wanted), (vec![10], vec![11]));
        wanted.remove_policy(10);
        assert_eq!(policies(&wanted), (vec![11], vec![]));
    }

    #[test]
    fn what_went_while_a_gate_took_up_is_told() {
        let mut wanted = wanted();
        wanted.add_policy(1, policy(11));
        let before = wanted.all();
        assert!(wanted.gone_since(&before).is_empty());
        wanted.remove_policy(10);
        let gone = wanted.gone_since(&before);
        assert!(
            matches!(gone[..], [Request::Retire { policy_id: 10 }]),
            "{gone:?}"
        );
        wanted.remove(1);
        let gone = wanted.gone_since(&before);
        assert!(
            matches!(gone[0], Request::Unwatch { sandbox_id: 1 }),
            "{gone:?}"
        );
        assert_eq!(gone.len(), 3);
    }

    #[test]
    fn a_push_that_failed_leaves_the_old_policy() {
        let mut wanted = wanted();
        wanted.add_policy(1, policy(11));
        wanted.remove_policy(11);
        assert_eq!(policies(&wanted), (vec![10], vec![]));
        wanted.remove(1);
        assert_eq!(policies(&wanted), (vec![], vec![]));
    }
}
