//! `clawctl run`: a command in a sandbox, with this terminal and these signals.

mod descriptors;
mod session;
mod signals;

use std::path::{Path, PathBuf};

use clawd_control::{ExitCode, RunRequest};

use crate::{client::Client, command::RunCommand, failure::Failure, policy};

use self::{session::Session, signals::Signals};

/// The policy where none is named.
const DEFAULT_POLICY: &str = "/etc/clawd/policies/default.yaml";

/// Runs the command; returns its exit code.
///
/// # Errors
/// 2 for a wrong policy or argument, 125 to 127 where the command does not run, 137 where the
/// sandbox was killed.
pub(crate) async fn run(client: &Client, command: RunCommand) -> Result<u8, Failure> {
    let request = request(command)?;
    // Taken over before anything starts: a signal from now on is the sandbox's.
    let signals = Signals::take_over()?;
    let connection = client.upgrade(&request).await.map_err(as_setup)?;
    let (status_read, status_write) = descriptors::status_pipe()?;
    descriptors::send(&connection.stream, status_write).await?;
    Session::new(connection, status_read)?
        .outcome(signals)
        .await
}

/// Whatever keeps a sandbox from being set up has one exit code; those that clawd gives stand.
fn as_setup(failure: Failure) -> Failure {
    if failure.code == ExitCode::Failed.code() {
        return failure.with_code(ExitCode::Setup);
    }
    failure
}

fn request(command: RunCommand) -> Result<RunRequest, Failure> {
    let file = policy_file(command.policy, Path::new(DEFAULT_POLICY))?;
    let policy = policy::read(&file)?;
    policy::warn(&policy.warnings);
    let cwd = std::env::current_dir()
        .map_err(|error| Failure::setup(format!("cannot tell the current directory: {error}")))?;
    let request = RunRequest {
        name: command.name,
        policy: policy.source,
        command: command.command,
        env: command.env,
        cwd: utf8(cwd)?,
        workspace: command.workspace.map(workspace).transpose()?,
        network: command.network,
        user: command.user,
    };
    request
        .check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(request)
}

/// The policy named, or the default one if it exists.
fn policy_file(named: Option<PathBuf>, default: &Path) -> Result<PathBuf, Failure> {
    match named {
        Some(file) => Ok(file),
        None if default.exists() => Ok(default.to_owned()),
        None => Err(Failure::usage(format!(
            "no policy: give one with `--policy FILE`, or make {}",
            default.display()
        ))),
    }
}

/// The directory's real path, so that a link changed later leads nowhere else.
fn workspace(typed: PathBuf) -> Result<String, Failure> {
    let shown = typed.display();
    let path = typed
        .canonicalize()
        .map_err(|error| Failure::usage(format!("cannot use workspace {shown}: {error}")))?;
    if !path.is_dir() {
        return Err(Failure::usage(format!(
            "workspace {shown} is not a directory"
        )));
    }
    utf8(path)
}

fn utf8(path: PathBuf) -> Result<String, Failure> {
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::usage(format!("path {} is not UTF-8; rename it", path.display())))
}

#[cfg(test)]
mod tests;
