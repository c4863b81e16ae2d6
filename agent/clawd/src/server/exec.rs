//! `POST /v1/sandboxes/{name}/exec`: the request, then the connection that it becomes.

use std::{os::fd::AsFd as _, sync::Arc};

use clawd_control::{
    ApiError, ClientMessage, ExecRequest, RunEvent, SandboxName, run::FORWARDED_SIGNALS,
};
use clawd_sandbox::{EnterSpec, Entered};
use clawd_sys::passing::Peer;
use hyper::{Request, Response, body::Incoming, upgrade::OnUpgrade};
use tokio::{
    io::{BufReader, unix::AsyncFd},
    net::unix::OwnedReadHalf,
};

use super::{body::Body, run::message, upgrade};
use crate::{
    enter::{self, Command},
    sandboxes::{Live, Shared},
};

/// Checks the request and turns the connection over to the command.
pub(super) async fn exec(
    shared: Arc<Shared>,
    name: SandboxName,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, ApiError> {
    let upgraded = upgrade::asked(&mut request)?;
    let request: ExecRequest = super::read_json(request).await?;
    let live = shared.find(&name)?;
    let spec = enter::check(&shared, &live, &request, peer)?;
    tokio::spawn(converse(shared, upgraded, live, spec, peer));
    Ok(upgrade::granted())
}

/// The connection after the upgrade. Its end is not the command's: the keeper of the command sees
/// for itself when the caller is gone, whether or not there is a daemon.
async fn converse(
    shared: Arc<Shared>,
    upgraded: OnUpgrade,
    live: Arc<Live>,
    spec: EnterSpec,
    peer: Peer,
) {
    let Some((stream, descriptors)) = upgrade::taken(upgraded, spec.terminal.is_some()).await
    else {
        return;
    };
    let name = live.state().name.clone();
    let work = move || enter::enter(&shared, &live, &spec, descriptors, peer);
    let Ok(entered) = tokio::task::spawn_blocking(work).await else {
        return;
    };
    let (reader, mut writer) = stream.into_split();
    match entered {
        Ok(Command { entered, pid }) => {
            let started = RunEvent::Started {
                sandbox: name,
                pid,
                warnings: Vec::new(),
            };
            // A caller that is gone already shows when its side is read.
            drop(upgrade::tell(&mut writer, &started).await);
            tokio::select! {
                () = ended(&entered) => {}
                () = listen(&entered, reader) => {}
            }
        }
        Err(error) => {
            let failed = RunEvent::Failed {
                exit_code: error.exit_code(),
                message: crate::explain(&error),
            };
            drop(upgrade::tell(&mut writer, &failed).await);
        }
    }
}

/// Waits for the command's end.
async fn ended(entered: &Entered) {
    #[expect(
        deprecated,
        reason = "the call that replaces it is unsafe; an OwnedFd keeps its descriptor"
    )]
    let waiting = entered.as_fd().try_clone_to_owned().and_then(AsyncFd::new);
    let ended = match waiting {
        Ok(channel) => channel.readable().await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "cannot wait for a further command; its caller is told by the sandbox");
    }
}

/// Forwards signals until the caller hangs up.
async fn listen(entered: &Entered, reader: OwnedReadHalf) {
    let mut reader = BufReader::new(reader);
    while let Some(ClientMessage::Signal { signal }) = message(&mut reader).await {
        if !FORWARDED_SIGNALS.contains(&signal) {
            break;
        }
        if let Err(error) = entered.signal(signal) {
            tracing::debug!(%error, "a signal came too late");
        }
    }
}
