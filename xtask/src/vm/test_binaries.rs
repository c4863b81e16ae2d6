//! The kernel tests' binaries, as Cargo builds them.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::{process, workspace};

/// Compiles the kernel tests with the profile that everything else has, and returns the binaries.
///
/// # Errors
/// Cargo fails, or there is no test binary.
pub(super) fn build() -> anyhow::Result<Vec<PathBuf>> {
    let package = workspace::KERNEL_TESTS_PACKAGE;
    let arguments = [
        "test",
        "--release",
        "--locked",
        "--no-run",
        "-p",
        package,
        "--message-format=json-render-diagnostics",
    ];
    let mut command = process::cargo(&arguments);
    command.stderr(std::process::Stdio::inherit());
    let messages = process::output(&mut command)?;
    let binaries = executables(&messages)?;
    if binaries.is_empty() {
        bail!("package {package} has no test binary");
    }
    Ok(binaries)
}

fn executables(messages: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut executables = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line)
            .with_context(|| format!("Cargo printed what is not JSON: {line}"))?;
        let is_test = message["profile"]["test"] == true;
        if let (true, Some(path)) = (is_test, message["executable"].as_str()) {
            executables.push(PathBuf::from(path));
        }
    }
    Ok(executables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_executables_are_taken() {
        let messages = r#"{"reason":"compiler-artifact","profile":{"test":false},"executable":"/t/clawd"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":"/t/deps/demo-1"}
{"reason":"compiler-artifact","profile":{"test":true},"executable":null}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(
            executables(messages).unwrap(),
            [PathBuf::from("/t/deps/demo-1")]
        );
        assert!(executables("warning: text").is_err());
    }
}
