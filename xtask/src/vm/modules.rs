//! Which kernel modules a machine loads, in an order in which they load.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Modules that a usual machine loads on demand and the tests rely on; a machine here has no
/// `modprobe`. Those for odd socket families are here so that what refuses them is clawd.
const WANTED: &[&str] = &[
    "veth",  // network namespaces of the tests
    "dummy", // interfaces that lead nowhere
    "tun",   // traffic that sockets did not send
    "loop",  // file systems in files
    "ext4",  // file systems that carry identities
    "xfs",
    "btrfs",
    "overlay",
    "fuse",      // one that carries none
    "inet_diag", // destroying sockets
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "sctp",
    "vsock_loopback",
];

/// The modules of `/lib/modules/<release>` to load, each after those that it needs.
///
/// # Errors
/// `modules.dep` cannot be read, or the kernel has one of them neither as a module nor built in.
pub(super) fn load_order(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let order = order_in(&read("modules.dep")?, &read("modules.builtin")?, WANTED)?;
    Ok(order
        .into_iter()
        .map(|module| directory.join(module))
        .collect())
}

fn order_in(dependencies: &str, built_in: &str, wanted: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        let line = dependencies.lines().find_map(|line| {
            let (module, needs) = line.split_once(':')?;
            (module_name(module) == *name).then_some((module, needs))
        });
        let Some((module, needs)) = line else {
            if built_in.lines().any(|line| module_name(line) == *name) {
                continue;
            }
            bail!("the kernel has no module {name}");
        };
        // depmod lists what is needed by others last, so from the end each finds its own there.
        for path in needs.split_whitespace().rev().chain([module]) {
            if !order.iter().any(|known| known == path) {
                order.push(path.to_owned());
            }
        }
    }
    Ok(order)
}

/// `kernel/net/sctp/sctp.ko.xz` is `sctp`; files write `-` where names have `_`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/net/a.ko.xz: kernel/net/b.ko.xz kernel/lib/c-c.ko.xz
kernel/net/b.ko.xz: kernel/lib/c-c.ko.xz
kernel/lib/c-c.ko.xz:
";

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let order = order_in(DEPENDENCIES, "", &["a", "c_c", "b"]).unwrap();
        assert_eq!(
            order,
            [
                "kernel/lib/c-c.ko.xz",
                "kernel/net/b.ko.xz",
                "kernel/net/a.ko.xz"
            ]
        );
    }

    #[test]
    fn built_in_module_needs_no_loading() {
        assert!(
            order_in("", "kernel/fs/fuse/d.ko\n", &["d"])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn absent_module_is_named() {
        let error = order_in(DEPENDENCIES, "", &["e"]).unwrap_err().to_string();
        assert!(error.contains("no module e"), "{error}");
    }
}
