//! Checks the dependencies against `deny.toml`: number, licences, duplicates, sources.

mod licence;
mod lists;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, bail};

use crate::{process, workspace};

/// Each package is code that runs as root: this many can still be known.
const DAEMON_PACKAGE_COUNT_MAX: usize = 150;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Checks every rule, and names all that break one.
///
/// # Errors
/// A rule is broken, or Cargo cannot tell the dependencies.
pub(crate) fn check() -> anyhow::Result<()> {
    let rules =
        fs::read_to_string(workspace::root().join("deny.toml")).context("cannot read deny.toml")?;
    let licences = lists::strings(&rules, "licenses", "allow")
        .context("deny.toml has no list licenses.allow")?;
    let duplicates =
        lists::strings(&rules, "bans", "skip").context("deny.toml has no list bans.skip")?;

    let daemon_count = tree(&["-p", "clawd", "-e", "normal"])?.len();
    let packages = tree(&["--workspace", "-e", "normal,build"])?;
    let mut complaints = Vec::new();
    if daemon_count > DAEMON_PACKAGE_COUNT_MAX {
        complaints.push(format!(
            "clawd depends on {daemon_count} packages, the limit is {DAEMON_PACKAGE_COUNT_MAX}"
        ));
    }
    complaints.extend(licence_complaints(&packages, &licences));
    complaints.extend(duplicate_complaints(&packages, &duplicates));
    for lock in ["Cargo.lock", "ebpf/Cargo.lock"] {
        let text = fs::read_to_string(workspace::root().join(lock))
            .with_context(|| format!("cannot read {lock}"))?;
        complaints.extend(
            source_complaints(&text)
                .into_iter()
                .map(|complaint| format!("{lock}: {complaint}")),
        );
    }
    println!(
        "clawd: {daemon_count} packages of at most {DAEMON_PACKAGE_COUNT_MAX}; the workspace: {}",
        packages.len()
    );
    if !complaints.is_empty() {
        bail!(
            "dependencies break deny.toml:\n  {}",
            complaints.join("\n  ")
        );
    }
    Ok(())
}

/// One package as Cargo lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

impl Package {
    /// Whether `specification` is this name with this version, or with the beginning of it.
    fn is_named_by(&self, specification: &str) -> bool {
        let Some((name, version)) = specification.split_once('@') else {
            return false;
        };
        let rest = self.version.strip_prefix(version);
        name == self.name && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

fn tree(selection: &[&str]) -> anyhow::Result<BTreeSet<Package>> {
    let arguments = [
        "tree",
        "--locked",
        "--target",
        TARGET,
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}|{l}",
    ];
    let text = process::output(process::cargo(&arguments).args(selection))?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(package_in)
        .collect()
}

/// Reads `name v1.2.3 (more)|licence`.
fn package_in(line: &str) -> anyhow::Result<Package> {
    let parts = line.split_once('|').and_then(|(package, licence)| {
        let mut words = package.split(' ');
        Some((words.next()?, words.next()?.strip_prefix('v')?, licence))
    });
    let (name, version, licence) =
        parts.with_context(|| format!("cannot read `{line}` of `cargo tree`"))?;
    Ok(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.to_owned(),
    })
}

fn licence_complaints(packages: &BTreeSet<Package>, allowed: &[String]) -> Vec<String> {
    let refused = packages
        .iter()
        .filter(|package| !licence::is_allowed(&package.licence, allowed));
    refused
        .map(|package| {
            format!(
                "{} {} has licence `{}`",
                package.name, package.version, package.licence
            )
        })
        .collect()
}

fn duplicate_complaints(packages: &BTreeSet<Package>, skipped: &[String]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        if !skipped.iter().any(|skip| package.is_named_by(skip)) {
            versions
                .entry(&package.name)
                .or_default()
                .push(&package.version);
        }
    }
    let twice = versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1);
    twice
        .map(|(name, versions)| format!("{name} is there more than once: {}", versions.join(", ")))
        .collect()
}

/// Every source in a lock file has to be the one registry, never a git repository.
fn source_complaints(lock: &str) -> Vec<String> {
    let sources: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = \"")?.strip_suffix('"'))
        .collect();
    let mut complaints: Vec<String> = sources
        .iter()
        .filter(|source| !source.starts_with("registry+"))
        .map(|source| format!("{source} is not a registry"))
        .collect();
    if sources.len() > 1 {
        complaints.push("more than one source".to_owned());
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: "MIT".to_owned(),
        }
    }

    #[test]
    fn lines_of_cargo_tree_are_read() {
        let read = package_in("serde v1.0.1 (proc-macro)|MIT OR Apache-2.0").unwrap();
        assert_eq!(
            (read.name.as_str(), read.version.as_str()),
            ("serde", "1.0.1")
        );
        assert_eq!(read.licence, "MIT OR Apache-2.0");
        assert!(package_in("serde").is_err());
    }

    #[test]
    fn second_version_is_refused_unless_skipped() {
        let packages = BTreeSet::from([
            package("a", "1.0.0"),
            package("a", "2.0.0"),
            package("b", "1.0.0"),
        ]);
        assert_eq!(duplicate_complaints(&packages, &[]).len(), 1);
        for skip in ["a@1.0.0", "a@1", "a@2.0"] {
            assert!(
                duplicate_complaints(&packages, &[skip.to_owned()]).is_empty(),
                "{skip}"
            );
        }
        for skip in ["a", "a@1.0.00", "a@1.", "b@1"] {
            assert_eq!(
                duplicate_complaints(&packages, &[skip.to_owned()]).len(),
                1,
                "{skip}"
            );
        }
    }

    #[test]
    fn git_source_is_refused() {
        assert!(source_complaints("source = \"registry+x\"\nsource = \"registry+x\"\n").is_empty());
        assert_eq!(
            source_complaints("source = \"git+https://example.org/a\"\n").len(),
            1
        );
        assert_eq!(
            source_complaints("source = \"registry+x\"\nsource = \"registry+y\"\n").len(),
            1
        );
    }

    #[test]
    fn licence_outside_the_list_is_named() {
        let packages = BTreeSet::from([package("a", "1.0.0")]);
        assert!(licence_complaints(&packages, &["MIT".to_owned()]).is_empty());
        assert_eq!(
            licence_complaints(&packages, &["ISC".to_owned()]),
            ["a 1.0.0 has licence `MIT`"]
        );
    }
}
