//! The allocator's free memory.

/// Gives memory that was freed back to the kernel. glibc keeps it for later otherwise: reading the
/// kernel's type information takes some 20 MB once, at the start.
pub fn release_free() {
    // SAFETY: takes an integer and may be called at any time from any thread.
    let _released = unsafe { libc::malloc_trim(0) };
}
