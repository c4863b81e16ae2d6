//! fanotify permission events, as the exec gate uses them.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// One task waits in `execve(2)` for an answer. Dropping it without one leaves that to
/// [`Group::allow`], so it is `#[must_use]`.
#[derive(Debug)]
#[must_use = "the task waits until it is answered"]
pub struct ExecEvent {
    /// The file, opened for reading by the kernel without another permission event.
    pub file: OwnedFd,
    /// Process id of the task, in the reader's pid namespace.
    pub pid: i32,
}

/// What [`Group::read`] found.
#[derive(Debug, Default)]
pub struct Batch {
    /// Tasks that wait.
    pub events: Vec<ExecEvent>,
    /// The kernel's queue overflowed: some execs went on unseen.
    pub overflowed: bool,
    /// Events that came without a descriptor, so that nobody can answer them; the kernel denies the
    /// exec where it cannot make one.
    pub unopened: u32,
}

/// A fanotify group. Closing it lets every waiting task go on.
///
/// The host bounds how many there are, for root too (`fs.fanotify.max_user_groups`), and an answer
/// wakes every task that waits for one of the same group, to look whether it is meant
/// (`fs/notify/fanotify/fanotify_user.c`, `process_access_response`, v6.12).
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
}

/// Size of the kernel's description of one event.
const HEAD_BYTES: usize = size_of::<libc::fanotify_event_metadata>();

/// Room for one read: 16 events of 24 bytes. Each is a descriptor of the reader's.
const READ_BYTES: usize = 16 * HEAD_BYTES;

impl Group {
    /// A group for exec permission events, with an unlimited queue and unlimited marks.
    ///
    /// # Errors
    /// The errno of `fanotify_init(2)`: EPERM without CAP_SYS_ADMIN, ENOSYS without fanotify, EMFILE
    /// where the host's limit on groups is used up.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_CONTENT
            | libc::FAN_CLOEXEC
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_UNLIMITED_MARKS;
        let file_flags = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC;
        // SAFETY: takes two integers.
        let fd = unsafe { libc::fanotify_init(flags, file_flags.cast_unsigned()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that the call above made and nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Asks for the execs of files on the mount that `place` is on, a descriptor (`O_PATH` will do)
    /// of any file or folder there.
    ///
    /// # Errors
    /// The errno of `fanotify_mark(2)`.
    pub fn mark_exec_of_mount(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_MOUNT, place)
    }

    /// Takes [`Group::mark_exec_of_mount`] back.
    ///
    /// # Errors
    /// The errno of `fanotify_mark(2)`: ENOENT where the mount is not marked.
    pub fn unmark_exec_of_mount(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(libc::FAN_MARK_REMOVE | libc::FAN_MARK_MOUNT, place)
    }

    /// Asks for no more events of execs of this very file, through whatever mount of the group's,
    /// until somebody modifies it: without `FAN_MARK_IGNORED_SURV_MODIFY` the kernel drops the mark at the first
    /// `write(2)` or truncation (`fs/notify/fsnotify.c`, `send_to_group`, v6.12). For a file that
    /// somebody has open for writing it makes no mark and says nothing
    /// (`fs/notify/fanotify/fanotify_user.c`, `fanotify_add_inode_mark`, v6.12).
    ///
    /// A store through a shared mapping that was made later raises no such event: ignore only files
    /// that nobody will open for writing. The mark does not keep the inode in memory, and goes with it
    /// (`FAN_MARK_EVICTABLE`, 5.19): it lasts for certain while somebody has a descriptor of the file.
    ///
    /// # Errors
    /// The errno of `fanotify_mark(2)`.
    pub fn ignore_exec_of_file(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(
            libc::FAN_MARK_ADD | libc::FAN_MARK_IGNORED_MASK | libc::FAN_MARK_EVICTABLE,
            file,
        )
    }

    fn mark(&self, what: libc::c_uint, place: BorrowedFd<'_>) -> io::Result<()> {
        // By the descriptor's own link: fanotify_mark(2) takes no `O_PATH` descriptor itself, and a
        // path walked a second time could lead elsewhere.
        let path = CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        // SAFETY: a live descriptor and a terminated string that outlives the call.
        let result = unsafe {
            libc::fanotify_mark(
                self.fd.as_raw_fd(),
                what,
                libc::FAN_OPEN_EXEC_PERM,
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Reads what waits; waits where nothing does.
    ///
    /// # Errors
    /// The errno of `read(2)`: EINTR; EMFILE, where no descriptor could be made for an event and the
    /// kernel denied that exec.
    pub fn read(&self) -> io::Result<Batch> {
        let mut bytes = [0_u8; READ_BYTES];
        // SAFETY: the buffer is writable for the length given.
        let read =
            unsafe { libc::read(self.fd.as_raw_fd(), bytes.as_mut_ptr().cast(), READ_BYTES) };
        if read < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut batch = Batch::default();
        for head in heads(bytes.get(..read.cast_unsigned()).unwrap_or_default()) {
            if head.mask & libc::FAN_Q_OVERFLOW != 0 {
                batch.overflowed = true;
            } else if head.fd < 0 {
                batch.unopened = batch.unopened.saturating_add(1);
            } else {
                // SAFETY: the kernel made this descriptor for this event and nobody else owns it.
                let file = unsafe { OwnedFd::from_raw_fd(head.fd) };
                let pid = head.pid;
                batch.events.push(ExecEvent { file, pid });
            }
        }
        Ok(batch)
    }

    /// Lets the task go on.
    ///
    /// # Errors
    /// The errno of `write(2)`; ENOENT where the task was killed meanwhile.
    pub fn allow(&self, event: ExecEvent) -> io::Result<()> {
        let response = libc::fanotify_response {
            fd: event.file.as_raw_fd(),
            response: libc::FAN_ALLOW,
        };
        // SAFETY: a live structure of the length given, without padding (two 32-bit members).
        let written = unsafe {
            libc::write(
                self.fd.as_raw_fd(),
                (&raw const response).cast(),
                size_of_val(&response),
            )
        };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl std::os::fd::AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What one event says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    mask: u64,
    fd: i32,
    pid: i32,
}

/// Takes apart what one `read(2)` of a group gave.
///
/// `struct fanotify_event_metadata`: event_len u32, vers u8, reserved u8, metadata_len u16, mask
/// u64, fd s32, pid s32.
fn heads(bytes: &[u8]) -> Vec<Head> {
    let mut heads = Vec::new();
    let mut rest = bytes;
    while let Some((head, _)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let word = |at: usize| {
            let bytes = head.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let mask = head.get(8..16).and_then(|b| b.try_into().ok());
        heads.push(Head {
            mask: mask.map_or(0, u64::from_ne_bytes),
            fd: word(16).cast_signed(),
            pid: word(20).cast_signed(),
        });
        // Never less than a head, or this would not end.
        let len = usize::try_from(word(0)).unwrap_or(usize::MAX);
        rest = rest.get(len.max(HEAD_BYTES)..).unwrap_or_default();
    }
    heads
}

#[cfg(test)]
mod tests;
