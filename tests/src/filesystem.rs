//! File systems to execute programs from: real ones of each kind, and one that FUSE serves.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::mount::{UnmountFlags, unmount};

use crate::{namespace::Namespace, scratch::Scratch};

/// How long a FUSE server may take until its file system is there; emulated machines are slow.
const DEADLINE: Duration = Duration::from_secs(120);

/// Options of an empty tmpfs.
const EMPTY: &str = "mode=0755";

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On a loop device.
    Ext4,
    /// On a loop device.
    Xfs,
    /// On a loop device; `statx` tells a device number that the kernel's inode does not have.
    Btrfs,
    /// In memory.
    Tmpfs,
    /// Two folders of a tmpfs of its own, one over the other.
    Overlay,
}

// === impl Kind ===

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Tmpfs,
        Self::Overlay,
    ];

    /// What the kernel calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Tmpfs => "tmpfs",
            Self::Overlay => "overlay",
        }
    }

    /// How large its image is, if it has one. The file is sparse: what is never written takes no
    /// space, which on xfs is all but its log of 64 MiB.
    fn image_size_bytes(self) -> Option<u64> {
        const MIB: u64 = 1 << 20;
        match self {
            Self::Ext4 => Some(64 * MIB),
            // `mkfs.xfs` refuses less than 300 MiB, `mkfs.btrfs` less than 109 MiB.
            Self::Xfs => Some(320 * MIB),
            Self::Btrfs => Some(128 * MIB),
            Self::Tmpfs | Self::Overlay => None,
        }
    }
}

/// A file system of its own, empty at first, that only root may write to. Dropping it unmounts it
/// and removes its image; a sandbox that sees it keeps its content until it ends.
#[derive(Debug)]
pub struct FileSystem {
    root: PathBuf,
    image: Option<PathBuf>,
    layers: Option<Layers>,
    /// What was mounted, in order.
    mounted: Vec<PathBuf>,
}

/// What an overlay is made of.
#[derive(Debug)]
struct Layers {
    root: PathBuf,
    lower: PathBuf,
    upper: PathBuf,
}

// === impl FileSystem ===

impl FileSystem {
    /// Makes and mounts one in the folder `name` of `scratch`. Its image or its layers are beside
    /// that folder, as `<name>.image` or `<name>.layers`.
    ///
    /// # Errors
    /// There is no program that makes this kind, or the kernel does not mount it.
    pub fn mount(scratch: &Scratch, kind: Kind, name: &str) -> anyhow::Result<Self> {
        let mut made = Self {
            root: scratch.folder(name, 0o755)?,
            image: None,
            layers: None,
            mounted: Vec::new(),
        };
        let root = made.root.clone();
        if let Some(size_bytes) = kind.image_size_bytes() {
            let image = scratch.path(&format!("{name}.image"));
            make_image(kind, made.image.insert(image.clone()), size_bytes)?;
            made.attach(kind, "loop", &image, root)?;
        } else if kind == Kind::Overlay {
            let options = made.make_layers(scratch, &format!("{name}.layers"))?;
            made.attach(kind, &options, Path::new("overlay"), root)?;
        } else {
            made.attach(kind, EMPTY, Path::new("tmpfs"), root)?;
        }
        Ok(made)
    }

    /// Mounts a tmpfs of so many bytes in the folder `name` of `scratch`.
    ///
    /// # Errors
    /// The kernel does not mount it.
    pub fn mount_small(scratch: &Scratch, name: &str, size_bytes: u64) -> anyhow::Result<Self> {
        let root = scratch.folder(name, 0o755)?;
        let mut made = Self {
            root: root.clone(),
            image: None,
            layers: None,
            mounted: Vec::new(),
        };
        let options = format!("{EMPTY},size={size_bytes}");
        made.attach(Kind::Tmpfs, &options, Path::new("tmpfs"), root)?;
        Ok(made)
    }

    /// Makes an overlay's layers on a tmpfs, which can be an upper layer on every kernel, and returns
    /// the options to mount it with.
    fn make_layers(&mut self, scratch: &Scratch, name: &str) -> anyhow::Result<String> {
        let root = scratch.folder(name, 0o755)?;
        self.layers = Some(Layers {
            lower: root.join("lower"),
            upper: root.join("upper"),
            root: root.clone(),
        });
        self.attach(Kind::Tmpfs, EMPTY, Path::new("layers"), root.clone())?;
        for layer in ["lower", "upper", "work"] {
            scratch.folder(&format!("{name}/{layer}"), 0o755)?;
        }
        let root = root.display();
        Ok(format!(
            "lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
        ))
    }

