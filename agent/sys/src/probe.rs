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
