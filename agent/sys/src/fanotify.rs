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
}

/// A fanotify group. Closing it lets every waiting task go on.
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
}

/// Room for one read: 16 events of 24 bytes, so that one group does not hold a worker for long.
const READ_BYTES: usize = 16 * size_of::<libc::fanotify_event_metadata>();

impl Group {
    /// A group for exec permission events, non-blocking, with an unlimited queue and unlimited marks.
    ///
    /// # Errors
    /// The errno of `fanotify_init(2)`: EPERM without CAP_SYS_ADMIN, ENOSYS without fanotify.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_CONTENT
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
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
        // By the descriptor's own link: fanotify_mark(2) takes no `O_PATH` descriptor itself, and a
        // path walked a second time could lead elsewhere.
        let path = CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        // SAFETY: a live descriptor and a terminated string that outlives the call.
        let result = unsafe {
            libc::fanotify_mark(
                self.fd.as_raw_fd(),
                libc::FAN_MARK_ADD | libc::FAN_MARK_MOUNT,
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

    /// Reads what waits; an empty batch where nothing does.
    ///
    /// # Errors
    /// The errno of `read(2)`, EMFILE among them: then no descriptor could be made for an event
    /// and the kernel denied that exec.
    pub fn read(&self) -> io::Result<Batch> {
        let mut bytes = [0_u8; READ_BYTES];
        // SAFETY: the buffer is writable for the length given.
        let read =
            unsafe { libc::read(self.fd.as_raw_fd(), bytes.as_mut_ptr().cast(), READ_BYTES) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock {
                Ok(Batch::default())
            } else {
                Err(error)
            };
        }
        let mut rest = bytes.get(..read.cast_unsigned()).unwrap_or_default();
        let mut batch = Batch::default();
        while let Some((head, _)) =
            rest.split_at_checked(size_of::<libc::fanotify_event_metadata>())
        {
            let word = |at: usize| {
                head.get(at..at + 4)
                    .and_then(|b| b.try_into().ok())
                    .map(u32::from_ne_bytes)
            };
            let double = |at: usize| {
                head.get(at..at + 8)
                    .and_then(|b| b.try_into().ok())
                    .map(u64::from_ne_bytes)
            };
            // struct fanotify_event_metadata: event_len u32, vers u8, reserved u8, metadata_len u16,
            // mask u64, fd s32, pid s32.
            let (Some(len), Some(mask), Some(fd), Some(pid)) =
                (word(0), double(8), word(16), word(20))
            else {
                break;
            };
            if mask & libc::FAN_Q_OVERFLOW != 0 {
                batch.overflowed = true;
            } else if fd.cast_signed() >= 0 {
                // SAFETY: the kernel made this descriptor for this event and nobody else owns it.
                let file = unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) };
                batch.events.push(ExecEvent {
                    file,
                    pid: pid.cast_signed(),
                });
            }
            rest = rest.get(len.max(1) as usize..).unwrap_or_default();
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
