//! What the allocator keeps for later.

/// Has all threads allocate from one arena; before the second thread starts. glibc has one for each of
/// eight threads a processor otherwise (mallopt(3), `M_ARENA_MAX`), and each keeps its own free memory: a
/// daemon whose work is done by threads that come and go would hold the most that each has ever needed.
pub fn keep_one_arena() {
    // SAFETY: takes integers. A failure leaves what was.
    let _set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives memory that was freed back to the kernel. glibc keeps it for later otherwise: reading the
/// kernel's type information takes some 20 MB once, at the start.
pub fn release_free() {
    // SAFETY: takes an integer and may be called at any time from any thread.
    let _released = unsafe { libc::malloc_trim(0) };
}
