//! No line makes the log's reader panic, and what it reads is written and read again the same.
//!
//! `cargo xtask fuzz line`
#![no_main]

use clawd_audit::tail::{LINE_BYTES, read_line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(record) = read_line(data) else {
        return;
    };
    assert!(data.len() <= LINE_BYTES);
    let line = serde_json::to_vec(&record).expect("a record has a form in JSON");
    assert!(!line.contains(&b'\n'));
    let again: clawd_audit::AuditRecord = serde_json::from_slice(&line).expect("reads again");
    assert_eq!(again, record);
});
