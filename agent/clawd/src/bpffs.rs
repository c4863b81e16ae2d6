//! The bpf file system: found, or mounted where there is none.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock, statfs},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Where the kernel has a mount point for it.
const MOUNT_POINT: &str = "/sys/fs/bpf";
/// Source of a mount that clawd made, by which any clawd knows that it may unmount it.
const OWN_SOURCE: &str = "clawd";

/// Why there is no place for pins. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BpffsError {
    #[error("{} is not on a bpf file system, and clawd mounts one only at {MOUNT_POINT}; run `mount -t bpf bpf DIR` and give a folder below DIR as --bpffs", path.display())]
    NotBpffs { path: PathBuf },
    #[error("cannot mount the bpf file system at {MOUNT_POINT}")]
    Mount(#[source] io::Error),
    #[error("cannot look at {}", path.display())]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// While this lives no clawd unmounts the bpf file system: not even one that finds nothing pinned in
/// it, because this one has yet to pin.
#[must_use]
pub(crate) struct Mounted {
    _held: Option<File>,
}

/// Sees to it that `dir` lies on a bpf file system.
pub(crate) fn provide(dir: &Path) -> Result<Mounted, BpffsError> {
    if !dir.starts_with(MOUNT_POINT) {
        return if is_bpffs(dir)? {
            Ok(Mounted { _held: None })
        } else {
            Err(BpffsError::NotBpffs {
                path: dir.to_path_buf(),
            })
        };
    }
    loop {
        // Shared: daemons that start at the same time need not wait for each other.
        let held = lock(FlockOperation::LockShared).map_err(BpffsError::Mount)?;
        if is_bpffs(dir)? {
            return Ok(Mounted { _held: Some(held) });
        }
        // A lock is not turned into another kind without letting go of it (flock(2)).
        drop(held);
        let _alone = lock(FlockOperation::LockExclusive).map_err(BpffsError::Mount)?;
        if !is_bpffs(dir)? {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount(OWN_SOURCE, MOUNT_POINT, "bpf", flags, Some(c"mode=0700"))
                .map_err(|errno| BpffsError::Mount(errno.into()))?;
        }
    }
}

/// Unmounts the bpf file system if a clawd mounted it and nothing is pinned in it.
pub(crate) fn release() {
    let result = lock(FlockOperation::LockExclusive).and_then(|_lock| {
        if mounted_by_clawd()? && nothing_pinned()? {
            unmount(MOUNT_POINT, UnmountFlags::empty())?;
        }
        Ok(())
    });
    if let Err(error) = result {
        tracing::warn!(%error, "the bpf file system stays mounted at {MOUNT_POINT}");
    }
}

/// Two daemons that start or stop at the same time must not both mount or unmount.
fn lock(kind: FlockOperation) -> io::Result<File> {
    let parent = File::open("/sys/fs")?;
    flock(&parent, kind)?;
    Ok(parent)
}

/// Whether the mount holds only what the kernel itself puts into each (kernel/bpf/preload, v6.12).
fn nothing_pinned() -> io::Result<bool> {
    for entry in fs::read_dir(MOUNT_POINT)? {
        if !matches!(
            entry?.file_name().as_encoded_bytes(),
            b"maps.debug" | b"progs.debug"
        ) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn mounted_by_clawd() -> io::Result<bool> {
    let mounts = procfs::process::Process::myself()
        .and_then(|process| process.mountinfo())
        .map_err(io::Error::other)?;
    let on_top = mounts
        .0
        .iter()
        .rfind(|mount| mount.mount_point == Path::new(MOUNT_POINT));
    Ok(on_top.is_some_and(|mount| {
        mount.fs_type == "bpf" && mount.mount_source.as_deref() == Some(OWN_SOURCE)
    }))
}

/// Whether the nearest existing folder above `dir` is on a bpf file system.
fn is_bpffs(dir: &Path) -> Result<bool, BpffsError> {
    for path in dir.ancestors() {
        match statfs(path) {
            Ok(found) => return Ok(found.f_type == BPF_FS_MAGIC),
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => {
                return Err(BpffsError::Look {
                    path: path.to_path_buf(),
                    source: errno.into(),
                });
            }
        }
    }
    Ok(false)
}
