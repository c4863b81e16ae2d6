//! The initial file system of a machine: the same base for all, then one kernel's modules.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use super::kernel::Kernel;
use super::tree::{Tree, inside};
use super::{compiler, contents, modules};
use crate::{process, workspace};

/// An archive with everything but modules.
pub(super) struct Base(PathBuf);

/// Where in the archive the later root file system is; see `init.sh`.
const IMAGE: &str = "image";

const TEST_THREADS: &str = "--test-threads=2";

/// Packs programs, `clawd`, and the tests with their arguments.
///
/// # Errors
/// A program is not on this host, or the image cannot be written.
pub(super) fn base(
    directory: &Path,
    tests: &[PathBuf],
    test_arguments: &[String],
) -> anyhow::Result<Base> {
    let root = directory.join("tree");
    let outer = Tree::new(&root)?;
    outer.directory("newroot")?;
    outer.copy(Path::new("/usr/bin/busybox"), "busybox")?;
    outer.write("init", include_str!("init.sh"), 0o755)?;

    let mut tree = Tree::new(&root.join(IMAGE))?;
    add_debian(&mut tree)?;
    add_clawd(&mut tree, tests)?;
    tree.write(
        "opt/clawd/test-arguments",
        &arguments_file(test_arguments),
        0o644,
    )?;
    tree.write("usr/sbin/clawd-vm-start", include_str!("start.sh"), 0o755)?;
    tree.copy_libraries()?;
    add_busybox(&tree)?;

    let archive = directory.join("base.cpio");
    outer.pack(&archive)?;
    Ok(Base(archive))
}

/// Appends the modules of `kernel` to `base`; the kernel reads archives one after the other.
///
/// # Errors
/// A module cannot be found or unpacked, or the image cannot be written.
pub(super) fn with_modules(
    base: &Base,
    kernel: &Kernel,
    directory: &Path,
) -> anyhow::Result<PathBuf> {
    let tree = Tree::new(&directory.join("tree"))?;
    let inside = format!("{IMAGE}/usr/lib/clawd-modules");
    let place = tree.directory(&inside)?;
    let mut order = String::new();
    for module in modules::load_order(&kernel.modules)? {
        let name = unpack_module(&module, &place)?;
        order.push_str(&name);
        order.push('\n');
    }
    tree.write(&format!("{inside}/order"), &order, 0o644)?;
    let archive = directory.join("modules.cpio");
    tree.pack(&archive)?;

    let initrd = directory.join("initrd");
    let mut output =
        File::create(&initrd).with_context(|| format!("cannot write {}", initrd.display()))?;
    for part in [&base.0, &archive] {
        io::copy(&mut File::open(part)?, &mut output)
            .with_context(|| format!("cannot copy {}", part.display()))?;
    }
    Ok(initrd)
}

fn add_debian(tree: &mut Tree) -> anyhow::Result<()> {
    for directory in contents::EMPTY_DIRECTORIES {
        tree.directory(directory)?;
    }
    for (inside, target) in contents::LINKS {
        tree.link(inside, target)?;
    }
    for (inside, text) in contents::WRITTEN {
        tree.write(inside, text, 0o644)?;
    }
    for file in contents::FILES
        .iter()
        .map(Path::new)
        .filter(|file| file.exists())
    {
        tree.copy(file, &inside(file))?;
    }
    for directory in contents::DIRECTORIES {
        tree.copy_directory(Path::new(directory), &[])?;
    }
    for program in contents::PROGRAMS {
        tree.copy_linked(Path::new(program), &inside(Path::new(program)))?;
    }
    for program in contents::PROGRAMS_IF_ANY
        .iter()
        .map(Path::new)
        .filter(|program| program.exists())
    {
        tree.copy_linked(program, &inside(program))?;
    }
    compiler::add(tree)?;
    add_python(tree)
}

/// Debian's Python, not one that comes first in `PATH`.
fn add_python(tree: &mut Tree) -> anyhow::Result<()> {
    let python = fs::canonicalize("/usr/bin/python3").context("cannot find /usr/bin/python3")?;
    let name = python
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    tree.copy_linked(&python, &inside(&python))?;
    tree.link("usr/bin/python3", &name)?;
    tree.copy_directory(
        &Path::new("/usr/lib").join(&name),
        contents::PYTHON_LEFT_OUT,
    )
}

fn add_clawd(tree: &mut Tree, tests: &[PathBuf]) -> anyhow::Result<()> {
    for name in ["clawd", "clawctl"] {
        tree.copy_linked(
            &workspace::release_dir().join(name),
            &format!("opt/clawd/{name}"),
        )?;
    }
    for test in tests {
        let name = test.file_name().unwrap_or_default().to_string_lossy();
        tree.copy_linked(test, &format!("opt/clawd/tests/{name}"))?;
    }
    Ok(())
}

/// Adds busybox under each of its names that no real program has.
fn add_busybox(tree: &Tree) -> anyhow::Result<()> {
    let busybox = Path::new("/usr/bin/busybox");
    tree.copy(busybox, "usr/bin/busybox")?;
    let names = process::output(&mut process::command("/usr/bin/busybox", &["--list"]))?;
    let taken: Vec<&str> = contents::PROGRAMS
        .iter()
        .filter_map(|program| program.rsplit('/').next())
        .collect();
    for name in names.lines().filter(|name| !taken.contains(name)) {
        tree.link(&format!("usr/bin/{name}"), "busybox")?;
    }
    Ok(())
}

/// One argument a line, as `start.sh` reads them.
fn arguments_file(arguments: &[String]) -> String {
    let sets_threads = arguments
        .iter()
        .any(|argument| argument.starts_with("--test-threads"));
    let default = if sets_threads {
        None
    } else {
        Some(TEST_THREADS)
    };
    let all = default
        .into_iter()
        .chain(arguments.iter().map(String::as_str));
    all.map(|argument| format!("{argument}\n")).collect()
}

/// Puts a module, uncompressed, into `place`; returns its file name there.
fn unpack_module(module: &Path, place: &Path) -> anyhow::Result<String> {
    let name = module
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.ends_with(".ko") {
        fs::copy(module, place.join(&name))
            .with_context(|| format!("cannot copy {}", module.display()))?;
        return Ok(name);
    }
    let Some(plain) = name
        .strip_suffix(".xz")
        .filter(|plain| plain.ends_with(".ko"))
    else {
        bail!(
            "{} is compressed in a way that this does not know",
            module.display()
        );
    };
    let output = File::create(place.join(plain))?;
    let mut command = process::command("xz", &["--decompress", "--stdout"]);
    let status = command
        .arg(module)
        .stdout(Stdio::from(output))
        .status()
        .context("cannot start `xz`")?;
    if !status.success() {
        bail!("xz cannot unpack {} ({status})", module.display());
    }
    Ok(plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(arguments: &[&str]) -> Vec<String> {
        arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect()
    }

    #[test]
    fn test_threads_are_two_unless_told() {
        assert_eq!(arguments_file(&[]), "--test-threads=2\n");
        assert_eq!(
            arguments_file(&owned(&["name"])),
            "--test-threads=2\nname\n"
        );
        assert_eq!(
            arguments_file(&owned(&["--test-threads=1"])),
            "--test-threads=1\n"
        );
    }
}
