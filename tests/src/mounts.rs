//! Where the kernel's file systems are on this machine: nothing is assumed.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

/// Where clawd mounts the bpf file system if nobody else has.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The mount point of the cgroup v2 hierarchy; on hybrid hosts not `/sys/fs/cgroup` itself.
///
/// # Errors
/// None is mounted.
pub fn cgroup2_mount() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let found = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let is_cgroup2 = kind.split(' ').next() == Some("cgroup2");
        is_cgroup2
            .then(|| place.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    });
    found.context("no cgroup v2 hierarchy is mounted")
}

/// The mount points of cgroup v1 hierarchies.
///
/// # Errors
/// The mounts cannot be read.
pub fn cgroup1_mounts() -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let found = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let is_cgroup1 = kind.split(' ').next() == Some("cgroup");
        is_cgroup1.then(|| place.split(' ').nth(4).map(PathBuf::from))?
    });
    Ok(found.collect())
}
