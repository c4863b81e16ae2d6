//! What the kernel offers, asked by calls that change nothing.

use libc::c_long;

/// The Landlock ABI of this kernel, 0 where Landlock is not there or not enabled at boot.
#[must_use]
pub fn landlock_abi() -> u32 {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: c_long = 1;
    // SAFETY: with this flag no attribute is read: pointer and size must be null and 0.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(returned).unwrap_or(0)
}
