//! The key of an open descriptor, computed by the same code as at exec, with its mount's namespace.
//!
//! Never attached: user space runs it with `BPF_PROG_TEST_RUN` in the task that holds the descriptor.

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_get_current_task, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use clawd_common::record::OpenFile;

use crate::{
    kread::{self, member, offset},
    maps::FILE_KEY,
};

const EBADF: i32 = 9;

/// Arguments: descriptor number, slot of `FILE_KEY` for the answer. Returns 0, or a negative errno.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn file_key(ctx: RawTracePointContext) -> i32 {
    let args: *const [u64; 2] = ctx.as_ptr().cast();
    // SAFETY: the context has two arguments; the kernel refuses to run the program with fewer.
    let [fd, slot] = unsafe { *args };
    match answer(fd, slot as u32) {
        Ok(()) => 0,
        Err(errno) => errno,
    }
}

#[inline(always)]
fn answer(fd: u64, slot: u32) -> Result<(), i32> {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = member(task, offset!(task_files))?;
    let fdt: u64 = member(files, offset!(files_fdt))?;
    let max_fds: u32 = member(fdt, offset!(fdtable_max_fds))?;
    if fd >= u64::from(max_fds) {
        return Err(-EBADF);
    }
    let table: u64 = member(fdt, offset!(fdtable_fd))?;
    let file: u64 = member(table + fd * 8, 0)?;
    if file == 0 {
        return Err(-EBADF);
    }
    let opened = OpenFile {
        key: kread::file_key(file)?,
        mount_namespace: mount_namespace(file).unwrap_or(0),
        reserved: 0,
    };
    let out = FILE_KEY.get_ptr_mut(slot).ok_or(-EBADF)?;
    // SAFETY: the map's value, aligned and live; the slot belongs to the caller.
    unsafe { out.write(opened) };
    Ok(())
}

/// The number of the mount namespace that the file's mount is in. A mount that was taken away points
/// to none, one of the kernel's own to what cannot be read.
#[inline(always)]
fn mount_namespace(file: u64) -> Result<u32, i32> {
    let mount: u64 = member(file, offset!(file_f_path_mnt))?;
    let namespace: u64 = member(mount, offset!(vfsmount_mnt_ns))?;
    if namespace == 0 {
        return Ok(0);
    }
    member(namespace, offset!(mnt_namespace_inum))
}
