//! Tests of rotation on real files: what a process leaves that is killed at each call, and calls that fail.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{AuditLog, LogFiles, Rotation};
use crate::{
    log::{
        faults::Fault,
        tests::{append, record, seqs, whole},
    },
    tail::tail,
};

/// A file is full after some records.
const SMALL: Rotation = Rotation {
    file_bytes: 1000,
    keep: 3,
};

fn open(path: &Path) -> AuditLog {
    AuditLog::open(path, SMALL).expect("opens")
}

/// What a daemon does with a record; tells whether the log went on in a new file before it.
fn write(log: &mut AuditLog) -> bool {
    let before = log.len_bytes;
    if log.rotate_if_full().is_err() {
        assert!(log.rotation_problem().is_some());
    }
    append(log);
    log.len_bytes < before
}

/// Writes until the log has gone on in a new file so many times.
fn rotate(log: &mut AuditLog, times: usize) {
    for _ in 0..times {
        while !write(log) {}
    }
}

/// The names of the log's files, in order.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("read").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    (dir, path)
}

fn up_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

#[test]
fn rotation_keeps_the_newest_files_and_numbers_without_a_gap() {
    let (dir, path) = place();
    let mut log = open(&path);
    rotate(&mut log, 2);
    assert_eq!(seqs(&path), up_to(log.last_seq()));
    rotate(&mut log, 4);
    let kept = seqs(&path);
    let first = *kept.first().expect("records");
    assert!(first > 1, "old files are removed");
    let wanted: Vec<u64> = (first..=log.last_seq()).collect();
    assert_eq!(kept, wanted);
    let names = names(dir.path());
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        let file = fs::metadata(dir.path().join(&name)).expect("is there");
        assert_eq!(file.permissions().mode() & 0o7777, 0o600, "{name}");
        assert!(file.len() < 2 * SMALL.file_bytes, "{name}");
        // Each begins with a record and ends with one: they can be put together.
        let text = fs::read_to_string(dir.path().join(&name)).expect("text");
        assert!(text.starts_with('{') && text.ends_with("}\n"), "{name}");
    }
}

#[test]
fn rotation_killed_at_each_call_loses_no_record_and_repeats_no_number() {
    let calls = calls_of_a_rotation();
    assert!(calls >= 7, "{calls} calls");
    for killed_at in 0..=calls {
        let (dir, path) = place();
        let mut log = open(&path);
        rotate(&mut log, 4);
        while log.len_bytes < SMALL.file_bytes {
            append(&mut log);
        }
        let (first, last) = (*seqs(&path).first().expect("some"), log.last_seq());
        log.folder.faults.set(Fault::AllFrom(killed_at));
        let rotated = log.rotate_if_full();
        assert_eq!(rotated.is_ok(), killed_at == calls, "{rotated:?}");
        drop(log);
        let left = names(dir.path());

        let mut log = open(&path);
        assert_eq!(log.last_seq(), last, "killed at {killed_at}: {left:?}");
        assert_eq!(log.damaged_lines(), 0);
        append(&mut log);
        let found = seqs(&path);
        let from = *found.first().expect("some");
        // Only whole files that are too old may be gone.
        assert!(from == first || rotated.is_ok(), "{left:?}");
        let wanted: Vec<u64> = (from..=last + 1).collect();
        assert_eq!(found, wanted, "killed at {killed_at}: {left:?}");
        // And it goes on rotating, with nothing left over.
        rotate(&mut log, 2);
        assert_eq!(
            names(dir.path()).len(),
            4,
            "killed at {killed_at}: {left:?}"
        );
    }
}

/// With an old file to remove.
fn calls_of_a_rotation() -> usize {
    let (_dir, path) = place();
    let mut log = open(&path);
    rotate(&mut log, 4);
    log.folder.faults.set(Fault::None);
    rotate(&mut log, 1);
    log.folder.faults.calls()
}

#[test]
fn rotation_with_a_call_that_fails_goes_on_in_the_old_file_and_is_tried_again() {
    for failing in 0..calls_of_a_rotation() {
        let (dir, path) = place();
        let mut log = open(&path);
        rotate(&mut log, 4);
        while log.len_bytes < SMALL.file_bytes {
            append(&mut log);
        }
        log.folder.faults.set(Fault::One(failing));
        log.rotate_if_full().expect_err("a call fails");
        assert!(log.rotation_problem().is_some());
        assert_eq!(log.write_errors(), 0);
        rotate(&mut log, 2);
        assert_eq!(log.rotation_problem(), None, "failed at {failing}");
        let found = seqs(&path);
        let from = *found.first().expect("some");
        let wanted: Vec<u64> = (from..=log.last_seq()).collect();
        assert_eq!(found, wanted, "failed at {failing}");
        assert_eq!(names(dir.path()).len(), 4, "failed at {failing}");
    }
}

#[test]
fn rotation_that_fails_for_long_is_not_tried_at_every_record() {
    let (_dir, path) = place();
    let larger = Rotation {
        file_bytes: 8 * SMALL.file_bytes,
        ..SMALL
    };
    let mut log = AuditLog::open(&path, larger).expect("opens");
    log.folder.faults.set(Fault::AllFrom(0));
    let tries = (0..200).filter(|_| {
        let tried = log.rotate_if_full().is_err();
        append(&mut log);
        tried
    });
    let tries = tries.count();
    assert!((2..100).contains(&tries), "{tries}");
    assert_eq!(seqs(&path), up_to(200));
}

