//! Another build of clawd, without building it.

use std::{fs, ops::Range, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::Context as _;

use crate::{binaries, scratch::Scratch};

/// `e_machine` of eBPF (`EM_BPF`, include/uapi/linux/elf-em.h).
const EM_BPF: u16 = 247;
/// How a 64-bit little-endian ELF file begins.
const ELF: &[u8] = b"\x7fELF\x02\x01\x01";
/// Bytes of an ELF file's header.
const HEADER_BYTES: usize = 64;
/// What `sock_create` answers for other protocols, as an instruction's immediate.
const EPROTONOSUPPORT: i32 = -93;

/// Writes a clawd into `scratch` whose eBPF object differs from the one that was built in one
/// instruction: sockets of other protocols are refused with `errno` in place of `EPROTONOSUPPORT`.
///
/// # Errors
/// clawd is not built, or its object has not exactly one such instruction.
pub fn other_build(scratch: &Scratch, errno: i32) -> anyhow::Result<PathBuf> {
    let mut program = fs::read(binaries::find("clawd")?)?;
    let object = object(&program).context("clawd has no eBPF object in it")?;
    let old = EPROTONOSUPPORT.to_le_bytes();
    let object = program.get_mut(object).context("the object is cut off")?;
    let mut found: Vec<_> = object
        .windows(old.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == old)
        .map(|(at, _)| at)
        .collect();
    let at = found.pop().context("no such instruction")?;
    anyhow::ensure!(found.is_empty(), "more than one such instruction");
    let place = object.get_mut(at..at + old.len());
    place
        .context("the object is cut off")?
        .copy_from_slice(&errno.wrapping_neg().to_le_bytes());
    let path: PathBuf = scratch.write(&format!("clawd-{errno}"), program)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The eBPF object in the clawd that was built.
///
/// # Errors
/// clawd is not built, or has none.
pub fn ebpf_object() -> anyhow::Result<Vec<u8>> {
    let program = fs::read(binaries::find("clawd")?)?;
    let object = object(&program).and_then(|range| program.get(range));
    // In memory of its own, because readers want it aligned.
    Ok(object.context("clawd has no eBPF object in it")?.to_vec())
}

/// The part of a program that is an eBPF object: sections' headers are its end.
fn object(program: &[u8]) -> Option<Range<usize>> {
    let begins = |at: &usize| {
        let header = program.get(*at..*at + HEADER_BYTES)?;
        let machine = u16::from_le_bytes(header.get(18..20)?.try_into().ok()?);
        (header.starts_with(ELF) && machine == EM_BPF).then_some(())
    };
    let at = (0..program.len()).find(|at| begins(at).is_some())?;
    let header = program.get(at..at + HEADER_BYTES)?;
    let sections_at = u64::from_le_bytes(header.get(40..48)?.try_into().ok()?);
    let size = u16::from_le_bytes(header.get(58..60)?.try_into().ok()?);
    let count = u16::from_le_bytes(header.get(60..62)?.try_into().ok()?);
    let sections = usize::from(size) * usize::from(count);
    Some(at..at + usize::try_from(sections_at).ok()? + sections)
}
