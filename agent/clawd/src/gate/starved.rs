//! Tells an exec gate that gets no processor from one that hangs.
//!
//! On a machine with hundreds of programs that want to run, the gate is as slow as all of them; another
//! one in its place would be no quicker, and what runs meanwhile would have no identity.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

/// Longest that the gate may be slow for want of a processor.
const STARVED_MAX: Duration = Duration::from_secs(20);

/// What the kernel tells of a thread's way to processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    /// On a processor, in ns.
    ran_ns: u64,
    /// Ready and waiting for one, in ns; what is under way is not in it.
    waited_ns: u64,
    /// Whether it is ready now.
    is_ready: bool,
}

/// A gate's threads as they were when it was last well.
pub(super) struct Starved {
    pid: u32,
    since: Instant,
    then: BTreeMap<u32, Account>,
}

impl Starved {
    /// Of a gate that is well now.
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            since: Instant::now(),
            then: accounts(pid),
        }
    }

    /// Whether want of a processor explains that the gate is not well.
    pub(super) fn explains(&self) -> bool {
        let elapsed = self.since.elapsed();
        elapsed < STARVED_MAX && starves(&self.then, &accounts(self.pid), elapsed)
    }
}

/// Whether a thread waited for a processor for most of the time.
fn starves(then: &BTreeMap<u32, Account>, now: &BTreeMap<u32, Account>, elapsed: Duration) -> bool {
    let half_ns = u64::try_from(elapsed.as_nanos() / 2).unwrap_or(u64::MAX);
    now.iter().any(|(tid, now)| {
        let Some(then) = then.get(tid) else {
            return false;
        };
        let waits_since_then = then.is_ready && now.is_ready && then.ran_ns == now.ran_ns;
        waits_since_then || now.waited_ns.saturating_sub(then.waited_ns) >= half_ns
    })
}

/// The accounts of a process's threads, by number; empty where the kernel keeps none.
fn accounts(pid: u32) -> BTreeMap<u32, Account> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tids = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |tid: u32| {
        let file = |name| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}")).ok();
        Some((tid, account(&file("schedstat")?, &file("stat")?)?))
    };
    tids.filter_map(read).collect()
}

/// Reads `schedstat` (`<ran> <waited> <slices>`) and the state in `stat`.
fn account(schedstat: &str, stat: &str) -> Option<Account> {
    let mut words = schedstat.split_whitespace();
    // The name in parentheses may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    Some(Account {
        ran_ns: words.next()?.parse().ok()?,
        waited_ns: words.next()?.parse().ok()?,
        is_ready: after.split_whitespace().next()? == "R",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn at(ran_ns: u64, waited_ns: u64, is_ready: bool) -> BTreeMap<u32, Account> {
        let account = Account {
            ran_ns,
            waited_ns,
            is_ready,
        };
        BTreeMap::from([(7, account)])
    }

    #[test]
    fn starved_gate_is_told_from_one_that_hangs_or_spins() {
        let elapsed = Duration::from_secs(2);
        let then = at(5, 9, true);
        for (now, starved, what) in [
            (at(5, 9 + SECOND_NS, false), true, "waited for half of it"),
            (at(5, 9, true), true, "has waited all the time"),
            (at(5, 9, false), false, "sleeps or was stopped"),
            (at(5 + 2 * SECOND_NS, 9, true), false, "spins"),
            (at(6, 8 + SECOND_NS, true), false, "waited for less"),
            (BTreeMap::new(), false, "is gone"),
        ] {
            assert_eq!(starves(&then, &now, elapsed), starved, "{what}");
        }
        // A thread that was not there then tells nothing.
        assert!(!starves(
            &BTreeMap::new(),
            &at(5, SECOND_NS * 9, true),
            elapsed
        ));
    }

    #[test]
    fn accounts_are_read_behind_any_name() {
        let want = Account {
            ran_ns: 12,
            waited_ns: 34,
            is_ready: true,
        };
        assert_eq!(account("12 34 5\n", "7 (a) S (b) R 1 1"), Some(want));
        assert_eq!(account("", "7 (a) R 1"), None);
        assert_eq!(account("12 x 5\n", "7 (a) R 1"), None);
        assert!(!accounts(std::process::id()).is_empty());
    }
}
