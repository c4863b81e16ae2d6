//! Why a content may be taken for what runs: nobody can write the file, or a lease tells who does.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use clawd_common::{record::FileKey, verdict::Reason};
use clawd_sys::lease;
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::{
    book::Basis,
    gate::Shared,
    mounts::{Layers, Mount, Place, View, WritableTrees, layers_writable, upper_places},
    settle::{is_overlay, is_tmpfs, shows_writers},
};

/// What `statx` tells of a file, without asking its file system's server.
struct Facts {
    mount_id: u64,
    links: u32,
    mode: u16,
    uid: u32,
}

fn facts(file: BorrowedFd<'_>) -> Result<Facts, Reason> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::MNT_ID | StatxFlags::NLINK | StatxFlags::MODE | StatxFlags::UID;
    let stat = statx(file, "", flags, wanted).map_err(|_unreadable| Reason::Unreadable)?;
    Ok(Facts {
        mount_id: stat.stx_mnt_id,
        links: stat.stx_nlink,
        mode: stat.stx_mode,
        uid: stat.stx_uid,
    })
}

/// The place of a file in its file system, with the mount that it was opened through.
pub(crate) struct Found<'a> {
    pub(crate) mount: &'a Mount,
    pub(crate) place: Place,
    /// A sandbox may be able to write it at another place of its file system too.
    pub(crate) linked: bool,
    /// No sandbox can write it wherever it is.
    pub(crate) is_roots_alone: bool,
}

/// Finds a file that has a name on a mount of `view`.
pub(crate) fn find<'a>(
    view: &'a View,
    file: BorrowedFd<'_>,
    (key, path): (&FileKey, &Path),
) -> Result<Found<'a>, Reason> {
    let facts = facts(file)?;
    if facts.links == 0 {
        return Err(Reason::Unlinked);
    }
    let mount = view.mount(facts.mount_id).ok_or(Reason::FileSystem)?;
    let place = mount.place_of(path).ok_or(Reason::FileSystem)?;
    let is_roots_alone = is_roots_alone(&facts);
    // A folder may be moved into a tree that a sandbox can write. Where a store through a mapping
    // moves the change time, that shows; on tmpfs it does not.
    let may_move = is_tmpfs(key) || facts.links > 1;
    Ok(Found {
        mount,
        place,
        linked: may_move && !is_roots_alone,
        is_roots_alone,
    })
}

/// Whether no sandbox can open the file for writing under any name: sandboxes have no capability and
/// never run as root, and an access control list cannot give more than the group's bits.
fn is_roots_alone(facts: &Facts) -> bool {
    const GROUP_AND_OTHERS_WRITE: u16 = 0o022;
    facts.uid == 0 && facts.mode & GROUP_AND_OTHERS_WRITE == 0
}

/// Whether no live sandbox can open the file for writing from now on. A writer that there is already
/// shows when a lease is taken.
pub(crate) fn has_no_writer(found: &Found<'_>, trees: &WritableTrees) -> bool {
    let Found {
        mount,
        place,
        linked,
        ..
    } = found;
    let is_out_of_reach =
        mount.read_only && !trees.covers(place) && !(*linked && trees.any_on(place.dev));
    // The layers of an overlay are looked for each time: the host may have mounted more since.
    is_out_of_reach && (mount.fs_type != "overlay" || has_untouched_layers(mount, trees))
}

fn has_untouched_layers(mount: &Mount, trees: &WritableTrees) -> bool {
    View::read(std::process::id()).is_ok_and(|host| {
        let layers = layers_writable(mount, &host, trees, |path| path.canonicalize());
        layers == Layers::Untouched
    })
}

/// Whether no sandbox can put another thing in the place of a name in this folder.
pub(crate) fn is_trusted_folder(
    view: &View,
    folder: BorrowedFd<'_>,
    trees: &WritableTrees,
) -> bool {
    let Ok(facts) = facts(folder) else {
        return false;
    };
    let place = view.mount(facts.mount_id).and_then(|mount| {
        let path = crate::resolve::path_of(folder).ok()?;
        let place = mount.place_of(&path)?;
        (mount.read_only && (mount.fs_type != "overlay" || has_untouched_layers(mount, trees)))
            .then_some(place)
    });
    place.is_some_and(|place| !trees.covers(&place))
}

/// Whether `child`, found in `folder`, is on another mount: then the name cannot be moved.
pub(crate) fn is_mount_point(folder: BorrowedFd<'_>, child: BorrowedFd<'_>) -> bool {
    match (facts(folder), facts(child)) {
        (Ok(folder), Ok(child)) => folder.mount_id != child.mount_id,
        _ => false,
    }
}

/// All that a sandbox with this view can write, the layers beneath its overlays included. Where those
/// cannot be found it is everything that the host has.
pub(crate) fn writable_by(view: &View) -> Vec<Place> {
    let mut places = view.writable();
    let Ok(host) = View::read(std::process::id()) else {
        return everything(view);
    };
    match upper_places(view, &host, |path| path.canonicalize()) {
        Ok(upper) => places.extend(upper),
        Err(error) => {
            tracing::warn!(%error, "no other file of the host has an identity while that sandbox lives");
            places.extend(everything(&host));
        }
    }
    places
}

/// The whole of every file system of a view.
pub(crate) fn everything(view: &View) -> Vec<Place> {
    let places = view.mounts().map(|mount| Place {
        dev: mount.dev,
        path: PathBuf::from("/"),
    });
    places.collect()
}

/// The basis for `file`. Takes a lease wherever the file system tells of writers: a sandbox may have
/// been given a descriptor or a mapping by one that could write there. The lease is on the open file,
/// and lasts while a descriptor of it does.
pub(crate) fn basis(
    shared: &Shared,
    found: &Found<'_>,
    file: &File,
    key: &FileKey,
) -> Result<Basis, Reason> {
    let trees = shared.book().trees();
    if has_no_writer(found, &trees) {
        if shows_writers(key) {
            lease::take_read(file.as_fd()).map_err(no_lease)?;
        } else if !has_no_writer(found, &trees.with_past()) {
            return Err(Reason::OverlayWritable);
        }
        return Ok(Basis::ReadOnly {
            place: found.place.clone(),
            linked: found.linked,
        });
    }
    if is_overlay(key) {
        return Err(Reason::OverlayWritable);
    }
    // Without that, a file that runs can be written however its exec was guarded.
    if !shared.running_files_refuse_writers || !shows_writers(key) {
        return Err(Reason::WritableMount);
    }
    lease::take_read(file.as_fd()).map_err(no_lease)?;
    Ok(Basis::Leased { lease: 0 })
}

/// EAGAIN says that somebody has it open for writing.
pub(crate) fn no_lease(error: io::Error) -> Reason {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Reason::LeasedWriter;
    }
    tracing::error!(%error, "no lease can be had; is `sysctl fs.leases-enable` 1?");
    Reason::WritableMount
}
