//! Gives privileges away, for good.
//!
//! Every call here is of the calling thread alone: the caller has one thread, or it has dropped
//! nothing.

use std::io;

use libc::{c_int, c_long, c_ulong};

/// Securebits that make uid 0 an ordinary number, each with the lock that keeps it so.
///
/// KEEP_CAPS is locked off; NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE are set and locked
/// (include/uapi/linux/securebits.h).
const SECURE_BITS: c_ulong = 0b1110_1111;

/// Empties the bounding set and the ambient set and locks the securebits.
///
/// # Errors
/// Those of `prctl(2)`; `CAP_SETPCAP` is needed.
pub fn drop_bounding_set() -> io::Result<()> {
    /// Above every capability: the kernel's sets have 64 bits.
    const CAPABILITIES: c_ulong = 64;
    for capability in 0..CAPABILITIES {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => break,
            Err(error) => return Err(error),
        }
    }
    prctl(
        libc::PR_CAP_AMBIENT,
        flag(libc::PR_CAP_AMBIENT_CLEAR_ALL),
        0,
    )?;
    prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0).map(drop)
}

/// Whether the securebits are those that [`drop_bounding_set`] sets.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn has_locked_securebits() -> io::Result<bool> {
    let bits = prctl(libc::PR_GET_SECUREBITS, 0, 0)?;
    Ok(u64::try_from(bits) == Ok(SECURE_BITS))
}

/// Empties the permitted, effective and inheritable sets.
///
/// # Errors
/// Those of `capset(2)`.
pub fn drop_capabilities() -> io::Result<()> {
    /// `struct __user_cap_header_struct`.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`: two words a set.
    const VERSION: u32 = 0x2008_0522;
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let data = [[0_u32; 3]; 2];
    // SAFETY: header and data are of the version named in the header: two blocks of three words.
    let returned = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    crate::check(returned).map(drop)
}

/// Becomes this user and group in all of real, effective and saved ids, with these other groups and
/// no more.
///
/// # Errors
/// Those of `setgroups(2)`, `setresgid(2)` and `setresuid(2)`; then the ids may be half changed, and
/// the process must end.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads as many groups (`gid_t` is u32) as the slice has.
    let groups = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    crate::check(groups)?;
    // SAFETY: takes integers alone.
    let group = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    crate::check(group)?;
    // SAFETY: takes integers alone.
    let user = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    crate::check(user).map(drop)
}

/// Refuses, from now on and past every exec, memory that becomes executable after it was written.
///
/// Returns `false` where the kernel has no such thing (before 6.3).
///
/// # Errors
/// Those of `prctl(2)` but `EINVAL`; `EPERM` if the kernel took it without keeping it.
pub fn refuse_exec_gain() -> io::Result<bool> {
    const PR_SET_MDWE: c_int = 65;
    const PR_GET_MDWE: c_int = 66;
    const REFUSE_EXEC_GAIN: c_ulong = 1;
    match prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(false),
        Err(error) => return Err(error),
    }
    if prctl(PR_GET_MDWE, 0, 0)? & 1 == 1 {
        Ok(true)
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

fn prctl(option: c_int, second: c_ulong, third: c_ulong) -> io::Result<c_long> {
    let unused: c_ulong = 0;
    // SAFETY: every option used in this file takes integers alone.
    let returned = unsafe { libc::syscall(libc::SYS_prctl, option, second, third, unused, unused) };
    crate::check(returned)
}

const fn flag(word: c_int) -> c_ulong {
    word.unsigned_abs() as c_ulong
}
