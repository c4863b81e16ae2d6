//! The table of everything that set-up installs, with the reason and the evidence of its presence.

use std::path::{Path, PathBuf};

use super::rust;

/// What an item is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// To compile the workspace with its eBPF object.
    Build,
    /// For the programs that the demo and the kernel tests run.
    Demo,
    /// To test on other file systems and kernels, to fuzz, and to measure against bubblewrap.
    Vm,
}

/// One thing to install.
pub(super) struct Item {
    /// Who needs it.
    pub(super) group: Group,
    /// What it is.
    pub(super) kind: Kind,
    /// What for, as shown before it is installed.
    pub(super) why: &'static str,
}

/// How an item is installed.
pub(super) enum Kind {
    /// A Debian package, which is there if the file is.
    Package { name: String, file: PathBuf },
    /// A component of the Rust toolchain, which is there if the file is.
    Component { name: &'static str, file: PathBuf },
    /// `bpf-linker`, which is there if the program says its version.
    BpfLinker { llvm_major: u32 },
}

type Row = (Group, &'static str, &'static str, &'static str);

/// Debian packages whose names do not depend on LLVM's version: group, name, a file of it, reason.
const PACKAGES: &[Row] = &[
    (Group::Build, "gcc", "/usr/bin/gcc", "links Rust programs"),
    (
        Group::Build,
        "libc6-dev",
        "/usr/include/stdlib.h",
        "links Rust programs",
    ),
    (
        Group::Build,
        "zlib1g-dev",
        "/usr/include/zlib.h",
        "bpf-linker links LLVM, which needs it",
    ),
    (
        Group::Build,
        "libzstd-dev",
        "/usr/include/zstd.h",
        "bpf-linker links LLVM, which needs it",
    ),
    (
        Group::Demo,
        "nginx-light",
        "/usr/sbin/nginx",
        "the web server of the demo and the tests; its service is not started",
    ),
    (
        Group::Demo,
        "curl",
        "/usr/bin/curl",
        "a program that the demo and the tests confine",
    ),
    (
        Group::Demo,
        "python3",
        "/usr/bin/pydoc3",
        "a program that the demo and the tests confine",
    ),
    (
        Group::Demo,
        "iproute2",
        "/usr/sbin/ip",
        "makes the network namespaces of the demo and the tests",
    ),
    (
        Group::Demo,
        "netbase",
        "/etc/services",
        "the names of protocols and services, which the tests look up",
    ),
    (
        Group::Demo,
        "git",
        "/usr/bin/git",
        "a program that the tests confine, and its server",
    ),
    (
        Group::Demo,
        "openssh-client",
        "/usr/bin/ssh",
        "a program that the tests confine",
    ),
    (
        Group::Demo,
        "openssh-server",
        "/usr/sbin/sshd",
        "the server that the tests' ssh and git talk to; its service is not started",
    ),
    (
        Group::Demo,
        "openssl",
        "/usr/bin/openssl",
        "makes the certificates of the tests' servers",
    ),
    (
        Group::Demo,
        "make",
        "/usr/bin/make",
        "a program that the tests and the bench confine",
    ),
    (
        Group::Demo,
        "python3-venv",
        // None of its files has a name that stays from release to release.
        "/var/lib/dpkg/info/python3-venv.list",
        "the tests install a package with pip into a virtual environment",
    ),
    (
        Group::Demo,
        "nodejs",
        "/usr/bin/node",
        "a program that the tests confine",
    ),
    (
        Group::Demo,
        "npm",
        "/usr/bin/npm",
        "a program that the tests confine; not installed where node's package brings it",
    ),
    (
        Group::Vm,
        "bubblewrap",
        "/usr/bin/bwrap",
        "the start-up time that ours is measured against",
    ),
    (
        Group::Vm,
        "e2fsprogs",
        "/usr/sbin/mkfs.ext4",
        "makes file systems that the tests execute programs from",
    ),
    (
        Group::Vm,
        "xfsprogs",
        "/usr/sbin/mkfs.xfs",
        "makes file systems that the tests execute programs from",
    ),
    (
        Group::Vm,
        "btrfs-progs",
        "/usr/sbin/mkfs.btrfs",
        "makes file systems that the tests execute programs from",
    ),
    (
        Group::Vm,
        "bindfs",
        "/usr/bin/bindfs",
        "serves a FUSE file system that the tests execute programs from",
    ),
    (
        Group::Vm,
        "g++",
        "/usr/bin/g++",
        "compiles libFuzzer, which drives the fuzz targets",
    ),
    (
        Group::Vm,
        "qemu-system-x86",
        "/usr/bin/qemu-system-x86_64",
        "boots the kernels that the tests run on",
    ),
    (
        Group::Vm,
        "busybox-static",
        "/usr/bin/busybox",
        "starts and stops the virtual machines",
    ),
    (
        Group::Vm,
        "cpio",
        "/usr/bin/cpio",
        "packs the virtual machines' file system",
    ),
    (
        Group::Vm,
        "kmod",
        "/usr/sbin/depmod",
        "finds the order in which kernel modules load",
    ),
    (
        Group::Vm,
        "xz-utils",
        "/usr/bin/xz",
        "unpacks kernel modules",
    ),
];

/// Components that `rust-toolchain.toml` lists: name, a file of it below the sysroot, reason.
const COMPONENTS: &[(&str, &str, &str)] = &[
    (
        "rust-src",
        "lib/rustlib/src/rust/library/core/Cargo.toml",
        "compiles `core` for the kernel's eBPF machine",
    ),
    ("clippy", "bin/cargo-clippy", "lints"),
    ("rustfmt", "bin/rustfmt", "checks the formatting"),
];

/// Every item, for the LLVM that `rustc` was built with.
///
/// # Errors
/// `rustc` cannot tell where its toolchain is.
pub(super) fn all(llvm_major: u32) -> anyhow::Result<Vec<Item>> {
    let package = |&(group, name, file, why): &Row| Item {
        group,
        kind: Kind::Package {
            name: name.to_owned(),
            file: PathBuf::from(file),
        },
        why,
    };
    let mut items: Vec<Item> = PACKAGES.iter().map(package).collect();
    items.extend(llvm_packages(llvm_major));
    let sysroot = rust::sysroot()?;
    items.extend(COMPONENTS.iter().map(|&(name, file, why)| Item {
        group: Group::Build,
        kind: Kind::Component {
            name,
            file: sysroot.join(file),
        },
        why,
    }));
    items.push(Item {
        group: Group::Build,
        kind: Kind::BpfLinker { llvm_major },
        why: "links the eBPF object; compiled here, against the LLVM that fits rustc",
    });
    Ok(items)
}

fn llvm_packages(llvm_major: u32) -> [Item; 2] {
    let lib = PathBuf::from(format!("/usr/lib/llvm-{llvm_major}/lib"));
    let item = |name: &str, file: &str| Item {
        group: Group::Build,
        kind: Kind::Package {
            name: format!("{name}-{llvm_major}-dev"),
            file: lib.join(file),
        },
        why: "bpf-linker links rustc's version of LLVM",
    };
    [item("llvm", "libLLVM.so"), item("libpolly", "libPolly.a")]
}

// === impl Item ===

impl Item {
    /// The name that its installer knows it by.
    pub(super) fn name(&self) -> String {
        match &self.kind {
            Kind::Package { name, .. } => name.clone(),
            Kind::Component { name, .. } => format!("rust component {name}"),
            Kind::BpfLinker { .. } => format!("bpf-linker {}", rust::BPF_LINKER_VERSION),
        }
    }

    /// Whether it has to be installed.
    pub(super) fn is_missing(&self) -> bool {
        match &self.kind {
            Kind::Package { file, .. } | Kind::Component { file, .. } => !file.exists(),
            Kind::BpfLinker { llvm_major } => !rust::has_bpf_linker(*llvm_major),
        }
    }

    /// What shows that it is there.
    pub(super) fn evidence(&self) -> String {
        match &self.kind {
            Kind::Package { file, .. } | Kind::Component { file, .. } => {
                Path::display(file).to_string()
            }
            Kind::BpfLinker { llvm_major } => {
                format!("a bpf-linker in PATH that links LLVM {llvm_major}")
            }
        }
    }

    /// Its name, if it is a Debian package.
    pub(super) fn package(&self) -> Option<&str> {
        match &self.kind {
            Kind::Package { name, .. } => Some(name),
            Kind::Component { .. } | Kind::BpfLinker { .. } => None,
        }
    }

    /// Its name, if it is a component of the Rust toolchain.
    pub(super) fn component(&self) -> Option<&str> {
        match &self.kind {
            Kind::Component { name, .. } => Some(name),
            Kind::Package { .. } | Kind::BpfLinker { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_those_of_the_toolchain_file() {
        let path = crate::workspace::root().join("rust-toolchain.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("components"))
            .unwrap();
        for (name, ..) in COMPONENTS {
            assert!(line.contains(&format!("\"{name}\"")), "{name}");
        }
        assert_eq!(line.matches('"').count(), 2 * COMPONENTS.len(), "{line}");
    }

    #[test]
    fn llvm_packages_follow_the_version_of_rustc() {
        let names = llvm_packages(23).map(|item| item.name());
        assert_eq!(names, ["llvm-23-dev", "libpolly-23-dev"]);
    }

    #[test]
    fn item_with_an_absent_file_is_missing() {
        let kind = Kind::Package {
            name: "a".to_owned(),
            file: PathBuf::from("/nonexistent/file"),
        };
        assert!(
            Item {
                group: Group::Demo,
                kind,
                why: ""
            }
            .is_missing()
        );
    }
}