#[test]
fn rotation_half_done_in_a_process_that_lives_on_loses_nothing() {
    let (_dir, path) = place();
    let mut log = open(&path);
    while log.len_bytes < SMALL.file_bytes {
        append(&mut log);
    }
    // The file has its name as a full one; neither the next gets its own nor this its old one back.
    let before_the_second_rename = 4;
    log.folder
        .faults
        .set(Fault::AllFrom(before_the_second_rename));
    log.rotate_if_full().expect_err("half done");
    assert!(!path.exists());
    for _ in 0..3 {
        append(&mut log);
    }
    assert_eq!(seqs(&path), up_to(log.last_seq()), "read while it lives");
    drop(log);
    let mut log = open(&path);
    append(&mut log);
    assert_eq!(seqs(&path), up_to(log.last_seq()), "and by the next");

    while log.len_bytes < SMALL.file_bytes {
        append(&mut log);
    }
    log.folder
        .faults
        .set(Fault::AllFrom(before_the_second_rename));
    log.rotate_if_full().expect_err("half done");
    append(&mut log);
    log.folder.faults.set(Fault::None);
    rotate(&mut log, 1);
    assert_eq!(seqs(&path), up_to(log.last_seq()), "and rotated by itself");
}

#[test]
fn rotation_leaves_a_log_whose_new_file_is_empty_its_numbers() {
    let (_dir, path) = place();
    let mut log = open(&path);
    while log.len_bytes < SMALL.file_bytes {
        append(&mut log);
    }
    let last = log.last_seq();
    log.rotate_if_full().expect("rotates");
    assert_eq!(fs::metadata(&path).expect("is there").len(), 0);
    drop(log);
    assert_eq!(open(&path).last_seq(), last);
    // Even if nothing of the file before can be read any more.
    let full = path.with_file_name(format!("audit.jsonl.{last:020}"));
    fs::write(full, "gone\n").expect("writes");
    assert_eq!(open(&path).last_seq(), last);
}

#[test]
fn rotation_does_not_follow_links_or_touch_other_files() {
    let (dir, path) = place();
    let target = dir.path().join("target");
    fs::write(&target, "precious").expect("writes");
    symlink(&target, dir.path().join("audit.jsonl.new")).expect("links");
    for other in ["audit.jsonl.1", "audit.jsonl.00000000000000000001.gz"] {
        fs::write(dir.path().join(other), "other").expect("writes");
    }
    let mut log = open(&path);
    rotate(&mut log, 6);
    assert_eq!(fs::read(&target).expect("reads"), b"precious");
    assert_eq!(names(dir.path()).len(), 4 + 3);
    let full = names(dir.path());
    let newest = full
        .iter()
        .rfind(|name| name.len() == "audit.jsonl.".len() + 20)
        .expect("a full file");
    fs::remove_file(dir.path().join(newest)).expect("removes");
    symlink(&target, dir.path().join(newest)).expect("links");
    let files = LogFiles::at(&path).expect("opens");
    tail(files, usize::MAX, |_| true).expect_err("a link is not read");
}

#[test]
fn rotation_after_the_file_was_moved_by_hand_goes_on() {
    let (dir, path) = place();
    let mut log = open(&path);
    append(&mut log);
    fs::rename(&path, dir.path().join("mine")).expect("moves");
    rotate(&mut log, 1);
    let last = log.last_seq();
    assert_eq!(seqs(&path), [last]);
    assert_eq!(log.rotation_problem(), None);
}

#[test]
fn rotation_of_a_torn_file_ends_the_line_first() {
    let (dir, path) = place();
    let mut log = open(&path);
    while log.len_bytes < SMALL.file_bytes {
        append(&mut log);
    }
    log.torn = true;
    log.rotate_if_full().expect("does nothing");
    assert_eq!(names(dir.path()).len(), 1);
    append(&mut log);
    log.rotate_if_full().expect("rotates");
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn files_of_a_log_stay_readable_while_it_goes_on_without_repeating_a_record() {
    let (_dir, path) = place();
    let mut log = open(&path);
    rotate(&mut log, 2);
    let last = log.last_seq();
    let files = log.files().expect("opens");
    // The file that was written is a full one now, and read once all the same.
    rotate(&mut log, 1);
    let read = tail(files, usize::MAX, |_| true).expect("reads");
    assert!(read.lines.len() as u64 >= last);
    let whole = whole(&path);
    assert_eq!(whole.lines.get(..read.lines.len()), Some(&*read.lines));
    // Full ones may be removed before they are read: what is newer is read.
    let files = log.files().expect("opens");
    rotate(&mut log, 5);
    let read = tail(files, usize::MAX, |_| true).expect("reads");
    assert!(!read.lines.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever happens in whatever order, every record that was appended is there once, in order.
    #[test]
    fn rotation_with_kills_and_failures_keeps_every_record(
        deeds in proptest::collection::vec((0..4_u8, 0..10_usize), 1..120)
    ) {
        let (_dir, path) = place();
        let keep_all = Rotation { file_bytes: 600, keep: usize::MAX };
        let mut log = AuditLog::open(&path, keep_all).expect("opens");
        let mut appended = Vec::new();
        for (deed, number) in deeds {
            match deed {
                0 => log.folder.faults.set(Fault::One(number)),
                1 => {
                    // Killed so many calls from now, within the next rotation.
                    log.folder.faults.set(Fault::AllFrom(number));
                    if log.rotate_if_full().is_err() {
                        drop(log);
                        log = AuditLog::open(&path, keep_all).expect("opens again");
                    }
                }
                _ => {
                    if log.rotate_if_full().is_err() {
                        prop_assert!(log.rotation_problem().is_some());
                    }
                    appended.push(log.append(record()).expect("appends").record.seq);
                }
            }
        }
        prop_assert_eq!(seqs(&path), &*appended);
        prop_assert_eq!(appended, up_to(log.last_seq()));
        prop_assert_eq!(whole(&path).damaged, 0);
    }
}
