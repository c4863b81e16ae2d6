//! `clawctl run` and `clawctl exec`: a command in a sandbox, with these streams and these signals.

mod descriptors;
mod detach;
mod relay;
mod session;
mod signals;
mod streams;
mod terminal;

use std::path::{Path, PathBuf};

use clawd_control::{ExecRequest, ExitCode, Route, RunRequest, TerminalSize};
use serde::Serialize;

use crate::{
    client::Client,
    command::{ExecCommand, RunCommand},
    failure::Failure,
    policy,
};

use self::{
    session::{Attached, Kind, Session},
    signals::Signals,
    streams::Streams,
    terminal::Awaited,
};

/// The policy where none is named.
const DEFAULT_POLICY: &str = "/etc/clawd/policies/default.yaml";

/// Runs the command in a sandbox of its own; returns its exit code.
///
/// # Errors
/// 2 for a wrong policy or argument, 125 to 127 where the command does not run, 137 where the
/// sandbox was killed.
pub(crate) async fn run(client: &Client, command: RunCommand, json: bool) -> Result<u8, Failure> {
    let request = request(command)?;
    if request.detach {
        return detach::start(client, &request, json).await;
    }
    let asked = Asked {
        route: Route::Run,
        terminal: request.terminal,
        kind: Kind::Run,
    };
    converse(client, &asked, &request).await
}

/// Runs the command in a sandbox that runs; returns its exit code.
///
/// # Errors
/// As [`run`].
pub(crate) async fn exec(client: &Client, command: ExecCommand) -> Result<u8, Failure> {
    let request = ExecRequest {
        command: command.command,
        env: command.env,
        terminal: size(command.terminal)?,
    };
    // Whether the policy gives leave is for clawd to tell, which has it.
    let named = request.env.iter().map(|(name, _)| name.clone()).collect();
    request
        .check(&named)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let asked = Asked {
        route: Route::Exec(command.sandbox),
        terminal: request.terminal,
        kind: Kind::Exec,
    };
    converse(client, &asked, &request).await
}

/// What is asked for, its body apart.
struct Asked {
    route: Route,
    terminal: Option<TerminalSize>,
    kind: Kind,
}

async fn converse<B: Serialize>(
    client: &Client,
    asked: &Asked,
    request: &B,
) -> Result<u8, Failure> {
    // Taken over before anything starts: a signal from now on is the command's.
    let signals = Signals::take_over(asked.terminal.is_some())?;
    let connection = client
        .upgrade(&asked.route, request)
        .await
        .map_err(as_setup)?;
    let (status_read, status_write) = descriptors::status_pipe()?;
    let attached = match asked.terminal {
        None => {
            let mut streams = Streams::prepare()?;
            descriptors::send(&connection.stream, &streams, status_write).await?;
            streams.are_handed_over();
            Attached::Streams(streams)
        }
        Some(_) => {
            let (awaited, theirs) = Awaited::pair()?;
            descriptors::send_with_terminal(&connection.stream, theirs, status_write).await?;
            Attached::Terminal(awaited)
        }
    };
    Session::new(connection, status_read, asked.kind, attached)?
        .outcome(signals)
        .await
}

/// The size of this terminal, where the command is to have one like it.
fn size(wanted: bool) -> Result<Option<TerminalSize>, Failure> {
    wanted.then(terminal::size).transpose()
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
        terminal: size(command.terminal)?,
        detach: command.detach,
    };
    request
        .check(&policy.policy.env_allow)
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
