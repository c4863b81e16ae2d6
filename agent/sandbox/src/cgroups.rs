//! The cgroups that hold one sandbox.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

/// Every cgroup of one sandbox: one of the unified hierarchy (v2), by which it is judged, and one in
/// each hierarchy of version 1 that has a limit of it.
#[derive(Debug)]
pub struct Cgroups {
    unified: File,
    /// Each one's `cgroup.procs`.
    legacy: Vec<File>,
}

impl Cgroups {
    /// `legacy` are directories of version 1 hierarchies.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(
        unified: &Path,
        legacy: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> io::Result<Self> {
        let procs = |dir: &Path| {
            let path = dir.join("cgroup.procs");
            OpenOptions::new().write(true).open(path)
        };
        Ok(Self {
            unified: File::open(unified)?,
            legacy: legacy
                .into_iter()
                .map(|dir| procs(dir.as_ref()))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The directory that a process of the sandbox is born in (`CLONE_INTO_CGROUP`).
    #[must_use]
    pub fn unified(&self) -> BorrowedFd<'_> {
        self.unified.as_fd()
    }

    /// Puts a process that was born in [`Cgroups::unified`] into all others. Must be done before it
    /// runs anything of the sandbox's: what it starts before stays outside.
    ///
    /// # Errors
    /// Those of the kernel; then the process is not under every limit, and must end.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        let line = pid.to_string();
        // One write each: the kernel takes a number with each.
        (self.legacy.iter()).try_for_each(|mut procs| procs.write_all(line.as_bytes()))
    }
}
