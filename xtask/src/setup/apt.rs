//! Debian packages through `apt-get`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::service_guard::ServiceGuard;
use crate::{process, workspace};

/// Packages that bring a service, with its name.
const SERVICES: &[(&str, &str)] = &[
    ("nginx-light", "nginx.service"),
    ("openssh-server", "ssh.service"),
];

/// Installs `packages`; package lists are fetched anew only when the present ones do not do.
///
/// # Errors
/// Not a Debian, not root, a package that this release does not have, or `apt-get` fails.
pub(super) fn install(packages: &[&str]) -> anyhow::Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this is not a Debian: there is no apt-get; install by hand what corresponds to: {}",
            packages.join(" ")
        );
    }
    if !workspace::is_root() {
        bail!(
            "only root can install packages; run `cargo xtask setup` as root, or: apt-get install {}",
            packages.join(" ")
        );
    }
    let mut lists_are_fresh = false;
    if packages.iter().any(|package| !is_known(package)) {
        update_lists()?;
        lists_are_fresh = true;
    }
    if let Some(unknown) = packages.iter().find(|package| !is_known(package)) {
        bail!("{}", remedy(unknown));
    }
    let guard = ServiceGuard::new()?;
    if let Err(error) = process::run(&mut install_command(packages)) {
        if lists_are_fresh {
            return Err(error);
        }
        println!("set-up: the package lists may be old; fetching them and trying once more");
        update_lists()?;
        process::run(&mut install_command(packages))?;
    }
    guard.restore()?;
    SERVICES
        .iter()
        .filter(|(package, _)| packages.contains(package))
        .try_for_each(|(package, service)| keep_stopped(package, service))
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = process::command(
        "apt-get",
        &["install", "-qq", "--yes", "--no-install-recommends"],
    );
    command
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn update_lists() -> anyhow::Result<()> {
    process::run(&mut process::command("apt-get", &["update", "-qq"]))
}

/// Whether apt could install `package` from its present lists.
fn is_known(package: &str) -> bool {
    process::output(&mut process::command(
        "apt-cache",
        &["show", "--no-all-versions", package],
    ))
    .is_ok()
}

fn remedy(package: &str) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("this release");
    let release = release.trim_matches('"');
    if package.starts_with("llvm-") || package.starts_with("libpolly-") {
        return format!(
            "{release} has no {package}, and bpf-linker needs the LLVM that rustc has; add Debian's security \
             suite (Debian 12 and 13 carry it there) or the LLVM project's own apt repository, then run this again"
        );
    }
    format!(
        "{release} has no {package}; add the Debian suite `main` that has it to apt's sources, then run this again"
    )
}

/// A package enables its service for the next boot; only the program is wanted.
fn keep_stopped(package: &str, service: &str) -> anyhow::Result<()> {
    if !Path::new("/usr/bin/systemctl").exists() {
        return Ok(());
    }
    println!("set-up: {package} was just installed for its program alone; its service stays off");
    process::run(&mut process::command(
        "systemctl",
        &["disable", "--quiet", service],
    ))
    .with_context(|| {
        format!("{package} is installed, but its service would start at the next boot")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_llvm_gets_a_remedy_of_its_own() {
        assert!(remedy("llvm-99-dev").contains("LLVM project"));
        assert!(!remedy("curl").contains("LLVM"));
    }
}
