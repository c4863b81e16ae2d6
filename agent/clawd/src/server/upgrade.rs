//! A connection that becomes a command's own: from the request's header to the descriptors.

use std::{os::fd::OwnedFd, time::Duration};

use clawd_control::{
    ApiError, ExitCode, RunEvent, limits,
    run::{DESCRIPTORS, DESCRIPTORS_BYTE, TERMINAL_DESCRIPTORS, UPGRADE_PROTOCOL},
};
use clawd_sandbox::{Descriptors, Streams};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, UPGRADE},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{UnixStream, unix::OwnedWriteHalf},
};

use super::body::{Body, empty};

/// The connection that a request asks to take over.
pub(super) fn asked(request: &mut Request<Incoming>) -> Result<OnUpgrade, ApiError> {
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
    Ok(hyper::upgrade::on(request))
}

/// The answer after which the connection is the command's.
pub(super) fn granted() -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(UPGRADE_PROTOCOL));
    response
}

/// The connection after the answer, with the command's descriptors. `None`: the caller has gone.
pub(super) async fn taken(
    upgraded: OnUpgrade,
    with_terminal: bool,
) -> Option<(UnixStream, Descriptors)> {
    let stream = match upgraded.await {
        Ok(upgraded) => match upgraded.downcast::<TokioIo<UnixStream>>() {
            // Bytes that came before the answer were not waited for: the protocol forbids them.
            Ok(parts) if parts.read_buf.is_empty() => parts.io.into_inner(),
            _ => return None,
        },
        Err(error) => {
            tracing::debug!(%error, "a command was given up before it began");
            return None;
        }
    };
    let limit = Duration::from_secs(limits::REQUEST_TIMEOUT_S);
    match tokio::time::timeout(limit, receive(&stream, with_terminal)).await {
        Ok(Ok(descriptors)) => Some((stream, descriptors)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a command came without its descriptors");
            None
        }
        Err(_late) => None,
    }
}

/// Receives the command's standard streams, or where to send its terminal, and the status pipe.
async fn receive(stream: &UnixStream, with_terminal: bool) -> std::io::Result<Descriptors> {
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
    if with_terminal {
        let [socket, status]: [OwnedFd; TERMINAL_DESCRIPTORS] =
            fds.try_into().map_err(|_other_count| wrong())?;
        return Ok(Descriptors {
            streams: Streams::Terminal(socket),
            status,
        });
    }
    let [stdin, stdout, stderr, status]: [OwnedFd; DESCRIPTORS] =
        fds.try_into().map_err(|_other_count| wrong())?;
    Ok(Descriptors {
        streams: Streams::Given([stdin, stdout, stderr]),
        status,
    })
}

/// Tells the caller what became of the command.
pub(super) async fn tell(writer: &mut OwnedWriteHalf, event: &RunEvent) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
