//! The agent's directory: its script, the policy, and copies of curl to be told apart.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// The agent.
pub(super) const AGENT: &str = include_str!("../../../policies/demo/agent.sh");
/// What the agent dials with.
const DIAL: &str = include_str!("../../../policies/demo/dial.py");
/// The policy, for an agent in [`AGENT_DIR`].
pub(super) const POLICY: &str = include_str!("../../../policies/demo/demo.yaml");

/// Where the policy as shipped has the agent's directory.
const AGENT_DIR: &str = "/opt/agent";
const CURL: &str = "/usr/bin/curl";
/// Starts another program in its own place.
const ENV: &str = "/usr/bin/env";
/// What the policy lists by its path.
const TOOL: &str = "tools/tool";
/// A byte of the ELF header that is padding (`e_ident[15]`, gABI 4.1): the copy runs as before.
const PADDING_OFFSET: usize = 15;

/// The directory, filled.
pub(super) struct Workload {
    dir: PathBuf,
    policy: String,
}

impl Workload {
    /// Fills `dir`, an empty directory.
    ///
    /// # Errors
    /// Something cannot be read or written.
    pub(super) fn write(dir: PathBuf) -> anyhow::Result<Self> {
        let place = dir.to_str().context("the directory is not UTF-8")?;
        ensure!(
            POLICY.contains(&format!("{AGENT_DIR}]")),
            "demo.yaml does not end a list with {AGENT_DIR}"
        );
        let policy = POLICY.replace(AGENT_DIR, place);
        let env = fs::read(ENV).with_context(|| format!("cannot read {ENV}"))?;
        let curl = fs::read(CURL).with_context(|| format!("cannot read {CURL}"))?;
        let tools = dir.join("tools");
        fs::create_dir(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
        fs::set_permissions(&tools, fs::Permissions::from_mode(0o755))?;
        write(&tools.join("fetch"), &curl, 0o755)?;
        write(&tools.join("fetch-changed"), &changed(&curl)?, 0o755)?;
        write(&tools.join("fetch-later"), &curl, 0o755)?;
        write(&tools.join("driver"), &env, 0o755)?;
        write(&dir.join(TOOL), &longer(&curl, b"1"), 0o755)?;
        write(&dir.join("agent.sh"), AGENT.as_bytes(), 0o755)?;
        write(&dir.join("dial.py"), DIAL.as_bytes(), 0o644)?;
        write(&dir.join("demo.yaml"), policy.as_bytes(), 0o644)?;
        Ok(Self { dir, policy })
    }

    /// Puts another program in the place of the one that the policy lists by its path, as an update
    /// does.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn replace_tool(&self) -> anyhow::Result<()> {
        let curl = fs::read(CURL).with_context(|| format!("cannot read {CURL}"))?;
        let update = self.dir.join("tools/update");
        write(&update, &longer(&curl, b"2"), 0o755)?;
        fs::rename(&update, self.dir.join(TOOL)).context("cannot replace the listed tool")
    }

    /// Where the agent is to be started.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The policy as it is in the directory.
    pub(super) fn policy(&self) -> &str {
        &self.policy
    }

    /// The file behind a program's name in the agent's reports.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn file(&self, program: &Path) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(program);
        path.canonicalize()
            .with_context(|| format!("there is no program {}", path.display()))
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The program with something behind its end, where no loader looks.
fn longer(program: &[u8], more: &[u8]) -> Vec<u8> {
    [program, more].concat()
}

/// The program with one byte changed that does not matter to it.
fn changed(program: &[u8]) -> anyhow::Result<Vec<u8>> {
    ensure!(
        program.starts_with(b"\x7fELF"),
        "{CURL} is not an ELF program"
    );
    let mut changed = program.to_vec();
    let byte = changed
        .get_mut(PADDING_OFFSET)
        .with_context(|| format!("{CURL} has no ELF header"))?;
    *byte ^= 1;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_program_differs_in_one_byte() {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        let changed = changed(&program).unwrap();
        let differences = program.iter().zip(&changed).filter(|(a, b)| a != b).count();
        assert_eq!((changed.len(), differences), (program.len(), 1));
    }

    #[test]
    fn program_that_is_no_elf_file_is_refused() {
        assert!(changed(b"#!/bin/sh\n").is_err());
        assert!(changed(b"\x7fELF").is_err());
    }
}
