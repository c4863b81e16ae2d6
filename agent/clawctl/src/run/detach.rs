//! `clawctl run --detach`: a sandbox that goes on without clawctl.

use clawd_control::{ExitCode, Route, RunEvent, RunRequest, SandboxName, limits};
use serde::Serialize;
use tokio::io::AsyncReadExt as _;

use super::{as_setup, descriptors, session::start_code};
use crate::{
    client::{Client, RunConnection},
    failure::Failure,
    lines::{Lines, TooLong},
    output::{json as to_json, print},
    policy,
};

/// What is printed of a sandbox that was started.
#[derive(Debug, Serialize)]
struct Detached {
    sandbox: SandboxName,
    pid: u32,
}

/// Starts the sandbox and prints its name; with `json` as `{"sandbox":...,"pid":...}`.
pub(super) async fn start(
    client: &Client,
    request: &RunRequest,
    json: bool,
) -> Result<u8, Failure> {
    let connection = client
        .upgrade(&Route::Run, request)
        .await
        .map_err(as_setup)?;
    // clawd keeps the exit status itself, for whoever waits.
    let (_status, status_write) = descriptors::status_pipe()?;
    descriptors::send_detached(&connection.stream, status_write).await?;
    let detached = started(connection).await?;
    print(&if json {
        to_json(&detached)
    } else {
        detached.sandbox.to_string()
    })?;
    Ok(ExitCode::Ok.code())
}

/// What clawd says of the start.
async fn started(connection: RunConnection) -> Result<Detached, Failure> {
    let RunConnection { mut stream, read } = connection;
    let mut lines = Lines::new(limits::LINE_BYTES);
    let mut bytes = read.to_vec();
    loop {
        let complete = lines
            .push(&bytes)
            .map_err(|TooLong| Failure::setup("clawd sent a message without end"))?;
        if let Some(line) = complete.first() {
            return told(line);
        }
        bytes.resize(4096, 0);
        let count = stream.read(&mut bytes).await.unwrap_or(0);
        if count == 0 {
            return Err(Failure::setup(
                "clawd closed the connection before the command started; see its log",
            ));
        }
        bytes.truncate(count);
    }
}

fn told(line: &[u8]) -> Result<Detached, Failure> {
    let event = serde_json::from_slice(line).map_err(|error| {
        Failure::setup(format!(
            "clawd sent a message that is not understood: {error}"
        ))
    })?;
    match event {
        RunEvent::Started {
            sandbox,
            pid,
            warnings,
        } => {
            policy::warn(&warnings);
            Ok(Detached { sandbox, pid })
        }
        RunEvent::Failed { exit_code, message } => {
            Err(Failure::setup(message).with_code(start_code(exit_code)))
        }
    }
}
