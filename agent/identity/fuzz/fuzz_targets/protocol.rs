//! No bytes make the reader of messages panic, and what it understood is sent and received alike.
//!
//! `cargo xtask fuzz protocol`
#![no_main]

use std::fmt::Debug;

use clawd_identity::protocol::{FromGate, ToGate, receive, send};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

fuzz_target!(|data: &[u8]| {
    framed::<ToGate>(data);
    framed::<FromGate>(data);
    // A length that fits, so that the body is what is tried.
    let len = u32::try_from(data.len()).expect("small").to_le_bytes();
    let whole = [&len[..], data].concat();
    framed::<ToGate>(&whole);
    framed::<FromGate>(&whole);
});

fn framed<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    let mut from = bytes;
    let Ok(message) = receive::<T>(&mut from) else {
        return;
    };
    let mut sent = Vec::new();
    send(&mut sent, &message).expect("what was understood can be sent");
    let again: T = receive(&mut sent.as_slice()).expect("and received");
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}
