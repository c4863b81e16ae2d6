//! No query makes clawd panic, and what is read is written and read again the same.
//!
//! `cargo xtask fuzz query`
#![no_main]

use clawd_control::LogQuery;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(query) = LogQuery::parse(text) else {
        return;
    };
    assert_eq!(LogQuery::parse(&query.to_string()).as_ref(), Ok(&query));
});
