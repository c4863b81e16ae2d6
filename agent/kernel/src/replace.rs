//! Puts this build's programs in the place of another build's while sandboxes live by the pins.
//!
//! Every hook has a program at every moment: the old one, the new one, or, at a tracepoint, both. The
//! links of cgroup hooks stay and change their program (`BPF_LINK_UPDATE`). Those of raw tracepoints
//! cannot (`bpf_raw_tp_link_lops` has no `update_prog`, kernel/bpf/syscall.c, v6.1 to v6.18): there the
//! new link is attached first, and takes the old one's name, with which the old one goes. The programs
//! bear being called twice for one event.
//!
//! Old and new programs work on the same maps, so any mixture of them decides rightly. A replacement
//! that is cut off has left such a mixture, and a `META` that is nobody's: the next daemon, of whatever
//! build, replaces all of them again.

use std::{fs, os::fd::AsFd as _, path::PathBuf};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::Program,
};
use clawd_common::record::HookValue;

use crate::{
    error::InstallError,
    install::{
        AttachedProgram, Attachment, FILE_KEY_PROGRAM, Hook, Installed, PROGRAMS, attach, load,
        load_programs, pin_link, program, refused, write_meta,
    },
    object::object_sha256,
    pins::{HOOK, HookKey, Pins, hook_key, hook_value},
    tables::open_hash,
};

/// `META` of pins whose programs are being replaced.
const NO_OBJECT: [u8; 32] = [0; 32];

/// What was put at each hook.
pub(crate) struct HookTable(HashMap<MapData, HookKey, HookValue>);

impl HookTable {
    pub(crate) fn open(pins: &Pins) -> Result<Self, InstallError> {
        Ok(Self(open_hash(pins, HOOK)?))
    }

    /// Writes down the program that a hook is about to have.
    pub(crate) fn note(
        &mut self,
        program: &Program,
        name: &'static str,
    ) -> Result<(), InstallError> {
        let info = program.info().map_err(refused(name))?;
        let value = hook_value(info.id(), info.tag());
        self.0
            .insert(hook_key(name), value, 0)
            .map_err(|source| InstallError::Map {
                name: HOOK,
                source: Box::new(source),
            })
    }
}

/// Loads this build's programs against the maps pinned in `pins` and puts them at every hook.
///
/// `pins` must be [`crate::PinState::Replaceable`] or [`crate::PinState::Ours`], attached to
/// `to`. All programs are loaded, and new maps made and pinned, before the first one is replaced: what
/// the kernel does not take changes nothing.
///
/// # Errors
/// [`InstallError`]; every hook still has a program, and the call may be made again.
pub fn replace(pins: &Pins, to: Attachment<'_>) -> Result<Installed, InstallError> {
    let (mut ebpf, btf) = load(to.sandbox_cgroup_level, Some(pins))?;
    let programs = load_programs(&mut ebpf, &btf)?;
    write_meta(&mut ebpf, to, NO_OBJECT)?;
    let mut hooks = HookTable::open(pins)?;
    let (verdicts, others): (Vec<_>, Vec<_>) =
        (PROGRAMS.iter()).partition(|program| program.name.starts_with("connect"));
    for attached in others.into_iter().chain(verdicts) {
        let program = program(&mut ebpf, attached.name)?;
        hooks.note(program, attached.name)?;
        replace_one(pins, to, attached, program)?;
    }
    replace_file_key(pins, &mut ebpf)?;
    pins.remove_unknown()?;
    write_meta(&mut ebpf, to, object_sha256())?;
    Ok(Installed { programs })
}

/// Puts one program at its hook. A hook that the build before did not have is attached.
fn replace_one(
    pins: &Pins,
    to: Attachment<'_>,
    attached: &AttachedProgram,
    program: &mut Program,
) -> Result<(), InstallError> {
    let AttachedProgram { name, hook } = *attached;
    let path = pins.link(name);
    if !path.exists() {
        return pin_link(attach(program, hook, to.parent, name)?, path);
    }
    if matches!(hook, Hook::Tracepoint(_)) {
        let next = fresh(Pins::next(&path))?;
        pin_link(attach(program, hook, to.parent, name)?, next.clone())?;
        return take_place(&next, path);
    }
    let new = program.fd().map_err(refused(name))?;
    clawd_sys::bpf::open_pinned(&path)
        .and_then(|link| clawd_sys::bpf::update_link(link.as_fd(), new.as_fd()))
        .map_err(|source| InstallError::Replace {
            program: name,
            source,
        })
}

/// Puts the new program at the pin that later readers open; those that have the old one keep it.
fn replace_file_key(pins: &Pins, ebpf: &mut Ebpf) -> Result<(), InstallError> {
    let path = pins.program(FILE_KEY_PROGRAM);
    let next = fresh(Pins::next(&path))?;
    program(ebpf, FILE_KEY_PROGRAM)?
        .pin(&next)
        .map_err(|source| InstallError::Pin {
            path: next.clone(),
            source: Box::new(source),
        })?;
    take_place(&next, path)
}

/// Removes what a replacement that was cut off has left at `path`: a link beside the one that counts.
fn fresh(path: PathBuf) -> Result<PathBuf, InstallError> {
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(InstallError::File {
            what: "remove",
            path,
            source,
        }),
        _ => Ok(path),
    }
}

/// Gives a pin the name of another, which goes in the same step.
fn take_place(next: &std::path::Path, path: PathBuf) -> Result<(), InstallError> {
    fs::rename(next, &path).map_err(|source| InstallError::File {
        what: "replace",
        path,
        source,
    })
}
