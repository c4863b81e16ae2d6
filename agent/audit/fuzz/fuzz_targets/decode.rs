//! No bytes of a ring buffer make the decoder panic or a record that its reader refuses, and
//! nothing but the byte 1 becomes "allowed".
//!
//! `cargo xtask fuzz decode`
#![no_main]

use clawd_audit::{Clock, Names, Outcome, Timestamp, decode, record, tail::read_line};
use clawd_common::{record::FileKey, verdict::Reason};
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

    fn unidentified(&self, file: &FileKey) -> Option<(String, Reason)> {
        file.ino
            .is_multiple_of(2)
            .then(|| ("/tmp/\r".to_owned(), Reason::WritableMount))
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
    let line = serde_json::to_vec(&record).expect("a record has a form in JSON");
    assert!(line.iter().all(|byte| *byte >= 0x20));
    assert_eq!(
        read_line(&line).expect("a line that was written can be read"),
        record
    );
});
