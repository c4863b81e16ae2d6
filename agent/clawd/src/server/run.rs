//! `POST /v1/sandboxes`: the request, then the connection that it becomes.

use std::sync::Arc;

use clawd_control::{
    ApiError, ClientMessage, ExitCode, RunEvent, RunRequest, SandboxName, limits,
    run::FORWARDED_SIGNALS,
};
use clawd_sandbox::Descriptors;
use clawd_sys::passing::Peer;
use hyper::{Request, Response, body::Incoming, upgrade::OnUpgrade};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::unix::OwnedReadHalf,
    sync::Semaphore,
};

use super::{body::Body, upgrade};
use crate::{
    launch::{LaunchError, Launched, launch},
    plan::{Plan, plan},
    sandboxes::{Live, Shared},
    starts::Reserved,
    stop,
};

/// Sandboxes that start at the same time; further ones wait. A start takes milliseconds, and each has
/// the exec gate do something before the next question: with all of a thousand at once the gate would
/// not come to say in time that it is well. Some may read large files first, and must not hold up all.
static LAUNCHES: Semaphore = Semaphore::const_new(16);

/// Plans the run and turns the connection over to it.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, ApiError> {
    let upgraded = upgrade::asked(&mut request)?;
    let run: RunRequest = super::read_json(request).await?;
    let (wanted, detached) = (run.name.clone(), run.detach);
    let planned = super::blocking(move || plan(&run, peer)).await?;
    let reserved = reserve(&shared, wanted)?;
    let caller = Caller { upgraded, detached };
    tokio::spawn(converse(shared, caller, planned, reserved));
    Ok(upgrade::granted())
}

/// The name that was asked for, or the first free one.
fn reserve(shared: &Arc<Shared>, wanted: Option<SandboxName>) -> Result<Reserved, ApiError> {
    if let Some(name) = wanted {
        return shared.reserve(name);
    }
    let mut number = 1_u32;
    loop {
        let name = SandboxName::new(format!("sandbox-{number}"))
            .map_err(|error| ApiError::new(ExitCode::Failed, error.to_string()))?;
        match shared.reserve(name) {
            Ok(reserved) => return Ok(reserved),
            Err(error) if number == u32::MAX => return Err(error),
            Err(_taken) => number += 1,
        }
    }
}

/// Who asked for a run.
struct Caller {
    upgraded: OnUpgrade,
    /// Whether the sandbox goes on without it.
    detached: bool,
}

/// The connection after the upgrade.
async fn converse(shared: Arc<Shared>, caller: Caller, planned: Plan, reserved: Reserved) {
    let with_terminal = planned.spec.terminal.is_some();
    let taken = tokio::select! {
        taken = upgrade::taken(caller.upgraded, with_terminal) => taken,
        // Who has not sent its descriptors yet hangs up.
        () = reserved.cancelled() => None,
    };
    let Some((stream, descriptors)) = taken else {
        return;
    };
    let name = reserved.name.clone();
    let descriptors = if caller.detached {
        match shared.ends.make(name.as_str()) {
            Ok(status) => Descriptors {
                status: status.into(),
                ..descriptors
            },
            Err(error) => {
                tracing::error!(sandbox = %name, %error, "a detached sandbox has nowhere to tell its end");
                return;
            }
        }
    } else {
        descriptors
    };
    let work = {
        let shared = Arc::clone(&shared);
        move || {
            let launched = launch(&shared, &reserved, planned, descriptors);
            (launched, reserved)
        }
    };
    let launching = LAUNCHES.acquire().await;
    let Ok((launched, reserved)) = tokio::task::spawn_blocking(work).await else {
        return;
    };
    drop(launching);
    let (reader, mut writer) = stream.into_split();
    let event = match &launched {
        Ok(launched) => RunEvent::Started {
            sandbox: name.clone(),
            pid: launched.live.state().init_pid,
            warnings: launched.warnings.clone(),
        },
        Err(error) => failed(error),
    };
    let Ok(Launched { live, .. }) = launched else {
        drop(reserved);
        drop(upgrade::tell(&mut writer, &event).await);
        return;
    };
    shared.enter(reserved, Arc::clone(&live));
    // A caller that is gone already shows when its side is read.
    drop(upgrade::tell(&mut writer, &event).await);
    if caller.detached {
        return;
    }
    // clawctl has the exit status from the sandbox itself and waits for this end: afterwards the
    // name is free and nothing is left.
    tokio::select! {
        () = live.cleared() => {}
        () = listen(&live, reader) => {}
    }
}

fn failed(error: &LaunchError) -> RunEvent {
    RunEvent::Failed {
        exit_code: error.exit_code(),
        message: crate::explain(error),
    }
}

/// Forwards signals; when the caller hangs up, its sandbox ends.
async fn listen(live: &Arc<Live>, reader: OwnedReadHalf) {
    let mut reader = BufReader::new(reader);
    while let Some(ClientMessage::Signal { signal }) = message(&mut reader).await {
        if !FORWARDED_SIGNALS.contains(&signal) {
            break;
        }
        forward(live, signal);
    }
    let name = live.state().name.clone();
    if let Err(error) = stop::stop_live(&name, Arc::clone(live)).await {
        tracing::debug!(sandbox = %name, error = error.error.message, "a sandbox had ended before its caller hung up");
    }
}

/// The caller's next message; `None` once it has hung up, or says what is not understood.
pub(super) async fn message(reader: &mut BufReader<OwnedReadHalf>) -> Option<ClientMessage> {
    let mut line = Vec::new();
    let limit = u64::try_from(limits::LINE_BYTES).unwrap_or(u64::MAX);
    match reader.take(limit).read_until(b'\n', &mut line).await {
        Ok(read) if read > 0 && line.ends_with(b"\n") => serde_json::from_slice(&line).ok(),
        _ => None,
    }
}

/// Signals the sandbox's first process, which hands it to the command.
fn forward(live: &Live, signal: i32) {
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal)
        && let Err(error) = rustix::process::pidfd_send_signal(&live.pidfd, signal)
    {
        tracing::debug!(%error, "a signal came too late");
    }
}
