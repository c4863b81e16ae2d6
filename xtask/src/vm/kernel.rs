//! Debian's cloud kernels: found with apt, unpacked, never installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::apt::Apt;
use super::elsewhere;
use crate::process;

const PACKAGE_PREFIX: &str = "linux-image-";
const PACKAGE_SUFFIX: &str = "-cloud-amd64-unsigned";

/// A kernel on disk, ready to boot.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The series it was asked for by, like `6.12`.
    pub(crate) series: String,
    /// What `uname -r` says inside.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) vmlinuz: PathBuf,
    /// `/lib/modules/<release>` with `modules.dep`.
    pub(crate) modules: PathBuf,
}

/// Fetches the newest kernel of `series` that apt has, or that Debian's archive has in another
/// release, unless it is here already.
///
/// # Errors
/// There is none of this series (the text names those there are, and what was tried), or it cannot
/// be unpacked.
pub(super) fn fetch(series: &str) -> anyhow::Result<Kernel> {
    let own = Apt::of_this_machine();
    let listed = search(&own)?;
    let packages = package_names(&listed);
    if let Some(package) = newest(&packages, series) {
        return fetch_package(&own, package, series);
    }
    let Some(release) = elsewhere::release_with(series) else {
        bail!("{}", remedy(series, &packages, None));
    };
    println!("apt has no kernel {series} here; it is looked for in Debian {release}");
    fetch_from(release, series).map_err(|error| {
        let tried = format!("Debian {release} was tried too: {error:#}");
        anyhow!("{}", remedy(series, &packages, Some(&tried)))
    })
}

fn fetch_from(release: &str, series: &str) -> anyhow::Result<Kernel> {
    let directory = super::directory().join("apt").join(release);
    let apt = elsewhere::apt_of(release, &directory)?;
    let listed = search(&apt)?;
    let packages = package_names(&listed);
    let package = newest(&packages, series).with_context(|| {
        format!(
            "its archive has only these cloud kernels: {}",
            offered(&packages)
        )
    })?;
    fetch_package(&apt, package, series)
}

fn search(apt: &Apt) -> anyhow::Result<String> {
    apt.search(&format!("^{PACKAGE_PREFIX}.*{PACKAGE_SUFFIX}$"))
}

fn fetch_package(apt: &Apt, package: &str, series: &str) -> anyhow::Result<Kernel> {
    let version = apt.candidate_version(package)?;
    let directory = super::directory().join(format!("{package}_{version}"));
    if !directory.exists() {
        unpack(apt, package, &version, &directory)?;
    }
    open(series, &directory)
}

fn package_names(listed: &str) -> Vec<&str> {
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| name.starts_with(PACKAGE_PREFIX) && name.ends_with(PACKAGE_SUFFIX))
        .collect()
}

/// The numbers in what follows `linux-image-`; equal in order to Debian's versions of these names.
fn version_key(package: &str) -> Vec<u64> {
    let version = package
        .strip_prefix(PACKAGE_PREFIX)
        .and_then(|rest| rest.strip_suffix(PACKAGE_SUFFIX));
    let numbers = version
        .unwrap_or_default()
        .split(|character: char| !character.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

fn newest<'name>(packages: &[&'name str], series: &str) -> Option<&'name str> {
    let prefix = format!("{PACKAGE_PREFIX}{series}.");
    packages
        .iter()
        .copied()
        .filter(|name| name.starts_with(&prefix))
        .max_by_key(|name| version_key(name))
}

/// The series of `packages`, for messages.
fn offered(packages: &[&str]) -> String {
    let keys = packages.iter().map(|name| version_key(name));
    let series: BTreeSet<(u64, u64)> = keys
        .filter_map(|key| Some((*key.first()?, *key.get(1)?)))
        .collect();
    let series: Vec<String> = series
        .iter()
        .map(|(major, minor)| format!("{major}.{minor}"))
        .collect();
    if series.is_empty() {
        "none".to_owned()
    } else {
        series.join(", ")
    }
}

