//! Finds the fuzz targets of the checkout, with their seeds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{process, workspace};

/// One fuzz target.
pub(super) struct Target {
    /// Its name, like no other target's.
    pub(super) name: String,
    /// The manifest of its crate.
    pub(super) manifest: PathBuf,
    /// Directories of inputs to begin with; all are there.
    pub(super) seeds: Vec<PathBuf>,
}

/// The manifest of every fuzz crate, `agent/*/fuzz/Cargo.toml`, sorted.
///
/// # Errors
/// `agent` cannot be read, or there is no fuzz crate at all.
pub(crate) fn manifests() -> anyhow::Result<Vec<PathBuf>> {
    let agent = workspace::root().join("agent");
    let mut manifests = Vec::new();
    for entry in fs::read_dir(&agent).with_context(|| format!("cannot read {}", agent.display()))? {
        let manifest = entry?.path().join("fuzz/Cargo.toml");
        if manifest.is_file() {
            manifests.push(manifest);
        }
    }
    if manifests.is_empty() {
        bail!("{} holds no fuzz crate", agent.display());
    }
    manifests.sort();
    Ok(manifests)
}

/// Every fuzz target, those of one crate side by side.
///
/// # Errors
/// Cargo cannot read a manifest, a named seed directory is absent, or two targets share a name.
pub(super) fn targets() -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for manifest in manifests()? {
        let mut command = process::cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        command
            .arg("--locked")
            .arg("--manifest-path")
            .arg(&manifest);
        let metadata = process::output(&mut command)?;
        let found = targets_in(&metadata, &manifest)
            .with_context(|| format!("cannot use {}", manifest.display()))?;
        targets.extend(found);
    }
    let mut names = BTreeSet::new();
    // They are built into one directory.
    match targets.iter().find(|target| !names.insert(&target.name)) {
        None => Ok(targets),
        Some(target) => bail!("two fuzz targets are called `{}`; rename one", target.name),
    }
}

/// Reads the output of `cargo metadata --no-deps` for the crate at `manifest`.
pub(super) fn targets_in(metadata: &str, manifest: &Path) -> anyhow::Result<Vec<Target>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo printed no JSON")?;
    let package = metadata.pointer("/packages/0").context("no package")?;
    let declared = package.get("targets").and_then(Value::as_array);
    let mut targets = Vec::new();
    for target in declared.context("no targets")? {
        let kinds = target.get("kind").and_then(Value::as_array);
        if !kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin")) {
            continue;
        }
        let name = target.get("name").and_then(Value::as_str);
        let name = name.context("a target without a name")?.to_owned();
        targets.push(Target {
            seeds: seeds(package, manifest, &name)?,
            manifest: manifest.to_path_buf(),
            name,
        });
    }
    if targets.is_empty() {
        bail!("it has no [[bin]]");
    }
    Ok(targets)
}

/// `seeds/<target>` and `corpus/<target>` where they are, and what `package.metadata.seeds` lists.
fn seeds(package: &Value, manifest: &Path, name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let directory = manifest.parent().context("it lies in no directory")?;
    let usual = ["seeds", "corpus"].map(|parent| directory.join(parent).join(name));
    let mut seeds: Vec<PathBuf> = usual.into_iter().filter(|path| path.is_dir()).collect();
    let listed = package
        .get("metadata")
        .and_then(|all| all.get("seeds")?.get(name));
    let Some(listed) = listed else {
        return Ok(seeds);
    };
    let listed = listed.as_array();
    for entry in listed.with_context(|| format!("metadata.seeds.{name} is no list"))? {
        let text = entry.as_str();
        let path = directory.join(text.with_context(|| format!("{entry} is no path"))?);
        if !path.is_dir() {
            bail!("the seeds {} are not there", path.display());
        }
        seeds.push(path);
    }
    Ok(seeds)
}