    fn attach(
        &mut self,
        kind: Kind,
        options: &str,
        source: &Path,
        place: PathBuf,
    ) -> anyhow::Result<()> {
        let mut command = Command::new("/usr/bin/mount");
        command.args(["-t", kind.name(), "-o", options]);
        run(command.arg(source).arg(&place))?;
        self.mounted.push(place);
        Ok(())
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The folder that an overlay writes to.
    #[must_use]
    pub fn upper(&self) -> Option<&Path> {
        self.layers.as_ref().map(|layers| layers.upper.as_path())
    }

    /// The folder that an overlay only reads. What is put there is seen if nobody has looked for it
    /// through the overlay before.
    #[must_use]
    pub fn lower(&self) -> Option<&Path> {
        self.layers.as_ref().map(|layers| layers.lower.as_path())
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        for place in self.mounted.iter().rev() {
            detach(place);
        }
        remove_folder(&self.root);
        if let Some(layers) = &self.layers {
            remove_folder(&layers.root);
        }
        if let Some(image) = &self.image
            && let Err(error) = fs::remove_file(image)
        {
            eprintln!("{} stays: {error}", image.display());
        }
    }
}

/// A file system that a process serves (bindfs): it shows another folder, to every user. Dropping it
/// unmounts it and ends the process, which also ends with the thread that started it.
#[derive(Debug)]
pub struct FuseMirror {
    server: Child,
    root: PathBuf,
}

// === impl FuseMirror ===

impl FuseMirror {
    /// Shows `folder` at the folder `name` of `scratch`.
    ///
    /// # Errors
    /// There is no bindfs, or the kernel does not mount it.
    pub fn mount(scratch: &Scratch, folder: &Path, name: &str) -> anyhow::Result<Self> {
        let root = scratch.folder(name, 0o755)?;
        let mut command = Namespace::command("/usr/bin/bindfs");
        command.args(["-f", "-o", "allow_other"]).arg(folder);
        let server = command
            .arg(&root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start bindfs")?;
        let mut mirror = Self { server, root };
        let deadline = Instant::now() + DEADLINE;
        while !mounts_below(&mirror.root)?.contains(&mirror.root) {
            if mirror.server.try_wait()?.is_some() || Instant::now() > deadline {
                mirror.server.kill()?;
                let mut said = String::new();
                if let Some(mut stderr) = mirror.server.stderr.take() {
                    stderr.read_to_string(&mut said)?;
                }
                bail!("bindfs does not serve: {}", said.trim());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(mirror)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for FuseMirror {
    fn drop(&mut self) {
        if mounts_below(&self.root).is_ok_and(|mounts| !mounts.is_empty()) {
            detach(&self.root);
        }
        // Without its server nobody can remove files of the mirrored folder by this path.
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait()) {
            eprintln!("cannot end bindfs: {error}");
        }
        remove_folder(&self.root);
    }
}

/// The mount points at `folder` and below it, in the order in which they were mounted.
///
/// # Errors
/// The mounts cannot be read, or there is no such folder.
pub fn mounts_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    // A mount whose server is gone answers no look-up, the folder that it is in does.
    let (parent, name) = folder
        .parent()
        .zip(folder.file_name())
        .context("the root is no folder of a test")?;
    let folder = parent.canonicalize()?.join(name);
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(places
        .map(PathBuf::from)
        .filter(|place| place.starts_with(&folder))
        .collect())
}

/// Unmounts what is mounted at and below `folder`, whoever still uses it.
///
/// # Errors
/// Something stays.
pub(crate) fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    for place in mounts_below(folder)?.iter().rev() {
        unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .with_context(|| format!("cannot unmount {}", place.display()))?;
    }
    Ok(())
}

/// The loop device is freed by the kernel when the last user of the file system is gone.
fn detach(place: &Path) {
    if let Err(error) = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        eprintln!("{} stays mounted: {error}", place.display());
    }
}

/// Only if it is empty: whatever could not be unmounted keeps its content.
fn remove_folder(path: &Path) {
    if let Err(error) = fs::remove_dir(path) {
        eprintln!("{} stays: {error}", path.display());
    }
}

fn make_image(kind: Kind, image: &Path, size_bytes: u64) -> anyhow::Result<()> {
    let file =
        File::create_new(image).with_context(|| format!("cannot make {}", image.display()))?;
    file.set_len(size_bytes)?;
    // Not to ask whether a file that is no device is meant.
    let force = if kind == Kind::Ext4 { "-F" } else { "-f" };
    let mut command = Command::new(format!("/usr/sbin/mkfs.{}", kind.name()));
    run(command.args(["-q", force]).arg(image))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}; run `cargo xtask setup`"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
