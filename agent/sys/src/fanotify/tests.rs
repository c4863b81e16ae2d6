//! Marks and events of real execs, on a tmpfs of a mount namespace of the test's own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::OFlags,
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{Batch, Group, HEAD_BYTES, Head, heads};

/// One test at a time: a child that another one starts has this one's writers open until its exec
/// is answered.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs `test` in a new thread with a mount namespace of its own, in a new tmpfs.
fn in_own_tmpfs(test: impl FnOnce(&Path) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: fanotify permission events need root");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    thread::spawn(move || {
        let place = PathBuf::from(format!(
            "/tmp/clawd-fanotify-{}-{:?}",
            std::process::id(),
            thread::current().id()
        ));
        fs::create_dir(&place).expect("a new folder");
        // SAFETY: no descriptor table is unshared, so no descriptor changes hands.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("a mount namespace");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("private mounts");
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
        let program = place.join("program");
        fs::copy("/bin/true", &program).expect("copied");
        test(&place);
        rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
        fs::remove_dir(&place).expect("removed");
    })
    .join()
    .expect("the test went well");
}

/// A group that does not wait for events, as the test is to see that there is none.
fn group() -> Group {
    let group = Group::new().expect("a group");
    rustix::fs::fcntl_setfl(&group, OFlags::NONBLOCK).expect("set");
    group
}

fn read(group: &Group) -> Batch {
    match group.read() {
        Ok(batch) => batch,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Batch::default(),
        Err(error) => panic!("cannot read: {error}"),
    }
}

/// Executes `program` and answers what comes of it; how it ended, with the inodes seen.
fn execute(group: &Group, program: &Path) -> (ExitStatus, Vec<u64>) {
    let program = program.to_path_buf();
    // A thread of its own, as the spawn returns only when the exec was answered. It is in this
    // thread's mount namespace.
    let running = thread::spawn(move || Command::new(program).status());
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running.is_finished() {
        assert!(Instant::now() < deadline, "the exec hangs");
        let batch = read(group);
        assert!(!batch.overflowed);
        assert_eq!(batch.unopened, 0);
        for event in batch.events {
            let file = File::from(event.file.try_clone().expect("cloned"));
            seen.push(file.metadata().expect("metadata").ino());
            group.allow(event).expect("allowed");
        }
        thread::sleep(Duration::from_millis(1));
    }
    let status = running.join().expect("no panic").expect("started");
    (status, seen)
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("metadata").ino()
}

#[test]
fn ignore_exec_of_file_lasts_until_the_file_is_modified() {
    in_own_tmpfs(|place| {
        let program = place.join("program");
        let group = group();
        let folder = File::open(place).expect("opens");
        group.mark_exec_of_mount(folder.as_fd()).expect("marked");

        let (status, seen) = execute(&group, &program);
        assert!(status.success());
        assert_eq!(seen, [inode(&program)]);

        let file = File::open(&program).expect("opens");
        group.ignore_exec_of_file(file.as_fd()).expect("ignored");
        let (status, seen) = execute(&group, &program);
        assert!(status.success());
        assert!(seen.is_empty(), "an ignored file raised an event");

        let mut writer = OpenOptions::new()
            .append(true)
            .open(&program)
            .expect("opens");
        writer.write_all(b"more").expect("written");
        drop(writer);
        let (status, seen) = execute(&group, &program);
        assert!(status.success());
        assert_eq!(seen, [inode(&program)], "the mark outlived a write");

        group.ignore_exec_of_file(file.as_fd()).expect("ignored");
        let (_, seen) = execute(&group, &program);
        assert!(seen.is_empty(), "the file cannot be ignored again");
        let len = file.metadata().expect("metadata").len();
        let writer = OpenOptions::new().write(true).open(&program);
        writer.expect("opens").set_len(len - 4).expect("cut");
        let (_, seen) = execute(&group, &program);
        assert_eq!(seen, [inode(&program)], "the mark outlived a truncation");
    });
}

#[test]
fn ignore_exec_of_file_leaves_other_files_and_sees_writes_through_another_mount() {
    in_own_tmpfs(|place| {
        let (program, other) = (place.join("program"), place.join("other"));
        fs::copy(&program, &other).expect("copied");
        let group = group();
        let folder = File::open(place).expect("opens");
        group.mark_exec_of_mount(folder.as_fd()).expect("marked");
        let file = File::open(&program).expect("opens");
        group.ignore_exec_of_file(file.as_fd()).expect("ignored");

        let (_, seen) = execute(&group, &other);
        assert_eq!(seen, [inode(&other)]);
        let (_, seen) = execute(&group, &program);
        assert!(seen.is_empty());

        let elsewhere = place.join("elsewhere");
        fs::create_dir(&elsewhere).expect("a folder");
        mount_bind(place, &elsewhere).expect("a second mount");
        let writer = OpenOptions::new()
            .append(true)
            .open(elsewhere.join("program"));
        writer.expect("opens").write_all(b"more").expect("written");
        let (_, seen) = execute(&group, &program);
        assert_eq!(seen, [inode(&program)]);
    });
}

