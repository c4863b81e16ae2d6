//! A directory that becomes a machine's file system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::process;

/// A file system under construction.
pub(super) struct Tree {
    root: PathBuf,
    /// Copied files that the dynamic loader is to be asked about.
    linked: Vec<PathBuf>,
}

// === impl Tree ===

impl Tree {
    /// Starts with an empty directory at `root`; an older one is removed.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn new(root: &Path) -> anyhow::Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root)
                .with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self {
            root: root.to_path_buf(),
            linked: Vec::new(),
        })
    }

    /// Makes a directory with those above it.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn directory(&self, inside: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(inside);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file with mode `mode`.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn write(&self, inside: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.place(inside)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(mode),
        )?)
    }

    /// Makes a symbolic link, unless something has the name already.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn link(&self, inside: &str, target: &str) -> anyhow::Result<()> {
        let path = self.place(inside)?;
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))
    }

    /// Copies a file of the host, with its mode and its time (Python compares times).
    ///
    /// # Errors
    /// The file cannot be read, or not be written here.
    pub(super) fn copy(&self, host: &Path, inside: &str) -> anyhow::Result<()> {
        let path = self.place(inside)?;
        fs::copy(host, &path).with_context(|| format!("cannot copy {}", host.display()))?;
        let modified = fs::metadata(host)?.modified()?;
        Ok(File::options()
            .append(true)
            .open(&path)?
            .set_modified(modified)?)
    }

    /// Copies a program or library; [`Tree::copy_libraries`] brings what it links.
    ///
    /// # Errors
    /// As [`Tree::copy`].
    pub(super) fn copy_linked(&mut self, host: &Path, inside: &str) -> anyhow::Result<()> {
        self.linked.push(host.to_path_buf());
        self.copy(host, inside)
    }

    /// Copies a directory of the host but for directories named in `left_out`.
    ///
    /// # Errors
    /// As [`Tree::copy`].
    pub(super) fn copy_directory(&mut self, host: &Path, left_out: &[&str]) -> anyhow::Result<()> {
        let entries =
            fs::read_dir(host).with_context(|| format!("cannot read {}", host.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !left_out.contains(&name.as_ref()) {
                    self.copy_directory(&path, left_out)?;
                }
            } else if name.ends_with(".so") {
                self.copy_linked(&path, &inside(&path))?;
            } else if path.is_file() {
                self.copy(&path, &inside(&path))?;
            }
        }
        Ok(())
    }

    /// Copies the shared libraries of everything that was copied as linked.
    ///
    /// # Errors
    /// A library is not on this host, or cannot be copied.
    pub(super) fn copy_libraries(&self) -> anyhow::Result<()> {
        // ldd fails for the static ones among them, but answers for all.
        let output = process::command("ldd", &[])
            .args(&self.linked)
            .output()
            .context("cannot start `ldd`")?;
        for library in libraries_in(&String::from_utf8_lossy(&output.stdout))? {
            self.copy(&library, &inside(&library))?;
        }
        Ok(())
    }

    /// Packs everything as an archive that the kernel unpacks at boot; all files are root's in it.
    ///
    /// # Errors
    /// cpio fails.
    pub(super) fn pack(&self, archive: &Path) -> anyhow::Result<()> {
        let mut names = String::new();
        list(&self.root, &self.root, &mut names)?;
        let mut command = Command::new("cpio");
        command
            .args(["--create", "--quiet", "--format=newc", "--owner=0:0"])
            .current_dir(&self.root);
        let file =
            File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .context("cannot start `cpio`")?;
        let written = child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(names.as_bytes()));
        let status = child.wait()?;
        if !status.success() {
            bail!("cpio cannot pack {} ({status})", self.root.display());
        }
        written.context("cpio did not read every name")
    }

    /// The path of `inside`, with its directory made.
    fn place(&self, inside: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(inside);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        Ok(path)
    }
}

/// Where a path of the host is in a file system with a merged `/usr`, without the leading slash.
pub(super) fn inside(host: &Path) -> String {
    let path = host.to_string_lossy();
    let path = path.trim_start_matches('/');
    let is_merged = ["bin/", "lib/", "lib64/", "sbin/"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    if is_merged {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Reads `name => /path (address)` and `/path (address)` of ldd.
fn libraries_in(listed: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for line in listed
        .lines()
        .filter(|line| line.starts_with(char::is_whitespace))
    {
        let (name, place) = line
            .trim()
            .split_once(" => ")
            .unwrap_or((line.trim(), line.trim()));
        if place.starts_with("not found") {
            bail!("library {name} is not on this host");
        }
        if let (true, Some(path)) = (place.starts_with('/'), place.split(" (").next()) {
            libraries.insert(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

/// Appends the name of every entry below `directory`, directories before what is in them.
fn list(root: &Path, directory: &Path, names: &mut String) -> anyhow::Result<()> {
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        let entry = entry?;
        let path = entry.path();
        names.push_str(&path.strip_prefix(root)?.to_string_lossy());
        names.push('\n');
        if entry.file_type()?.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_both_forms_of_line() {
        let listed = "/usr/bin/a:\n\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x3)\n/usr/bin/b:\n\tnot a dynamic executable\n\tstatically linked\n";
        let libraries = libraries_in(listed).unwrap();
        assert_eq!(
            libraries,
            ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
                .map(PathBuf::from)
                .into()
        );
    }

    #[test]
    fn library_that_is_not_there_is_named() {
        let error = libraries_in("\tlibodd.so.1 => not found\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("libodd.so.1"), "{error}");
    }

    #[test]
    fn paths_are_merged_into_usr() {
        assert_eq!(inside(Path::new("/lib/x/libc.so.6")), "usr/lib/x/libc.so.6");
        assert_eq!(inside(Path::new("/lib64/ld.so")), "usr/lib64/ld.so");
        assert_eq!(inside(Path::new("/usr/bin/env")), "usr/bin/env");
        assert_eq!(inside(Path::new("/libexec/a")), "libexec/a");
    }
}
