//! The names of a log's files, and what is done with them: one system call each.
//!
//! `audit.jsonl` is written; `audit.jsonl.<N>` is full, and N, in 20 digits, is the last number that
//! was given out when it was full. So a full file is renamed once and never again, the names sort as
//! the records do, and the numbering goes on even if the file that is written holds no record yet.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat},
    io::Errno,
};

/// Digits of a number in a name: as many as the largest has.
const DIGITS: usize = 20;

const WRITE: OFlags = OFlags::RDWR
    .union(OFlags::APPEND)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    // A pipe in the log's place must not hold up the start.
    .union(OFlags::NONBLOCK);
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK);

/// Root's alone.
pub(super) const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The folder that a log is in.
#[derive(Debug)]
pub(super) struct Folder {
    dir: File,
    path: PathBuf,
    /// Of the file that is written.
    name: OsString,
    #[cfg(test)]
    pub(super) faults: super::faults::Faults,
}

// === impl Folder ===

impl Folder {
    /// The folder of the log at `log`.
    pub(super) fn of(log: &Path) -> io::Result<Self> {
        let name = log.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let path = match log.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            dir: rustix::fs::open(path, flags, Mode::empty())?.into(),
            path: path.to_owned(),
            name: name.to_owned(),
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        })
    }

    /// Opens the file that is written; makes it where it is not there.
    pub(super) fn open(&self) -> io::Result<File> {
        match openat(&self.dir, &self.name, WRITE, Mode::empty()) {
            Err(Errno::NOENT) => {
                let flags = WRITE | OFlags::CREATE | OFlags::EXCL;
                let file = openat(&self.dir, &self.name, flags, PRIVATE)?;
                self.sync()?;
                Ok(file.into())
            }
            opened => Ok(opened?.into()),
        }
    }

    /// The file that is written, to read it; `None` where it is not there.
    pub(super) fn read(&self) -> io::Result<Option<File>> {
        none_if_missing(openat(&self.dir, &self.name, READ, Mode::empty()))
    }

    /// The full file of that number, to read it; `None` where it is not there any more.
    pub(super) fn read_full(&self, last_seq: u64) -> io::Result<Option<File>> {
        none_if_missing(openat(
            &self.dir,
            self.full_name(last_seq),
            READ,
            Mode::empty(),
        ))
    }

    /// The numbers of the full files, oldest first.
    pub(super) fn full(&self) -> io::Result<Vec<u64>> {
        let mut full = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            full.extend(full_number(&self.name, &entry?.file_name()));
        }
        full.sort_unstable();
        Ok(full)
    }

    /// Makes what was written to `file` durable.
    pub(super) fn sync_file(&self, file: &File) -> io::Result<()> {
        self.call(|| rustix::fs::fdatasync(file))
    }

    /// Makes the next file under a name that nobody reads; it replaces what an earlier attempt left.
    pub(super) fn make_next(&self) -> io::Result<File> {
        let name = self.next_name();
        match self.call(|| unlinkat(&self.dir, &name, AtFlags::empty())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = WRITE | OFlags::CREATE | OFlags::EXCL;
        let file = self.call(|| openat(&self.dir, &name, flags, PRIVATE))?;
        Ok(file.into())
    }

    /// Gives the file that was written its name as a full one.
    pub(super) fn put_aside(&self, last_seq: u64) -> io::Result<()> {
        let full = self.full_name(last_seq);
        match self.call(|| renameat(&self.dir, &self.name, &self.dir, &full)) {
            // It was moved by hand: then its place is free.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Takes [`Folder::put_aside`] back.
    pub(super) fn put_back(&self, last_seq: u64) -> io::Result<()> {
        let full = self.full_name(last_seq);
        self.call(|| renameat(&self.dir, &full, &self.dir, &self.name))
    }

    /// Gives the next file the name of the one that is written.
    pub(super) fn begin_next(&self) -> io::Result<()> {
        let next = self.next_name();
        self.call(|| renameat(&self.dir, &next, &self.dir, &self.name))
    }

    /// Removes a full file.
    pub(super) fn remove_full(&self, last_seq: u64) -> io::Result<()> {
        let full = self.full_name(last_seq);
        self.call(|| unlinkat(&self.dir, &full, AtFlags::empty()))
    }

    /// Makes the names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.call(|| fsync(&self.dir)) {
            // A file system that does so by itself.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    fn full_name(&self, last_seq: u64) -> OsString {
        let mut name = self.name.clone();
        name.push(format!(".{last_seq:0DIGITS$}"));
        name
    }

    fn next_name(&self) -> OsString {
        let mut name = self.name.clone();
        name.push(".new");
        name
    }

    /// One system call of a rotation; a test can have it fail.
    fn call<T>(&self, call: impl FnOnce() -> rustix::io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        self.faults.next()?;
        Ok(call()?)
    }
}

fn none_if_missing(opened: Result<std::os::fd::OwnedFd, Errno>) -> io::Result<Option<File>> {
    match opened {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The number in the name of a full file of the log `log`; `None` where it is another file.
fn full_number(log: &OsStr, name: &OsStr) -> Option<u64> {
    let rest = name.as_bytes().strip_prefix(log.as_bytes())?;
    let digits = rest.strip_prefix(b".")?;
    let is_number = digits.len() == DIGITS && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, path::Path};

    use proptest::prelude::*;

    use super::{Folder, full_number};

    proptest! {
        #[test]
        fn full_name_has_its_number_and_sorts_by_it(one in any::<u64>(), other in any::<u64>()) {
            let folder = Folder::of(Path::new("/audit.jsonl")).expect("the root is there");
            let names = [one, other].map(|seq| folder.full_name(seq));
            prop_assert_eq!(full_number(OsStr::new("audit.jsonl"), &names[0]), Some(one));
            prop_assert_eq!(names[0].cmp(&names[1]), one.cmp(&other));
        }

        #[test]
        fn full_name_of_another_form_is_another_file(name in "(audit[.]jsonl)?[.]?[0-9a-z.+-]{0,24}") {
            if let Some(seq) = full_number(OsStr::new("audit.jsonl"), OsStr::new(&name)) {
                prop_assert_eq!(name, format!("audit.jsonl.{seq:020}"));
            }
        }
    }

    #[test]
    fn full_name_of_others_is_passed_over() {
        for name in [
            "audit.jsonl",
            "audit.jsonl.new",
            "audit.jsonl.1",
            "audit.jsonl.00000000000000000001.gz",
            "audit.jsonl.+0000000000000000001",
            "audit.jsonl.99999999999999999999",
            "other.jsonl.00000000000000000001",
        ] {
            assert_eq!(
                full_number(OsStr::new("audit.jsonl"), OsStr::new(name)),
                None,
                "{name}"
            );
        }
    }
}
