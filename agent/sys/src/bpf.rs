//! `bpf(2)` commands that aya has no call for.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// `BPF_PROG_TEST_RUN` (include/uapi/linux/bpf.h, `enum bpf_cmd`).
const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// `union bpf_attr`, member `test` (include/uapi/linux/bpf.h, v6.1).
#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Runs a raw tracepoint program once, in the calling task, with `args` as the tracepoint's
/// arguments. Returns what the program returned.
///
/// # Errors
/// The errno of `bpf(2)`: EPERM without the privilege, EINVAL where the program reads more
/// arguments than given.
pub fn run_raw_tracepoint(program: BorrowedFd<'_>, args: &[u64; 2]) -> io::Result<i32> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut attr = TestRunAttr {
        prog_fd: u32::try_from(program.as_raw_fd()).map_err(invalid)?,
        ctx_size_in: u32::try_from(size_of_val(args)).map_err(invalid)?,
        ctx_in: std::ptr::from_ref(args).expose_provenance() as u64,
        ..TestRunAttr::default()
    };
    // SAFETY: `attr` is a live `union bpf_attr` of the size given, with every byte initialised;
    // `ctx_in` points to `ctx_size_in` readable bytes that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attr,
            size_of::<TestRunAttr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(attr.retval.cast_signed())
}
