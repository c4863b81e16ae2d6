//! How detached sandboxes end: a file for each, which its first process writes.
//!
//! Nobody holds a pipe's other end for them, and a daemon's end must lose nothing.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use clawd_control::ExitStatus;

/// The folder of those files.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    dir: PathBuf,
}

impl Ends {
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("ends");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// What a sandbox's first process is to write its line to.
    pub(crate) fn make(&self, name: &str) -> io::Result<File> {
        File::create(self.dir.join(name))
    }

    /// The line of a sandbox that has ended, which is removed; `None` where it was killed, or is not
    /// a detached one.
    pub(crate) fn take(&self, name: &str) -> io::Result<Option<ExitStatus>> {
        let path = self.dir.join(name);
        let line = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        fs::remove_file(&path)?;
        Ok(line.strip_suffix('\n').and_then(|line| line.parse().ok()))
    }

    /// Removes those of sandboxes that are gone.
    pub(crate) fn retain(&self, live: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| live.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clawd_control::ExitStatus;

    use super::Ends;

    #[test]
    fn end_is_taken_once_and_half_a_line_is_none() {
        let dir = std::env::temp_dir().join(format!("clawd-ends-{}", std::process::id()));
        let ends = Ends::open(&dir).expect("opened");
        for (written, want) in [
            ("exit 7\n", Some(ExitStatus::Exited(7))),
            ("signal 9\n", Some(ExitStatus::Signaled(9))),
            ("exit 7", None),
            ("", None),
        ] {
            let mut file = ends.make("a").expect("made");
            file.write_all(written.as_bytes()).expect("written");
            assert_eq!(ends.take("a").expect("taken"), want, "{written:?}");
            assert_eq!(ends.take("a").expect("nothing"), None);
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
