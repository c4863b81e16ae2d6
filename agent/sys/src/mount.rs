//! Attributes of mounts that are not attached yet.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::mount::MountAttrFlags;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds attributes to the mount behind `fd` and makes it private; with `recursive`, to all mounts
/// beneath it too. The kernel changes all of them or none.
///
/// # Errors
/// Those of `mount_setattr(2)`, Linux 5.12.
pub fn set_attributes(fd: BorrowedFd<'_>, set: MountAttrFlags, recursive: bool) -> io::Result<()> {
    let attributes = MountAttributes {
        set: set.bits().into(),
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure is valid for the size given.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    crate::check(returned).map(drop)
}
