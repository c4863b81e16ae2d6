//! No file makes the reader of executables panic, and what it names stands in the file.
//!
//! `cargo xtask fuzz executable`
#![no_main]

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use clawd_identity::executable::{Kind, is_loader_name, kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read_at = |buffer: &mut [u8], offset: u64| {
        // As the system call: a read behind what an offset can be is an error, not an end.
        assert!(i64::try_from(offset).is_ok());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = data.get(start..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    };
    match kind(read_at).expect("no read fails") {
        Kind::Script { interpreter } => {
            assert!(data.starts_with(b"#!"));
            assert!(!interpreter.as_os_str().as_bytes().contains(&b'\n'));
            is_named(data, &interpreter);
        }
        Kind::Elf { interpreter } => {
            assert!(data.starts_with(b"\x7fELF"));
            if let Some(interpreter) = interpreter {
                is_named(data, &interpreter);
            }
        }
        Kind::Other => {}
    }
});

fn is_named(data: &[u8], interpreter: &Path) {
    let name = interpreter.as_os_str().as_bytes();
    assert!(!name.is_empty() && name.len() < 4_096 && !name.contains(&0));
    assert!(data.windows(name.len()).any(|part| part == name));
    let has_ld = name.windows(2).any(|part| part == b"ld");
    assert!(has_ld || !is_loader_name(interpreter));
}
