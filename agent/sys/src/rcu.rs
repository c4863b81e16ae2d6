//! Waiting until no eBPF program still reads what was replaced.

use std::io;

/// `MEMBARRIER_CMD_GLOBAL` (include/uapi/linux/membarrier.h): `synchronize_rcu()` in the kernel
/// (kernel/sched/membarrier.c, v6.12).
const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;

/// Returns when every program run that had begun before the call has ended; tens of milliseconds.
///
/// # Errors
/// The errno of `membarrier(2)`: EINVAL on kernels with `nohz_full` processors. Nothing may be
/// assumed about running programs then.
pub fn wait_for_grace_period() -> io::Result<()> {
    // SAFETY: takes integers only.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    crate::check(result).map(drop)
}
