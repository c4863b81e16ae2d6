//! What apt is asked: from the machine's own package lists, or from lists kept apart from them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::process;

/// Apt with one set of package lists.
pub(super) struct Apt {
    /// A file read on top of the machine's configuration.
    configuration: Option<PathBuf>,
    /// What renews the lists, for messages.
    renewal: String,
}

impl Apt {
    /// Apt as the machine has it configured.
    pub(super) fn of_this_machine() -> Self {
        Self {
            configuration: None,
            renewal: "run `apt-get update`".to_owned(),
        }
    }

    /// Apt with the lists that the file `configuration` names; `renewal` says what renews them.
    pub(super) fn configured_by(configuration: PathBuf, renewal: String) -> Self {
        Self {
            configuration: Some(configuration),
            renewal,
        }
    }

    /// Fetches the package lists anew.
    ///
    /// # Errors
    /// A list cannot be had, or its signature does not hold; apt has told which on standard error.
    pub(super) fn update(&self) -> anyhow::Result<()> {
        process::run(&mut self.command("apt-get", &["-q", "update"]))
    }

    /// The packages whose names match the regular expression `pattern`, a line for each that
    /// begins with the name.
    ///
    /// # Errors
    /// apt does not run, or cannot read its configuration or lists.
    pub(super) fn search(&self, pattern: &str) -> anyhow::Result<String> {
        process::output(&mut self.command("apt-cache", &["search", "--names-only", pattern]))
    }

    /// The package lists that are here, each as one line of the form `format`.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub(super) fn index_targets(&self, format: &str) -> anyhow::Result<String> {
        process::output(&mut self.command("apt-get", &["indextargets", "--format", format]))
    }

    /// The version of `package` that apt would install.
    ///
    /// # Errors
    /// As [`Self::search`], or there is none.
    pub(super) fn candidate_version(&self, package: &str) -> anyhow::Result<String> {
        let shown = process::output(
            &mut self.command("apt-cache", &["show", "--no-all-versions", package]),
        )?;
        let version = shown
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        version
            .map(str::to_owned)
            .with_context(|| format!("apt shows no version of {package}"))
    }

    /// Fetches the package file of `wanted`, written `name=version`, into `directory`.
    ///
    /// # Errors
    /// It cannot be had; the text says how to renew the lists that named it.
    pub(super) fn download(&self, wanted: &str, directory: &Path) -> anyhow::Result<()> {
        // As root, apt would fetch as a user of its own that may not write here.
        let arguments = ["-qq", "-o", "APT::Sandbox::User=root", "download", wanted];
        let mut command = self.command("apt-get", &arguments);
        process::run(command.current_dir(directory)).with_context(|| {
            format!(
                "cannot fetch {wanted}; if the package lists are old, {}",
                self.renewal
            )
        })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = process::command(program, &[]);
        if let Some(configuration) = &self.configuration {
            command.arg("-c").arg(configuration);
        }
        command.args(arguments);
        command
    }
}