fn remedy(series: &str, packages: &[&str], tried: Option<&str>) -> String {
    let offered = offered(packages);
    let tried = tried.map(|tried| format!(" {tried}.")).unwrap_or_default();
    format!(
        "apt has no cloud kernel of series {series}; it has: {offered}.{tried} Run `apt-get update` if the package \
         lists are old, add the Debian release that carries {series} (6.1: Debian 12; 6.12: Debian 13, or 12 with its \
         security suite) to apt's sources, or name the kernels to test on, as in `cargo xtask vm 6.12` or \
         `cargo xtask test 6.12`"
    )
}

/// Unpacks beside `directory` and renames at the end, so that a killed run leaves nothing half done.
fn unpack(apt: &Apt, package: &str, version: &str, directory: &Path) -> anyhow::Result<()> {
    let partial = super::directory().join(format!("{package}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    let content = partial.join("content");
    fs::create_dir_all(&content).with_context(|| format!("cannot make {}", content.display()))?;
    apt.download(&format!("{package}={version}"), &partial)?;
    let archive = fs::read_dir(&partial)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get left no package in {}", partial.display()))?;
    process::run(
        process::command("dpkg-deb", &["-x"])
            .arg(&archive)
            .arg(&content),
    )?;
    if !content.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", content.join("lib"))?;
    }
    let release = release_in(&content)?;
    process::run(
        process::command("/usr/sbin/depmod", &["-b"])
            .arg(&content)
            .arg(&release),
    )?;
    fs::rename(&content, directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))
}

fn release_in(content: &Path) -> anyhow::Result<String> {
    let boot = content.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut releases = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
    releases
        .next()
        .with_context(|| format!("{} has no vmlinuz", boot.display()))
}

fn open(series: &str, directory: &Path) -> anyhow::Result<Kernel> {
    let release = release_in(directory)?;
    Ok(Kernel {
        series: series.to_owned(),
        vmlinuz: directory.join("boot").join(format!("vmlinuz-{release}")),
        modules: directory.join("lib/modules").join(&release),
        release,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
linux-image-6.1.0-9-cloud-amd64-unsigned - Linux 6.1 for x86-64 cloud
linux-image-6.1.0-56-cloud-amd64-unsigned - Linux 6.1 for x86-64 cloud
linux-image-6.12.99+deb12-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud
linux-image-6.12.117+deb12-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud
linux-image-6.12.9+bpo-cloud-amd64-unsigned - Linux 6.12 for x86-64 cloud
linux-image-6.12.117+deb12-cloud-amd64-dbg - Debug symbols
";

    #[test]
    fn newest_is_by_number_not_by_letter() {
        let packages = package_names(LISTED);
        assert_eq!(
            newest(&packages, "6.1"),
            Some("linux-image-6.1.0-56-cloud-amd64-unsigned")
        );
        assert_eq!(
            newest(&packages, "6.12"),
            Some("linux-image-6.12.117+deb12-cloud-amd64-unsigned")
        );
    }

    #[test]
    fn series_is_no_prefix_of_another() {
        assert_eq!(newest(&package_names(LISTED), "6.11"), None);
        let only_longer = ["linux-image-6.12.9+bpo-cloud-amd64-unsigned"];
        assert_eq!(newest(&only_longer, "6.1"), None);
    }

    #[test]
    fn missing_series_is_answered_with_those_there_are() {
        let text = remedy("5.15", &package_names(LISTED), None);
        assert!(text.contains("it has: 6.1, 6.12. Run"), "{text}");
        assert!(remedy("5.15", &[], None).contains("it has: none. Run `apt-get update`"));
    }

    #[test]
    fn missing_series_is_answered_with_what_was_tried() {
        let text = remedy("6.1", &[], Some("Debian bookworm was tried too: no route"));
        assert!(
            text.contains("it has: none. Debian bookworm was tried too: no route. Run"),
            "{text}"
        );
    }
}
