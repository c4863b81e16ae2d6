//! Tests of what is kept, and of what a daemon finds that was killed.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use clawd_control::{PolicySource, limits};

use super::{History, KEPT_BYTES, Kept};
use crate::state::PolicyState;

/// A state directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("clawd-history-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn history(&self) -> History {
        History::open(&self.0).expect("opened")
    }

    fn folder(&self) -> PathBuf {
        self.0.join("history/box")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removed");
    }
}

fn policy(generation: u64, text: &str) -> PolicyState {
    PolicyState {
        policy_id: 7,
        generation,
        source: PolicySource {
            file: "p.yaml".to_owned(),
            text: text.to_owned(),
        },
    }
}

fn kept(generation: u64, text: &str) -> Kept {
    Kept::now(&policy(generation, text), 1000, None)
}

fn generations(history: &History, in_force: u64) -> Vec<u64> {
    let all = history.all("box", in_force).expect("read");
    all.iter().map(|kept| kept.generation).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o7777
}

#[test]
fn kept_policy_is_read_as_it_was_and_by_root_alone() {
    let scratch = Scratch::new();
    let history = scratch.history();
    let text = "version: 2\nenv: { A: \"\u{e9}\\u0001\" }\r\n\n";
    history.begin("box", &kept(1, text)).expect("kept");
    let second = Kept {
        rolled_back_to: Some(1),
        ..kept(2, text)
    };
    history.keep("box", &second).expect("kept");
    assert_eq!(history.one("box", 2).expect("read"), Some(second));
    assert_eq!(history.one("box", 3).expect("read"), None);
    assert_eq!(generations(&history, 2), [1, 2]);
    let folder = scratch.folder();
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("1.json")), 0o600);
    assert_eq!(mode(&scratch.0.join("history")), 0o700);
    // A sandbox of the same name begins anew.
    history.begin("box", &kept(1, "b")).expect("kept");
    assert_eq!(generations(&history, u64::MAX), [1]);
    history.forget("box").expect("forgotten");
    history.forget("box").expect("nothing is as good");
    assert!(generations(&history, 1).is_empty());
    assert!(!folder.exists());
}

#[test]
fn the_last_are_kept_and_the_one_in_force_whatever_its_size() {
    let scratch = Scratch::new();
    let history = scratch.history();
    let most = u64::try_from(limits::GENERATIONS).expect("a number");
    for generation in 1..=most + 5 {
        history.keep("box", &kept(generation, "a")).expect("kept");
        history.trim("box", generation).expect("trimmed");
    }
    let want: Vec<_> = (6..=most + 5).collect();
    assert_eq!(generations(&history, most + 5), want);
    // By bytes: of those that are as large as half of what is kept, two with their heads do not fit.
    let half = "x".repeat(usize::try_from(KEPT_BYTES / 2).expect("a size"));
    let last = most + 8;
    for generation in most + 6..=last {
        history.keep("box", &kept(generation, &half)).expect("kept");
        history.trim("box", generation).expect("trimmed");
    }
    assert_eq!(generations(&history, last), [last]);
    let all = "x".repeat(usize::try_from(KEPT_BYTES).expect("a size"));
    history.keep("box", &kept(last + 1, &all)).expect("kept");
    history.trim("box", last + 1).expect("trimmed");
    assert_eq!(generations(&history, last + 1), [last + 1]);
}

#[test]
fn all_are_kept_while_they_fit() {
    let scratch = Scratch::new();
    let history = scratch.history();
    let large = "x".repeat(usize::try_from(KEPT_BYTES / 2).expect("a size"));
    for (generation, text) in [(1, "a"), (2, &*large), (3, "b"), (4, "c")] {
        history.keep("box", &kept(generation, text)).expect("kept");
    }
    history.trim("box", 4).expect("trimmed");
    assert_eq!(generations(&history, 4), [1, 2, 3, 4]);
}

#[test]
fn what_a_killed_daemon_left_of_a_push_is_no_part_of_the_history() {
    let scratch = Scratch::new();
    let history = scratch.history();
    history.begin("box", &kept(1, "a")).expect("kept");
    history.keep("box", &kept(2, "b")).expect("kept");
    // Killed when the third was written down, and when the fourth's file was half written.
    history.keep("box", &kept(3, "c")).expect("kept");
    fs::write(scratch.folder().join("4.new"), "{\"gener").expect("written");
    fs::write(scratch.folder().join("007.json"), "{}").expect("written");
    assert_eq!(generations(&history, 2), [1, 2]);
    history.settle("box", &policy(2, "b")).expect("settled");
    assert_eq!(generations(&history, u64::MAX), [1, 2]);
    let left = fs::read_dir(scratch.folder()).expect("a folder");
    assert_eq!(left.count(), 2);
    let last = history.one("box", 2).expect("read").expect("kept");
    assert_eq!(last.caller_uid, Some(1000));
}

#[test]
fn taken_over_sandbox_has_what_is_in_force_in_its_history() {
    let scratch = Scratch::new();
    let history = scratch.history();
    // Of a daemon that kept none.
    history.settle("box", &policy(5, "e")).expect("settled");
    let last = history.one("box", 5).expect("read").expect("kept");
    assert_eq!((last.source.text.as_str(), last.pushed_at), ("e", None));
    // Of one whose last push was taken back half-way, and one that is no JSON.
    for written in [
        serde_json::to_string(&kept(5, "f")).expect("JSON"),
        "{".to_owned(),
    ] {
        fs::write(scratch.folder().join("5.json"), written).expect("written");
        history.settle("box", &policy(5, "e")).expect("settled");
        let last = history.one("box", 5).expect("read").expect("kept");
        assert_eq!((last.source.text.as_str(), last.caller_uid), ("e", None));
    }
    // A file under another generation's name is not that generation.
    fs::copy(
        scratch.folder().join("5.json"),
        scratch.folder().join("4.json"),
    )
    .expect("copied");
    assert_eq!(generations(&history, 5), [5]);
}

#[test]
fn histories_of_sandboxes_that_are_gone_are_removed() {
    let scratch = Scratch::new();
    let history = scratch.history();
    for name in ["box", "b.new", "gone"] {
        history.begin(name, &kept(1, "a")).expect("kept");
    }
    let live = HashSet::from(["box".to_owned(), "b.new".to_owned()]);
    history.retain(&live).expect("retained");
    let mut left: Vec<_> = fs::read_dir(scratch.0.join("history"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["b.new", "box"]);
}
