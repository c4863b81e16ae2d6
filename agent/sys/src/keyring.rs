//! The session keyring, which programs inherit without seeing it.

use std::io;

use libc::{c_int, c_long};

/// `include/uapi/linux/keyctl.h`.
const KEYCTL_GET_KEYRING_ID: c_long = 0;
const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
const KEY_SPEC_SESSION_KEYRING: c_long = -3;

/// Errors of a keyring that is of no use to anybody: no keys in the kernel, none there, or one whose
/// login session is over.
const NOTHING: [c_int; 4] = [
    libc::ENOSYS,
    libc::ENOKEY,
    libc::EKEYEXPIRED,
    libc::EKEYREVOKED,
];

/// The serial number of this process's session keyring; `None` where it has none of any use.
///
/// # Errors
/// Those of `keyctl(2)`.
pub fn session_keyring() -> io::Result<Option<i32>> {
    let create: c_int = 0;
    // SAFETY: takes integers alone.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_GET_KEYRING_ID,
            KEY_SPEC_SESSION_KEYRING,
            create,
        )
    };
    match crate::check(returned) {
        Ok(serial) => i32::try_from(serial).map(Some).map_err(io::Error::other),
        Err(error)
            if error
                .raw_os_error()
                .is_some_and(|code| NOTHING.contains(&code)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Gives this process, and what it starts, a session keyring of its own with nothing in it.
///
/// # Errors
/// Those of `keyctl(2)`; `EDQUOT` if the user has too many keys.
pub fn new_session_keyring() -> io::Result<()> {
    crate::check(join()).map(drop)
}

/// As [`new_session_keyring`], with system calls alone. A kernel without keys is fine.
pub(crate) fn leave_session_keyring() -> bool {
    join() != -1 || io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
}

fn join() -> c_long {
    // SAFETY: a null name asks for a keyring without one; nothing is read.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    }
}
