//! The control socket.

use std::{
    fs, io,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixStream,
    },
    path::Path,
};

use anyhow::{Context as _, bail};
use clawd_control::SOCKET_GROUP;
use tokio::net::UnixListener;

/// Binds the socket: for root, and for the group `clawd` where the host has one.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "another clawd listens at {}; stop it or give another --socket",
            path.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)
                .with_context(|| format!("cannot remove the stale socket {}", path.display()))?;
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look at {}", path.display()));
        }
    }
    // Nobody may connect before owner and mode are set.
    let before = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.with_context(|| format!("cannot listen at {}", path.display()))?;
    if let Some(group) = uzers::get_group_by_name(SOCKET_GROUP) {
        chown(path, None, Some(group.gid())).context("cannot give the socket to group clawd")?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))
            .context("cannot set the socket's mode")?;
    }
    Ok(listener)
}
