//! Loads the programs, attaches them to the parent cgroup and pins everything.

use std::{
    fs,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::Array,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock,
        CgroupSockAddr, Program, ProgramError, RawTracePoint, links::FdLink,
    },
};
use clawd_common::{
    ABI_VERSION,
    record::{Meta, Offsets},
};

use crate::{
    btf::read_offsets,
    error::InstallError,
    object::{OBJECT, object_sha256},
    pins::{MAPS, META, Pins},
    replace::HookTable,
};

/// How a program is loaded and attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    SockCreate,
    SockAddr,
    Egress,
    Ingress,
    Tracepoint(&'static str),
}

/// A program with a hook.
pub(crate) struct AttachedProgram {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
}

/// Every attached program. Who a process is comes before what it may do, so that no connect is
/// judged before its process could be seen; until all are there, no sandbox exists.
pub(crate) const PROGRAMS: &[AttachedProgram] = &[
    AttachedProgram {
        name: "process_exec",
        hook: Hook::Tracepoint("sched_process_exec"),
    },
    AttachedProgram {
        name: "process_fork",
        hook: Hook::Tracepoint("sched_process_fork"),
    },
    AttachedProgram {
        name: "process_exit",
        hook: Hook::Tracepoint("sched_process_exit"),
    },
    AttachedProgram {
        name: "sock_create",
        hook: Hook::SockCreate,
    },
    AttachedProgram {
        name: "connect4",
        hook: Hook::SockAddr,
    },
    AttachedProgram {
        name: "connect6",
        hook: Hook::SockAddr,
    },
    AttachedProgram {
        name: "sendmsg4",
        hook: Hook::SockAddr,
    },
    AttachedProgram {
        name: "sendmsg6",
        hook: Hook::SockAddr,
    },
    AttachedProgram {
        name: "egress",
        hook: Hook::Egress,
    },
    AttachedProgram {
        name: "ingress",
        hook: Hook::Ingress,
    },
];

/// The program that is run on a descriptor and never attached.
pub(crate) const FILE_KEY_PROGRAM: &str = "file_key";

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the verifier made of a program.
#[derive(Clone, Debug)]
pub struct ProgramReport {
    /// The program.
    pub name: &'static str,
    /// Instructions that the verifier processed, where the kernel tells (5.16 and later).
    pub instructions: Option<u32>,
}

/// What is in force after [`install`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Installed {
    /// Every program, attached and pinned.
    pub programs: Vec<ProgramReport>,
}

/// Loads every program, to see that the kernel takes it, and drops them again.
///
/// # Errors
/// [`InstallError`], naming the program.
pub fn verify() -> Result<Vec<ProgramReport>, InstallError> {
    let (mut ebpf, btf) = load(1, None)?;
    load_programs(&mut ebpf, &btf)
}

/// The cgroup that the programs are attached to.
#[derive(Clone, Copy, Debug)]
pub struct Attachment<'a> {
    /// The cgroup, opened.
    pub parent: BorrowedFd<'a>,
    /// Its id.
    pub parent_cgroup_id: u64,
    /// Depth of its children, the sandboxes, below the root of the hierarchy.
    pub sandbox_cgroup_level: u32,
}

/// Loads the programs, attaches them, and pins all of it in `pins`.
///
/// `pins` must be [`crate::PinState::Absent`].
///
/// # Errors
/// [`InstallError`]; then nothing stays pinned or attached.
pub fn install(pins: &Pins, to: Attachment<'_>) -> Result<Installed, InstallError> {
    let result = try_install(pins, to);
    if result.is_err()
        && let Err(error) = pins.remove()
    {
        tracing::error!(%error, "pins of a failed start remain; the next start removes them");
    }
    result
}

fn try_install(pins: &Pins, to: Attachment<'_>) -> Result<Installed, InstallError> {
    let (mut ebpf, btf) = load(to.sandbox_cgroup_level, None)?;
    let programs = load_programs(&mut ebpf, &btf)?;
    fs::create_dir_all(pins.dir()).map_err(|source| InstallError::File {
        what: "make",
        path: pins.dir().to_path_buf(),
        source,
    })?;
    for name in MAPS {
        pin_map(&ebpf, pins, name)?;
    }
    let path = pins.program(FILE_KEY_PROGRAM);
    program(&mut ebpf, FILE_KEY_PROGRAM)?
        .pin(&path)
        .map_err(|source| InstallError::Pin {
            path,
            source: Box::new(source),
        })?;
    let mut hooks = HookTable::open(pins)?;
    for AttachedProgram { name, hook } in PROGRAMS {
        let program = program(&mut ebpf, name)?;
        hooks.note(program, name)?;
        pin_link(attach(program, *hook, to.parent, name)?, pins.link(name))?;
    }
    write_meta(&mut ebpf, to, object_sha256())?;
    pin_map(&ebpf, pins, META)?;
    Ok(Installed { programs })
}

/// Whether processors of this architecture see loads in the order of the program.
const ORDERED_MEMORY: u32 = cfg!(target_arch = "x86_64") as u32;

/// Pins a link, which the pin holds from here on; the descriptor may close.
pub(crate) fn pin_link(link: FdLink, path: PathBuf) -> Result<(), InstallError> {
    let _pinned = link.pin(&path).map_err(|source| InstallError::Pin {
        path,
        source: Box::new(source),
    })?;
    Ok(())
}

