//! Running other programs: shown, checked, with their output read where it is needed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A command that runs in the checkout's root with no input.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(crate::workspace::root())
        .stdin(Stdio::null());
    command
}

/// Cargo, the one that runs this program, in the checkout's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&program, arguments)
}

/// Shows `command`, runs it with our output, and fails unless it succeeds.
///
/// # Errors
/// The command cannot be started, or did not exit with 0.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("+ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs `command` quietly and returns what it printed.
///
/// # Errors
/// The command cannot be started, did not exit with 0 (its standard error is in the text), or
/// printed something that is not UTF-8.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            shown(command),
            output.status,
            complaint.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed no UTF-8", shown(command)))
}

/// Shows and runs `command`; its standard output is shown line by line and handed to `on_line`.
/// Returns whether it exited with 0.
///
/// # Errors
/// The command cannot be started, or its output cannot be read.
pub(crate) fn stream(command: &mut Command, mut on_line: impl FnMut(&str)) -> anyhow::Result<bool> {
    println!("+ {}", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            on_line(text.trim_end());
            line.clear();
        }
    }
    Ok(child.wait()?.success())
}

/// The command as one would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_command_is_named_with_its_complaint() {
        let error = output(&mut command("sh", &["-c", "echo broken >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("broken"),
            "{error}"
        );
    }

    #[test]
    fn streamed_lines_arrive_without_their_line_ends() {
        let mut lines = Vec::new();
        let succeeded = stream(&mut command("printf", &["a\\r\\nb\\n"]), |line| {
            lines.push(line.to_owned())
        });
        assert!(succeeded.unwrap());
        assert_eq!(lines, ["a", "b"]);
    }
}
