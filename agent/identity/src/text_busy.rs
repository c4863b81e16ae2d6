//! Whether this kernel keeps writers away from a file that is being executed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    process::{Command, Stdio},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
};

/// Where the program is loaded: above every usual `vm.mmap_min_addr`, aligned for 64 KiB pages.
const ADDRESS: u64 = 0x40_0000;

/// What `Child::kill` sends.
const SIGKILL: i32 = 9;

/// Size of the ELF header and of the one program header, in bytes.
const HEADERS_BYTES: u64 = 64 + 56;

/// Runs a program that only waits and tries to open its file for writing: true where that is
/// refused with ETXTBSY.
///
/// Linux 6.11.0 to 6.11.10, 6.12.0 and 6.12.1 let writers in. The answer holds for files of every
/// file system, as the VFS decides it (`fs/exec.c`, `do_open_execat`, v6.12). It says nothing of
/// libraries that are mapped, nor, since 6.14, of files that a fanotify group of class
/// `FAN_CLASS_PRE_CONTENT` watches: those can be written. False for a machine that the program was
/// not written for.
///
/// # Errors
/// The program cannot be made or started: `vm.memfd_noexec` is 2, or there is no `/proc`;
/// or it ended by itself.
pub(crate) fn running_files_refuse_writers() -> io::Result<bool> {
    let Some(image) = image() else {
        return Ok(false);
    };
    let mut file = File::from(executable_memfd()?);
    file.write_all(&image)?;
    // The memory file itself is open for writing, which the kernel does not count: it was never
    // opened by a path. The child finds the descriptor, and its exec closes it.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Started as soon as this returns: std waits for the exec.
    let mut child = Command::new(&path)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let opened = OpenOptions::new().write(true).open(&path);
    let killed = child.kill();
    let status = child.wait()?;
    killed?;
    if status.signal() != Some(SIGKILL) {
        return Err(io::Error::other("the program that only waits has ended"));
    }
    match opened {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => Ok(true),
        Err(error) => Err(error),
    }
}

/// A file in memory that may be executed. Kernels before 6.3 do not know `MFD_EXEC`, later ones may
/// want it (`vm.memfd_noexec`).
fn executable_memfd() -> io::Result<std::os::fd::OwnedFd> {
    let made = match memfd_create(c"clawd-text-busy", MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(c"clawd-text-busy", MemfdFlags::CLOEXEC),
        made => made,
    };
    Ok(made?)
}

/// Waits in the kernel for ever, so that a copy that nobody killed would not burn a processor:
/// `pause`, and again after a signal.
const CODE_X86_64: &[u8] = &[
    0x6a, 0x22, // push 34
    0x58, // pop rax
    0x0f, 0x05, // syscall
    0xeb, 0xf9, // jmp to the first
];

/// The same with `ppoll`, as there is no `pause`: the kernel starts a program with every register
/// 0, which means no descriptors and no timeout.
const CODE_AARCH64: &[u8] = &[
    0x28, 0x09, 0x80, 0xd2, // mov x8, 73
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0xfe, 0xff, 0xff, 0x17, // b to the first
];

/// The smallest ELF file that runs: one header, one segment, the code. `None` for other machines.
fn image() -> Option<Vec<u8>> {
    let (machine, code) = if cfg!(target_arch = "x86_64") {
        (62_u16, CODE_X86_64)
    } else if cfg!(target_arch = "aarch64") {
        (183, CODE_AARCH64)
    } else {
        return None;
    };
    let len_bytes = HEADERS_BYTES + u64::try_from(code.len()).ok()?;
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    let halves = |image: &mut Vec<u8>, values: &[u16]| {
        image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let words = |image: &mut Vec<u8>, values: &[u32]| {
        image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let doubles = |image: &mut Vec<u8>, values: &[u64]| {
        image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    // e_type ET_EXEC, e_machine; e_version; e_entry, e_phoff, e_shoff; e_flags; e_ehsize,
    // e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    halves(&mut image, &[2, machine]);
    words(&mut image, &[1]);
    doubles(&mut image, &[ADDRESS + HEADERS_BYTES, 64, 0]);
    words(&mut image, &[0]);
    halves(&mut image, &[64, 56, 1, 0, 0, 0]);
    // p_type PT_LOAD, p_flags read and execute; p_offset, p_vaddr, p_paddr, p_filesz, p_memsz,
    // p_align.
    words(&mut image, &[1, 5]);
    doubles(
        &mut image,
        &[0, ADDRESS, ADDRESS, len_bytes, len_bytes, 0x1_0000],
    );
    image.extend(code);
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::running_files_refuse_writers;

    #[test]
    fn running_files_refuse_writers_on_this_host() {
        assert!(running_files_refuse_writers().expect("probes"));
    }
}
