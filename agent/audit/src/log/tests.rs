//! Tests of the sink on real files: numbering, torn lines, modes, errors.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use super::{AppendError, AuditLog, DAMAGED_LINES, LogFiles, OpenError, Rotation, write_whole};
use crate::{
    record::{Activity, AuditRecord},
    tail::{Tail, read_line, tail},
    time::Timestamp,
};

pub(super) fn open(path: &Path) -> Result<AuditLog, OpenError> {
    AuditLog::open(path, Rotation::default())
}

pub(super) fn record() -> AuditRecord {
    AuditRecord::new(Timestamp::from_unix_ns(0), Activity::Connect)
}

pub(super) fn append(log: &mut AuditLog) -> u64 {
    log.append(record()).expect("appends").record.seq
}

/// Everything that the files of the log at `path` hold.
pub(super) fn whole(path: &Path) -> Tail {
    let files = LogFiles::at(path).expect("opens");
    tail(files, usize::MAX, |_| true).expect("reads")
}

pub(super) fn seqs(path: &Path) -> Vec<u64> {
    let tail = whole(path);
    let seq = |line: &String| read_line(line.as_bytes()).expect("a record").seq;
    tail.lines.iter().map(seq).collect()
}

#[test]
fn log_numbers_go_on_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let mut log = open(&path).expect("opens");
    assert_eq!(
        (log.last_seq(), append(&mut log), append(&mut log)),
        (0, 1, 2)
    );
    log.to_sync().expect("a file").sync_data().expect("syncs");
    drop(log);
    let mut log = open(&path).expect("opens again");
    assert_eq!((log.last_seq(), append(&mut log)), (2, 3));
    assert_eq!(log.damaged_lines(), 0);
    assert_eq!(seqs(&path), [1, 2, 3]);
}

#[test]
fn log_torn_line_is_ended_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let mut log = open(&path).expect("opens");
    append(&mut log);
    append(&mut log);
    drop(log);
    let bytes = fs::read(&path).expect("reads");
    fs::write(&path, bytes.get(..bytes.len() - 5).expect("longer")).expect("cuts");
    for (restart, last_seq) in [(0, 1), (1, 2)] {
        let mut log = open(&path).expect("opens again");
        assert_eq!(log.last_seq(), last_seq);
        // Ended by the first restart's record, so the second finds a record as the last line.
        assert_eq!(log.damaged_lines(), 1 - restart);
        append(&mut log);
    }
    assert_eq!(seqs(&path), [1, 2, 3]);
    assert_eq!(whole(&path).damaged, 1);
}

#[test]
fn log_is_private_even_if_it_was_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "").expect("makes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("opens up");
    for path in [path, dir.path().join("new.jsonl")] {
        drop(open(&path).expect("opens"));
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}

#[test]
fn log_in_place_of_something_else_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let link = dir.path().join("link");
    symlink(dir.path().join("target"), &link).expect("links");
    assert!(matches!(open(&link), Err(OpenError::Io { .. })));
    assert!(!dir.path().join("target").exists());
    let device = Path::new("/dev/null");
    assert!(matches!(open(device), Err(OpenError::NotRegular { .. })));
    let missing = dir.path().join("no/such/directory");
    assert!(matches!(open(&missing), Err(OpenError::Io { .. })));
}

#[test]
fn log_without_any_record_at_its_end_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let lines = usize::try_from(DAMAGED_LINES).expect("small");
    fs::write(&path, "nothing\n".repeat(lines)).expect("makes");
    assert!(matches!(open(&path), Err(OpenError::Damaged { .. })));
}

#[test]
fn log_write_error_is_returned_counted_and_leaves_a_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let mut log = open(&path).expect("opens");
    append(&mut log);
    // A descriptor that cannot be written to stands for a full disk.
    let writable = std::mem::replace(&mut log.file, fs::File::open(&path).expect("opens"));
    let error = log.append(record()).expect_err("not writable");
    assert!(matches!(error, AppendError::Write { seq: 2, .. }));
    assert_eq!(log.write_errors(), 1);
    log.file = writable;
    assert_eq!(append(&mut log), 3);
    assert_eq!(seqs(&path), [1, 3]);
    assert_eq!(whole(&path).damaged, 0);
}

/// Writes `bytes` as a write does that fails after them.
fn write_part(log: &mut AuditLog, bytes: &[u8]) {
    let (written, result) = write_whole(&log.file, bytes);
    result.expect("writes");
    log.len_bytes += written;
    log.take_back(written);
}

#[test]
fn log_record_that_fits_in_part_is_taken_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let mut log = open(&path).expect("opens");
    append(&mut log);
    // A line of somebody else's, which the log does not know of, must stay.
    let mut other = fs::File::options().append(true).open(&path).expect("opens");
    other.write_all(b"by hand\n").expect("writes");
    let before = fs::read(&path).expect("reads");
    write_part(&mut log, b"{\"seq\":2");
    assert_eq!(fs::read(&path).expect("reads"), before);
    append(&mut log);
    assert_eq!(seqs(&path), [1, 2]);
    assert_eq!(whole(&path).damaged, 1);
}

#[test]
fn log_record_that_cannot_be_taken_back_is_ended_by_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let mut log = open(&path).expect("opens");
    append(&mut log);
    let part = b"{\"seq\":2";
    let (written, result) = write_whole(&log.file, part);
    result.expect("writes");
    // One that cannot be cut.
    let writable = std::mem::replace(&mut log.file, fs::File::open(&path).expect("opens"));
    log.take_back(written);
    log.file = writable;
    append(&mut log);
    assert_eq!(seqs(&path), [1, 2]);
    assert_eq!(whole(&path).damaged, 1);
}

#[test]
fn log_tail_of_no_log_is_empty() {
    let dir = tempfile::tempdir().expect("a directory");
    for missing in ["none", "no/folder"] {
        assert_eq!(whole(&dir.path().join(missing)), Tail::default());
    }
}

#[test]
fn log_line_does_not_steer_a_terminal_and_means_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(&dir.path().join("audit.jsonl")).expect("opens");
    let exe = Some("/tmp/\u{9b}2J\u{202e}\u{7f}\n".to_owned());
    let sent = AuditRecord { exe, ..record() };
    let line = log.append(sent.clone()).expect("appends").text;
    assert!(!line.chars().any(crate::escape::steers), "{line:?}");
    assert_eq!(read_line(line.as_bytes()).expect("a record").exe, sent.exe);
}