#[test]
fn ignore_exec_of_file_that_is_open_for_writing_does_nothing() {
    in_own_tmpfs(|place| {
        let program = place.join("program");
        let group = group();
        let folder = File::open(place).expect("opens");
        group.mark_exec_of_mount(folder.as_fd()).expect("marked");
        let file = File::open(&program).expect("opens");
        let writer = OpenOptions::new().append(true).open(&program);
        let writer = writer.expect("opens");
        group.ignore_exec_of_file(file.as_fd()).expect("ignored");
        drop(writer);
        let (_, seen) = execute(&group, &program);
        assert_eq!(seen, [inode(&program)]);
    });
}

#[test]
fn ignore_exec_of_file_does_not_notice_a_store_through_a_shared_mapping() {
    in_own_tmpfs(|place| {
        let program = place.join("program");
        let group = group();
        let folder = File::open(place).expect("opens");
        group.mark_exec_of_mount(folder.as_fd()).expect("marked");
        let file = File::open(&program).expect("opens");
        group.ignore_exec_of_file(file.as_fd()).expect("ignored");
        store_through_mapping(&program);
        let (status, seen) = execute(&group, &program);
        assert!(status.success());
        assert!(seen.is_empty(), "the kernel tells of it: mend the doc");
    });
}

/// Writes the first byte that an ELF file has anyway.
fn store_through_mapping(path: &Path) {
    let writer = OpenOptions::new().read(true).write(true).open(path);
    let writer = writer.expect("opens");
    // SAFETY: a new mapping at an address that the kernel chooses.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            1,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            writer.as_raw_fd(),
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: the mapping is writable and one byte long at least; this thread alone uses it.
    unsafe { at.cast::<u8>().write_volatile(0x7f) };
    // SAFETY: the mapping made above, which nothing refers to any more.
    assert_eq!(unsafe { libc::munmap(at, 1) }, 0);
}

#[test]
fn unmarked_mount_raises_no_event() {
    in_own_tmpfs(|place| {
        let program = place.join("program");
        let group = group();
        let folder = File::open(place).expect("opens");
        group.mark_exec_of_mount(folder.as_fd()).expect("marked");
        let (_, seen) = execute(&group, &program);
        assert_eq!(seen, [inode(&program)]);
        group
            .unmark_exec_of_mount(folder.as_fd())
            .expect("taken back");
        let (status, seen) = execute(&group, &program);
        assert!(status.success());
        assert!(seen.is_empty(), "the mark is still there");
        let again = group.unmark_exec_of_mount(folder.as_fd());
        assert_eq!(
            again.expect_err("no mark").raw_os_error(),
            Some(libc::ENOENT)
        );
    });
}

#[test]
fn marked_mount_of_which_nothing_is_executed_raises_no_event() {
    in_own_tmpfs(|place| {
        let group = group();
        // `O_PATH` is what the gate has of a sandbox's mount.
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(place)
            .expect("opens");
        group.mark_exec_of_mount(folder.as_fd()).expect("marked");
        let Batch {
            events,
            overflowed,
            unopened,
        } = read(&group);
        assert!(events.is_empty() && !overflowed && unopened == 0);
    });
}

fn event(len_bytes: u32, mask: u64, fd: i32, pid: i32) -> Vec<u8> {
    let mut bytes = len_bytes.to_ne_bytes().to_vec();
    bytes.extend([3, 0, 24, 0]);
    bytes.extend(mask.to_ne_bytes());
    bytes.extend(fd.to_ne_bytes());
    bytes.extend(pid.to_ne_bytes());
    bytes
}

#[test]
fn heads_of_several_events_are_told_apart() {
    let mut bytes = event(32, libc::FAN_OPEN_EXEC_PERM, 7, 41);
    bytes.extend([0xff; 8]);
    bytes.extend(event(24, libc::FAN_OPEN_EXEC_PERM, -1, 42));
    bytes.extend(event(24, libc::FAN_Q_OVERFLOW, -1, 0));
    let found = [(7, 41), (-1, 42), (-1, 0)];
    let heads = heads(&bytes);
    assert_eq!(
        heads.iter().map(|h| (h.fd, h.pid)).collect::<Vec<_>>(),
        found
    );
    assert_eq!(heads.last().map(|h| h.mask), Some(libc::FAN_Q_OVERFLOW));
}

#[test]
fn heads_of_a_wrong_length_end() {
    let head = |fd| Head {
        mask: 1,
        fd,
        pid: 2,
    };
    let short = [event(0, 1, 3, 2), event(24, 1, 4, 2)].concat();
    assert_eq!(heads(&short), [head(3), head(4)]);
    assert_eq!(heads(&event(u32::MAX, 1, 3, 2)), [head(3)]);
    assert_eq!(heads(&[0; HEAD_BYTES - 1]), []);
}
