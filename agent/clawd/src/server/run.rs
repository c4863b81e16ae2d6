//! `POST /v1/sandboxes`: the request, then the connection that it becomes.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use clawd_control::{
    ApiError, ClientMessage, ExitCode, RunEvent, RunRequest, SandboxName, limits,
    run::{DESCRIPTORS, DESCRIPTORS_BYTE, FORWARDED_SIGNALS, UPGRADE_PROTOCOL},
};
use clawd_sandbox::Descriptors;
use clawd_sys::passing::Peer;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, UPGRADE},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest},
    net::{UnixStream, unix::OwnedReadHalf},
};

use super::body::{Body, empty};
use crate::{
    launch::{LaunchError, Launched, launch},
    plan::{Plan, plan},
    sandboxes::{Live, Reserved, Shared},
    stop,
};

/// Plans the run and turns the connection over to it.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, ApiError> {
    let upgrade = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes() == UPGRADE_PROTOCOL.as_bytes());
    if !upgrade {
        return Err(ApiError::new(
            ExitCode::Usage,
            format!("expected `Upgrade: {UPGRADE_PROTOCOL}`"),
        ));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let run: RunRequest = super::read_json(request).await?;
    let wanted = run.name.clone();
    let planned = super::blocking(move || plan(&run, peer)).await?;
    let reserved = reserve(&shared, wanted)?;
    tokio::spawn(converse(shared, upgraded, planned, reserved));
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(UPGRADE_PROTOCOL));
    Ok(response)
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

/// The connection after the upgrade.
async fn converse(shared: Arc<Shared>, upgraded: OnUpgrade, planned: Plan, reserved: Reserved) {
    let stream = match upgraded.await {
        Ok(upgraded) => match upgraded.downcast::<TokioIo<UnixStream>>() {
            // Bytes that came before the answer were not waited for: the protocol forbids them.
            Ok(parts) if parts.read_buf.is_empty() => parts.io.into_inner(),
            _ => return,
        },
        Err(error) => {
            tracing::debug!(%error, "a run was given up before it began");
            return;
        }
    };
    let limit = Duration::from_secs(limits::REQUEST_TIMEOUT_S);
    let descriptors = match tokio::time::timeout(limit, receive(&stream)).await {
        Ok(Ok(descriptors)) => descriptors,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a run came without its descriptors");
            return;
        }
        Err(_late) => return,
    };
    let name = reserved.name.clone();
    let work = {
        let shared = Arc::clone(&shared);
        move || {
            let launched = launch(&shared, &reserved, planned, descriptors);
            (launched, reserved)
        }
    };
    let Ok((launched, reserved)) = tokio::task::spawn_blocking(work).await else {
        return;
    };
    let (reader, mut writer) = stream.into_split();
    let event = match &launched {
        Ok(launched) => RunEvent::Started {
            sandbox: name.clone(),
            pid: launched.live.state().init_pid,
        },
        Err(error) => failed(error),
    };
    let Ok(Launched { live }) = launched else {
        drop(reserved);
        drop(tell(&mut writer, &event).await);
        return;
    };
    shared.enter(reserved, Arc::clone(&live));
    // A caller that is gone already shows when its side is read.
    drop(tell(&mut writer, &event).await);
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
        message: error.explain(),
    }
}

async fn tell(
    writer: &mut tokio::net::unix::OwnedWriteHalf,
    event: &RunEvent,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// Receives the command's standard streams and the status pipe.
async fn receive(stream: &UnixStream) -> std::io::Result<Descriptors> {
    let mut byte = [0_u8; 1];
    let (_, fds) = stream
        .async_io(Interest::READABLE, || {
            clawd_sys::passing::recv_with_fds(stream, &mut byte, DESCRIPTORS)
        })
        .await?;
    let wrong = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    if byte != [DESCRIPTORS_BYTE] {
        return Err(wrong());
    }
    let [stdin, stdout, stderr, status]: [OwnedFd; DESCRIPTORS] =
        fds.try_into().map_err(|_other_count| wrong())?;
    Ok(Descriptors {
        stdin,
        stdout,
        stderr,
        status,
    })
}

/// Forwards signals; when the caller hangs up, its sandbox ends.
async fn listen(live: &Arc<Live>, reader: OwnedReadHalf) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(limits::LINE_BYTES).unwrap_or(u64::MAX);
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(read) if read > 0 && line.ends_with(b"\n") => {}
            _ => break,
        }
        match serde_json::from_slice(&line) {
            Ok(ClientMessage::Signal { signal }) if FORWARDED_SIGNALS.contains(&signal) => {
                forward(live, signal)
            }
            _ => break,
        }
    }
    let name = live.state().name.clone();
    if let Err(error) = stop::stop_live(&name, Arc::clone(live)).await {
        tracing::debug!(sandbox = %name, error = error.error.message, "a sandbox had ended before its caller hung up");
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
