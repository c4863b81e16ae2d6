//! No bytes make the policy reader, its errors or the compiler panic.
//!
//! `cargo xtask fuzz parse`, with the shipped policies as seeds
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match clawd_policy::parse("policy.yaml", text) {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                assert!(is_fit(&warning.to_string()));
            }
            if let Ok(image) = clawd_policy::compile(&parsed.policy, 1) {
                assert!(image.addresses.iter().all(|(.., class)| *class > 0));
            }
        }
        Err(errors) => {
            assert!(!errors.as_slice().is_empty());
            assert!(is_fit(&errors.to_string()));
        }
    }
});

/// Nothing of the file reaches a terminal as a control character.
fn is_fit(shown: &str) -> bool {
    !shown.contains(|c: char| c != '\n' && c.is_control())
}
