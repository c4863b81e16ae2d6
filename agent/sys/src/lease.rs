//! Read leases: the kernel holds a writer up until the holder lets the file go.
//!
//! A lease belongs to the open file description, so it ends when the last descriptor of it closes.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use libc::c_int;

/// Takes a read lease over a file that is open for reading alone.
///
/// From now on, whoever opens the file for writing or truncates it waits until [`release`], or for
/// `/proc/sys/fs/lease-break-time` seconds; with `O_NONBLOCK` the open is refused. The kernel tells
/// the holder by SIGIO: see [`ignore_break_signal`].
///
/// # Errors
/// `EAGAIN` when somebody has the file open for writing, a shared writable mapping included
/// (`fs/locks.c`, `check_conflicting_open`, v6.12); `EINVAL` where the file is no regular one or
/// its file system has no leases; `EACCES` for another user's file without CAP_LEASE.
pub fn take_read(file: BorrowedFd<'_>) -> io::Result<()> {
    set(file, c_int::from(libc::F_RDLCK))
}

/// Whether the read lease is still whole.
///
/// One that a writer is breaking is not: `F_GETLEASE` reports what it is about to become
/// (`fs/locks.c`, `target_leasetype`, v6.12). The writer waits until [`release`] all the same.
///
/// # Errors
/// Those of `fcntl(2)`.
pub fn is_held(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: F_GETLEASE takes no argument; the descriptor is live.
    let returned = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) };
    let lease = crate::check(returned.into())?;
    Ok(lease == libc::c_long::from(libc::F_RDLCK))
}

/// Gives the lease back and lets a waiting writer go on.
///
/// # Errors
/// `EAGAIN` where no lease is left, because the kernel took it from a slow holder.
pub fn release(file: BorrowedFd<'_>) -> io::Result<()> {
    set(file, c_int::from(libc::F_UNLCK))
}

/// Ignores SIGIO in this process: its default action ends the process, and it comes when somebody
/// wants to write to a leased file. A program that is executed later ignores it too.
///
/// # Errors
/// Those of `signal(2)`.
pub fn ignore_break_signal() -> io::Result<()> {
    // SAFETY: SIG_IGN is no pointer to code of ours.
    let before = unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn set(file: BorrowedFd<'_>, kind: c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an integer; the descriptor is live.
    let returned = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    crate::check(returned.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, OpenOptions},
        io,
        os::{
            fd::{AsFd as _, AsRawFd as _},
            unix::fs::OpenOptionsExt as _,
        },
        path::PathBuf,
        thread,
        time::{Duration, Instant},
    };

    use super::{ignore_break_signal, is_held, release, take_read};

    /// A new file in each of: a tmpfs, the file system of the build.
    fn files(name: &str) -> Vec<Scratch> {
        ignore_break_signal().expect("ignored");
        let built = std::env::current_exe().expect("this program");
        [
            PathBuf::from("/dev/shm"),
            built.parent().expect("its folder").to_path_buf(),
        ]
        .map(|folder| {
            let path = folder.join(format!("clawd-lease-{name}-{}", std::process::id()));
            fs::write(&path, "content").expect("written");
            Scratch(path)
        })
        .into()
    }

    struct Scratch(PathBuf);

    impl Scratch {
        fn reader(&self) -> File {
            File::open(&self.0).expect("opens for reading")
        }

        fn writer(&self) -> File {
            OpenOptions::new()
                .write(true)
                .open(&self.0)
                .expect("opens for writing")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_file(&self.0));
        }
    }

    /// A child that another test starts has this one's writers open until it executes.
    fn take_read_at_last(reader: &File) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Err(error) = take_read(reader.as_fd()) {
            assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
            assert!(Instant::now() < deadline, "somebody has the file open");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn take_read_while_a_writer_has_the_file_open_is_refused() {
        for file in files("writer") {
            let reader = file.reader();
            let writer = file.writer();
            let refused = take_read(reader.as_fd()).expect_err("refused");
            assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
            assert!(!is_held(reader.as_fd()).expect("reads"));
            drop(writer);
            take_read_at_last(&reader);
            assert!(is_held(reader.as_fd()).expect("reads"));
            release(reader.as_fd()).expect("released");
            assert!(!is_held(reader.as_fd()).expect("reads"));
        }
    }

    #[test]
    fn take_read_while_a_shared_writable_mapping_exists_is_refused() {
        const LEN_BYTES: usize = 7;
        for file in files("mapping") {
            let writer = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&file.0)
                .expect("opens");
            // SAFETY: a new mapping at an address that the kernel chooses; nobody reads it.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    LEN_BYTES,
                    libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    writer.as_raw_fd(),
                    0,
                )
            };
            assert_ne!(at, libc::MAP_FAILED);
            drop(writer);
            let reader = file.reader();
            let refused = take_read(reader.as_fd()).expect_err("refused");
            assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
            // SAFETY: the mapping made above, which nothing refers to.
            assert_eq!(unsafe { libc::munmap(at, LEN_BYTES) }, 0);
            take_read_at_last(&reader);
        }
    }

    #[test]
    fn take_read_holds_a_later_writer_up_until_it_is_released() {
        for file in files("later") {
            let reader = file.reader();
            take_read(reader.as_fd()).expect("taken");
            let path = file.0.clone();
            let writer = thread::spawn(move || OpenOptions::new().write(true).open(path));
            let deadline = Instant::now() + Duration::from_secs(5);
            while is_held(reader.as_fd()).expect("reads") {
                assert!(Instant::now() < deadline, "nobody breaks the lease");
                thread::sleep(Duration::from_millis(1));
            }
            assert!(!writer.is_finished(), "the writer did not wait");
            release(reader.as_fd()).expect("released");
            writer.join().expect("no panic").expect("opens");
        }
    }

    #[test]
    fn take_read_refuses_a_writer_that_does_not_wait_and_is_broken() {
        for file in files("nonblock") {
            let reader = file.reader();
            take_read(reader.as_fd()).expect("taken");
            let refused = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&file.0)
                .expect_err("refused");
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
            assert!(!is_held(reader.as_fd()).expect("reads"));
        }
    }

    #[test]
    fn take_read_of_a_folder_is_refused() {
        let folder = File::open("/dev/shm").expect("opens");
        let refused = take_read(folder.as_fd()).expect_err("refused");
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }
}
