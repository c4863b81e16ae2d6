//! The host's C compiler, with as much of it as small programs need.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use super::tree::{Tree, inside};
use crate::process;

const GCC: &str = "/usr/bin/gcc";
/// What gcc starts, by the name that it looks for.
const STAGES: [&str; 2] = ["cc1", "collect2"];
/// What these start in turn.
const TOOLS: [&str; 2] = ["/usr/bin/as", "/usr/bin/ld"];
/// What they read to link a program.
const LINKED: [&str; 11] = [
    "Scrt1.o",
    "crti.o",
    "crtn.o",
    "crtbeginS.o",
    "crtendS.o",
    "libc.so",
    "libc_nonshared.a",
    "libgcc.a",
    "libgcc_s.so",
    "libgcc_s.so.1",
    "liblto_plugin.so",
];
/// The headers that programs of the tests include.
const HEADERS: &str = "#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
";

/// Adds it at the paths that it has on the host.
///
/// # Errors
/// gcc does not know its parts, or one of them cannot be copied.
pub(super) fn add(tree: &mut Tree) -> anyhow::Result<()> {
    tree.copy_linked(Path::new(GCC), &inside(Path::new(GCC)))?;
    for tool in TOOLS.map(Path::new) {
        tree.copy_linked(tool, &inside(tool))?;
    }
    for stage in STAGES {
        let path = ask("-print-prog-name", stage)?;
        tree.copy_linked(&path, &inside(&path))?;
    }
    for name in LINKED {
        let path = ask("-print-file-name", name)?;
        if name == "liblto_plugin.so" {
            tree.copy_linked(&path, &inside(&path))?;
        } else {
            tree.copy(&path, &inside(&path))?;
        }
    }
    for header in headers()? {
        tree.copy(&header, &inside(&header))?;
    }
    Ok(())
}

/// Where gcc finds a part of its own, without the dots that it writes.
fn ask(question: &str, name: &str) -> anyhow::Result<PathBuf> {
    let argument = format!("{question}={name}");
    let answer = process::output(&mut process::command(GCC, &[&argument]))?;
    let path = PathBuf::from(answer.trim());
    if !path.is_absolute() {
        bail!("gcc has no {name}; install Debian's gcc and libc6-dev");
    }
    Ok(without_dots(&path))
}

/// Takes `..` away together with the name before it: gcc writes them behind folders, never links.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path {
        if part == ".." {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

/// The headers, with all that they include where a program is optimised.
fn headers() -> anyhow::Result<Vec<PathBuf>> {
    let mut child = process::command(GCC, &["-M", "-O1", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gcc")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(HEADERS.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("gcc cannot find headers; install Debian's libc6-dev");
    }
    Ok(listed(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads the rule for make that `gcc -M` writes.
fn listed(rule: &str) -> Vec<PathBuf> {
    let words = rule.split_whitespace();
    let paths = words.filter(|word| word.starts_with('/'));
    paths.map(|path| without_dots(Path::new(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_from_a_rule_for_make() {
        let rule = "-.o: - /usr/include/stdio.h \\\n /usr/lib/gcc/12/../../a.h\n";
        let paths = ["/usr/include/stdio.h", "/usr/lib/a.h"].map(PathBuf::from);
        assert_eq!(listed(rule), paths);
    }
}
