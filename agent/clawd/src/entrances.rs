//! The sockets by which a daemon reaches the first processes of sandboxes.
//!
//! In a folder that only root may enter; no sandbox sees it. They outlive a daemon, as sandboxes do.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::DirBuilderExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

/// The folder.
#[derive(Debug)]
pub(crate) struct Entrances {
    path: PathBuf,
    /// Sockets are named by way of it: the path of one may be longer than a socket's address.
    dir: File,
}

impl Entrances {
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("entrances");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        let dir = File::open(&path)?;
        Ok(Self { path, dir })
    }

    /// An address of bounded length: a name has 63 bytes at most.
    fn address(&self, name: &str) -> PathBuf {
        let dir = self.dir.as_raw_fd();
        PathBuf::from(format!("/proc/self/fd/{dir}/{name}"))
    }

    /// Makes the socket that a new sandbox's first process is to listen at.
    pub(crate) fn make(&self, name: &str) -> io::Result<UnixListener> {
        // What a daemon left that was killed in a start.
        self.remove(name)?;
        UnixListener::bind(self.address(name))
    }

    /// Connects to the first process of a sandbox.
    pub(crate) fn connect(&self, name: &str) -> io::Result<UnixStream> {
        UnixStream::connect(self.address(name))
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes those of sandboxes that are gone.
    pub(crate) fn retain(&self, live: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let is_live = entry
                .file_name()
                .to_str()
                .is_some_and(|name| live.contains(name));
            if !is_live {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Entrances;

    #[test]
    fn entrance_is_reached_by_name_however_long_the_folders_path_is() {
        let base = std::env::temp_dir().join(format!("clawd-entrances-{}", std::process::id()));
        let deep = base.join("x".repeat(200));
        std::fs::create_dir_all(&deep).expect("folder");
        let entrances = Entrances::open(&deep).expect("opened");
        let name = "n".repeat(63);
        assert!(entrances.connect(&name).is_err());
        let listener = entrances.make(&name).expect("made");
        drop(entrances.connect(&name).expect("connected"));
        drop(listener);
        assert!(entrances.connect(&name).is_err());
        // Of a start that was killed.
        let _listener = entrances.make(&name).expect("made again");
        let _other = entrances.make("other").expect("made");
        let live = HashSet::from(["other".to_owned()]);
        entrances.retain(&live).expect("looked through");
        assert!(entrances.connect(&name).is_err());
        drop(entrances.connect("other").expect("connected"));
        std::fs::remove_dir_all(&base).expect("removed");
    }
}
