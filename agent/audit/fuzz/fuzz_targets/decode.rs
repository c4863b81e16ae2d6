//! No bytes of a ring buffer make the decoder panic or a record that its reader refuses, and
//! nothing but the byte 1 becomes "allowed".
//!
//! `cargo xtask fuzz decode`
#![no_main]

use clawd_audit::{Clock, Names, Outcome, SeenFile, Timestamp, decode, record, tail::read_line};
use clawd_common::{
    record::{FileKey, LINEAGE_MAX},
    verdict::Reason,
};
use libfuzzer_sys::fuzz_target;

/// Knows half of the numbers.
struct Half;

impl Names for Half {
    fn sandbox(&self, id: u32) -> Option<String> {
        id.is_multiple_of(2).then(|| format!("s{id}"))
    }

    fn generation(&self, policy_id: u32) -> Option<u64> {
        policy_id.is_multiple_of(2).then_some(1)
    }

    fn grant(&self, _policy_id: u32, grant_index: u32) -> Option<String> {
        grant_index
            .is_multiple_of(2)
            .then(|| "grant\n\u{1b}".to_owned())
    }

    fn file(&self, file_id: u32) -> Option<(String, [u8; 32])> {
        file_id
            .is_multiple_of(2)
            .then(|| ("/bin/\0\n".to_owned(), [7; 32]))
    }

    fn seen(&self, file: &FileKey) -> Option<SeenFile> {
        file.ino.is_multiple_of(2).then(|| SeenFile {
            path: "/tmp/\r".to_owned(),
            sha256: file.ino.is_multiple_of(4).then_some([8; 32]),
            reason: Reason::from_raw(file.ino.to_ne_bytes()[1]),
        })
    }

    fn lineage(&self, chain: u32) -> Vec<u32> {
        (0..chain % 64).collect()
    }

    fn pinned(&self, policy_id: u32, file_id: u32) -> Option<[u8; 32]> {
        (policy_id ^ file_id).is_multiple_of(2).then_some([9; 32])
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(event) = decode(data) else {
        assert_ne!(data.len(), clawd_audit::decode::EVENT_BYTES);
        return;
    };
    let clock = Clock::new(0, Timestamp::from_unix_ns(0));
    let record = record(&event, &Half, &clock);
    assert_eq!(
        record.action == Some(Outcome::Allowed),
        event.action_raw == 1
    );
    assert!(record.lineage.len() <= LINEAGE_MAX);
    assert!(record.pinned_sha256.is_none() || record.reason == Some(Reason::BinaryChanged));
    let line = serde_json::to_vec(&record).expect("a record has a form in JSON");
    assert!(line.iter().all(|byte| *byte >= 0x20));
    assert_eq!(
        read_line(&line).expect("a line that was written can be read"),
        record
    );
});
