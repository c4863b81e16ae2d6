//! `bpf(2)` commands that aya has no call for.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr::NonNull,
};

/// `BPF_OBJ_GET` (include/uapi/linux/bpf.h, `enum bpf_cmd`).
const BPF_OBJ_GET: libc::c_long = 7;

/// `BPF_LINK_UPDATE`, likewise.
const BPF_LINK_UPDATE: libc::c_long = 29;

/// `union bpf_attr`, first fields of the member of `BPF_OBJ_*` (include/uapi/linux/bpf.h, v6.1).
#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Opens what is pinned at `path`.
///
/// # Errors
/// The errno of `bpf(2)`: ENOENT where there is nothing, EPERM without the privilege.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr {
        pathname: path.as_ptr().expose_provenance() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: `attr` is the start of a live `union bpf_attr`, of the size given, with every byte
    // initialised; `pathname` points to a string with its end that outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET,
            &raw mut attr,
            size_of::<ObjectAttr>(),
        )
    };
    let fd = i32::try_from(fd).map_err(|_wide| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just made for this call, and that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `union bpf_attr`, member `link_update` (include/uapi/linux/bpf.h, v6.1).
#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Puts `program` in the place of the one that `link` runs: each event meets one or the other.
///
/// # Errors
/// The errno of `bpf(2)`: EINVAL for a program of another type, or a link that cannot change its
/// program, as those of raw tracepoints; ENOLINK where what it was attached to is gone.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut attr = LinkUpdateAttr {
        link_fd: u32::try_from(link.as_raw_fd()).map_err(invalid)?,
        new_prog_fd: u32::try_from(program.as_raw_fd()).map_err(invalid)?,
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: `attr` is the start of a live `union bpf_attr`, of the size given, with every byte
    // initialised; it holds no address.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_UPDATE,
            &raw mut attr,
            size_of::<LinkUpdateAttr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

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

/// The values of an array map with `BPF_F_MMAPABLE`, seen without a system call.
#[derive(Debug)]
pub struct ArrayView {
    at: NonNull<u64>,
    words: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only read.
unsafe impl Send for ArrayView {}

impl ArrayView {
    /// Maps the first `len_bytes` of the values of `map`, for reading; a value takes a whole number
    /// of 8-byte words.
    ///
    /// # Errors
    /// The errno of `mmap(2)`: ENOTSUPP where the map was made without the flag, EINVAL where it holds
    /// less.
    pub fn new(map: BorrowedFd<'_>, len_bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses, of a live descriptor.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len_bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let words = len_bytes / size_of::<u64>();
        Ok(Self { at, words })
    }

    /// The word at this index; `None` behind the end. A program that runs at the same time may change
    /// it between two calls.
    #[must_use]
    pub fn word(&self, index: usize) -> Option<u64> {
        if index >= self.words {
            return None;
        }
        // SAFETY: below the mapping's length, which is a live one's.
        let word = unsafe { self.at.add(index) };
        // SAFETY: aligned, as the mapping is to a page; readable while `self` lives. The kernel may
        // write it, so the read is volatile.
        Some(unsafe { word.read_volatile() })
    }
}

impl Drop for ArrayView {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, to which no reference was ever given out.
        let _unmapped =
            unsafe { libc::munmap(self.at.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}