/// Creates the maps, but for those that are pinned in `reused`, and relocates the programs. A new map
/// is pinned there at once.
pub(crate) fn load(
    sandbox_cgroup_level: u32,
    reused: Option<&Pins>,
) -> Result<(Ebpf, Btf), InstallError> {
    let path = Path::new(KERNEL_BTF);
    let offsets: Offsets = read_offsets(path).map_err(|source| InstallError::Btf {
        path: path.to_path_buf(),
        source,
    })?;
    let btf = Btf::from_sys_fs().map_err(InstallError::AyaBtf)?;
    let mut loader = EbpfLoader::new();
    if let Some(pins) = reused {
        for name in MAPS.iter().chain(&[META]) {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    let ebpf = loader
        .btf(Some(&btf))
        .override_global("OFFSETS", &offsets, true)
        .override_global("SANDBOX_CGROUP_LEVEL", &sandbox_cgroup_level, true)
        .override_global("ORDERED_MEMORY", &ORDERED_MEMORY, true)
        .load(OBJECT)
        .map_err(|source| InstallError::Load(Box::new(source)))?;
    Ok((ebpf, btf))
}

pub(crate) fn program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Program, InstallError> {
    ebpf.program_mut(name).ok_or(InstallError::Missing {
        what: "program",
        name,
    })
}

pub(crate) fn load_programs(
    ebpf: &mut Ebpf,
    btf: &Btf,
) -> Result<Vec<ProgramReport>, InstallError> {
    let mut reports = Vec::new();
    for AttachedProgram { name, hook } in PROGRAMS {
        let program = program(ebpf, name)?;
        let loaded = match hook {
            Hook::SockCreate => {
                <&mut CgroupSock>::try_from(&mut *program).and_then(CgroupSock::load)
            }
            Hook::SockAddr => {
                <&mut CgroupSockAddr>::try_from(&mut *program).and_then(CgroupSockAddr::load)
            }
            Hook::Egress | Hook::Ingress => {
                <&mut CgroupSkb>::try_from(&mut *program).and_then(CgroupSkb::load)
            }
            Hook::Tracepoint(tracepoint) => <&mut BtfTracePoint>::try_from(&mut *program)
                .and_then(|program| program.load(tracepoint, btf)),
        };
        loaded.map_err(refused(name))?;
        reports.push(report(program, name)?);
    }
    let program = program(ebpf, FILE_KEY_PROGRAM)?;
    <&mut RawTracePoint>::try_from(&mut *program)
        .and_then(RawTracePoint::load)
        .map_err(refused(FILE_KEY_PROGRAM))?;
    reports.push(report(program, FILE_KEY_PROGRAM)?);
    Ok(reports)
}

pub(crate) fn refused(program: &'static str) -> impl Fn(ProgramError) -> InstallError {
    move |source| InstallError::Program {
        program,
        source: Box::new(source),
    }
}

fn report(program: &Program, name: &'static str) -> Result<ProgramReport, InstallError> {
    let info = program.info().map_err(refused(name))?;
    Ok(ProgramReport {
        name,
        instructions: info.verified_instruction_count(),
    })
}

/// Attaches a loaded program and takes its link.
pub(crate) fn attach(
    program: &mut Program,
    hook: Hook,
    parent: BorrowedFd<'_>,
    name: &'static str,
) -> Result<FdLink, InstallError> {
    let unlinked = |source| InstallError::Link {
        program: name,
        source,
    };
    // `Single` is right: links are multiple by nature, and asking for more is EINVAL.
    let mode = CgroupAttachMode::Single;
    match hook {
        Hook::SockCreate => {
            let program = <&mut CgroupSock>::try_from(program).map_err(refused(name))?;
            let id = program.attach(parent, mode).map_err(refused(name))?;
            program
                .take_link(id)
                .map_err(refused(name))?
                .try_into()
                .map_err(unlinked)
        }
        Hook::SockAddr => {
            let program = <&mut CgroupSockAddr>::try_from(program).map_err(refused(name))?;
            let id = program.attach(parent, mode).map_err(refused(name))?;
            program
                .take_link(id)
                .map_err(refused(name))?
                .try_into()
                .map_err(unlinked)
        }
        Hook::Egress | Hook::Ingress => {
            let program = <&mut CgroupSkb>::try_from(program).map_err(refused(name))?;
            let direction = match hook {
                Hook::Egress => CgroupSkbAttachType::Egress,
                _ => CgroupSkbAttachType::Ingress,
            };
            let id = program
                .attach(parent, direction, mode)
                .map_err(refused(name))?;
            program
                .take_link(id)
                .map_err(refused(name))?
                .try_into()
                .map_err(unlinked)
        }
        Hook::Tracepoint(_) => {
            let program = <&mut BtfTracePoint>::try_from(program).map_err(refused(name))?;
            let id = program.attach().map_err(refused(name))?;
            Ok(program.take_link(id).map_err(refused(name))?.into())
        }
    }
}

fn pin_map(ebpf: &Ebpf, pins: &Pins, name: &'static str) -> Result<(), InstallError> {
    let map = ebpf
        .map(name)
        .ok_or(InstallError::Missing { what: "map", name })?;
    let path: PathBuf = pins.map(name);
    map.pin(&path).map_err(|source| InstallError::Pin {
        path,
        source: Box::new(source),
    })
}

/// Writes `META`; an object of zeros says that programs are being replaced.
pub(crate) fn write_meta(
    ebpf: &mut Ebpf,
    to: Attachment<'_>,
    object_sha256: [u8; 32],
) -> Result<(), InstallError> {
    let meta = Meta {
        parent_cgroup_id: to.parent_cgroup_id,
        abi_version: ABI_VERSION,
        sandbox_cgroup_level: to.sandbox_cgroup_level,
        object_sha256,
    };
    let map = ebpf.map_mut(META).ok_or(InstallError::Missing {
        what: "map",
        name: META,
    })?;
    Array::<_, Meta>::try_from(map)
        .and_then(|mut array| array.set(0, meta, 0))
        .map_err(|source| InstallError::Map {
            name: META,
            source: Box::new(source),
        })
}
