//! Installs what the other subcommands need, and only what is missing.

mod apt;
mod items;
mod rust;
mod service_guard;

use anyhow::{Context as _, bail};

pub(crate) use items::Group;
use items::{Item, Kind};

use crate::args::Arguments;
use crate::workspace;

pub(crate) const USAGE: &str = "[--check]";
pub(crate) const ABOUT: &str = "Install what is missing to build, demonstrate and test
Says what it installs, and why, before it does. A second run finds everything and does nothing.
`--check` installs nothing and fails if something is missing.";

/// `cargo xtask setup [--check]`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(raw, &["--check"])?;
    arguments.expect_flags_only()?;
    if arguments.has("--check") {
        check()
    } else {
        ensure(&[Group::Build, Group::Demo, Group::Vm])
    }
}

/// Installs what is missing from `groups`; says so in one line when nothing is.
///
/// # Errors
/// Something is missing and cannot be installed here; the text says what to do.
pub(crate) fn ensure(groups: &[Group]) -> anyhow::Result<()> {
    let llvm_major = rust::llvm_major()?;
    let missing: Vec<Item> = items::all(llvm_major)?
        .into_iter()
        .filter(|item| groups.contains(&item.group))
        .filter(Item::is_missing)
        .collect();
    if missing.is_empty() {
        println!("set-up: nothing is missing");
        return Ok(());
    }
    println!("set-up: installing");
    for item in &missing {
        println!("  {}: {}", item.name(), item.why);
    }
    install(&missing, llvm_major)?;
    match missing.iter().find(|item| item.is_missing()) {
        None => Ok(()),
        Some(item) => bail!(
            "{} was installed, yet {} is not there; install it by hand",
            item.name(),
            item.evidence()
        ),
    }
}

fn install(missing: &[Item], llvm_major: u32) -> anyhow::Result<()> {
    let packages: Vec<&str> = missing.iter().filter_map(Item::package).collect();
    if !packages.is_empty() {
        apt::install(&packages).context("cannot install Debian packages")?;
    }
    let components: Vec<&str> = missing.iter().filter_map(Item::component).collect();
    if !components.is_empty() {
        rust::install_components(&components).context("cannot install Rust components")?;
    }
    if missing
        .iter()
        .any(|item| matches!(item.kind, Kind::BpfLinker { .. }))
    {
        rust::install_bpf_linker(llvm_major).context("cannot install bpf-linker")?;
    }
    Ok(())
}

fn check() -> anyhow::Result<()> {
    let mut missing_count = 0_usize;
    for item in items::all(rust::llvm_major()?)? {
        let missing = item.is_missing();
        missing_count += usize::from(missing);
        println!(
            "{} {}: {}",
            if missing { "missing" } else { "present" },
            item.name(),
            item.why
        );
    }
    if missing_count > 0 {
        let by_whom = if workspace::is_root() { "" } else { " as root" };
        bail!("{missing_count} missing; `cargo xtask setup`{by_whom} installs them");
    }
    Ok(())
}
