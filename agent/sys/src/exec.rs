//! Replaces this process's program.

use std::{
    ffi::{CStr, CString},
    io,
};

/// Executes `path`; returns only the reason why it could not.
#[must_use]
pub fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(argv);
    let env = pointers(env);
    // SAFETY: `path` is a C string, both vectors are null-terminated arrays of pointers to C strings
    // that live until the call returns.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}
