//! System calls as a hostile program makes them, for tests of what a sandbox refuses.

use std::io;

/// Makes a system call whose arguments are all zero, so that there is no memory it could touch.
///
/// # Errors
/// Whatever the kernel answers. `EINVAL` without a call for those that would not return here once,
/// or would close a descriptor of this process.
pub fn call_with_zeros(number: i64) -> io::Result<i64> {
    /// The x32 bit, and x32's own number of `rt_sigreturn`.
    const X32: i64 = 0x4000_0000;
    const X32_SIGRETURN: i64 = 513;
    let plain = number & !X32;
    #[cfg(target_arch = "x86_64")]
    let forks = [libc::SYS_fork, libc::SYS_vfork].contains(&plain);
    #[cfg(not(target_arch = "x86_64"))]
    let forks = false;
    let refused = [
        libc::SYS_rt_sigreturn,
        X32_SIGRETURN,
        libc::SYS_clone,
        libc::SYS_close,
    ];
    if forks || refused.contains(&plain) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: every pointer is null and every length zero, so no memory of this process is read,
    // written or unmapped; calls that return twice or elsewhere are refused above.
    let returned = unsafe { libc::syscall(number, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64) };
    crate::check(returned)
}

/// Makes a page of memory executable that is, or can be, written; `how` is `mmap` (both at once) or
/// `mprotect` (one after the other). The page is unmapped again, and nothing is executed.
///
/// # Errors
/// Whatever the kernel answers; `EINVAL` for another `how`.
pub fn executable_memory(how: &str) -> io::Result<i64> {
    const PAGE_BYTES: usize = 4096;
    let (first, then) = match how {
        "mmap" => (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, None),
        "mprotect" => (
            libc::PROT_READ | libc::PROT_WRITE,
            Some(libc::PROT_READ | libc::PROT_EXEC),
        ),
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    // SAFETY: no address is asked for, so no mapping of this process is replaced.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE_BYTES,
            first,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let changed = then.map_or(Ok(0), |protection| {
        // SAFETY: the page is ours alone (mapped above), and nothing refers to it.
        crate::check(unsafe { libc::mprotect(page, PAGE_BYTES, protection) }.into())
    });
    // SAFETY: as it was mapped above; nothing refers to it.
    crate::check(unsafe { libc::munmap(page, PAGE_BYTES) }.into())?;
    changed
}

/// `getpid` through the 32-bit gate.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn getpid_by_int80() -> i32 {
    let mut register: i32 = 20;
    // SAFETY: number 20 of the i386 table takes no arguments and touches no memory; the registers
    // that the gate may zero are named.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") register,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack),
        );
    }
    register
}
