//! System calls that std and rustix lack, each behind a safe function.
//!
//! This is the one crate of user space with `unsafe` code. It decides nothing: callers do.

pub mod descriptors;
pub mod exec;
pub mod keyring;
pub mod lease;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod network;
pub mod passing;
pub mod privileges;
#[cfg(feature = "probe")]
pub mod probe;
pub mod process;
pub mod rcu;
pub mod seccomp;
pub mod signals;
pub mod spawn;

pub use rustix;

/// Turns the return value of a raw system call into a result, reading `errno` at once.
fn check(returned: libc::c_long) -> std::io::Result<libc::c_long> {
    if returned == -1 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

pub mod bpf;
pub mod fanotify;
