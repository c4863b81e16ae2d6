//! Requests to clawd: HTTP/1.1 over its unix socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use clawd_control::{ApiError, DEFAULT_SOCKET, Route, SOCKET_GROUP, run::UPGRADE_PROTOCOL};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::failure::Failure;

/// Bytes of the largest answer that is read whole: 100,000 sandboxes.
const ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// Knows where clawd listens; each request is a connection of its own.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// A connection that became a command's own.
pub(crate) struct RunConnection {
    /// The connection.
    pub(crate) stream: UnixStream,
    /// What clawd sent before the change was noticed.
    pub(crate) read: Bytes,
}

// === impl Client ===

impl Client {
    /// A client of the clawd that listens at `socket`.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Where clawd listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request without a body, reads the answer.
    pub(crate) async fn request<T: DeserializeOwned>(&self, route: &Route) -> Result<T, Failure> {
        let response = self.stream(route).await?;
        self.read_answer(response).await
    }

    /// Sends a request with a body, reads the answer.
    pub(crate) async fn request_with<B: Serialize, T: DeserializeOwned>(
        &self,
        route: &Route,
        body: &B,
    ) -> Result<T, Failure> {
        let request = self.http(route, to_body(body)?)?;
        let response = self.answer(request).await?;
        self.read_answer(response).await
    }

    /// Sends a request without a body; the answer is still to be read.
    pub(crate) async fn stream(&self, route: &Route) -> Result<Response<Incoming>, Failure> {
        let request = self.http(route, Bytes::new())?;
        self.answer(request).await
    }

    /// Asks for a command; on success the connection is the command's.
    pub(crate) async fn upgrade<B: Serialize>(
        &self,
        route: &Route,
        body: &B,
    ) -> Result<RunConnection, Failure> {
        let mut request = self.http(route, to_body(body)?)?;
        let headers = request.headers_mut();
        let upgrade = header::HeaderValue::from_static;
        headers.insert(header::CONNECTION, upgrade("Upgrade"));
        headers.insert(header::UPGRADE, upgrade(UPGRADE_PROTOCOL));
        let response = self.answer(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.odd("it did not hand over the connection"));
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|error| self.broken(&error))?;
        let parts = upgraded.downcast::<TokioIo<UnixStream>>();
        let parts = parts.map_err(|_other| self.odd("the connection is of another kind"))?;
        Ok(RunConnection {
            stream: parts.io.into_inner(),
            read: parts.read_buf,
        })
    }

    fn http(&self, route: &Route, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let request = Request::builder()
            .method(route.method())
            .uri(route.to_string())
            .header(header::HOST, "clawd")
            .header(header::CONTENT_TYPE, "application/json");
        request
            .body(Full::new(body))
            .map_err(|error| self.odd(&error.to_string()))
    }

    /// Sends `request`; an answer that is an error becomes a failure.
    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| unreachable(&self.socket, &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        // What the connection says of its end is also what the request or the body's reader sees.
        drop(tokio::spawn(connection.with_upgrades()));
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let error: Result<ApiError, Failure> = self.read_answer(response).await;
            return Err(error.map_or_else(
                |_| self.odd(&format!("it answered {status} without saying why")),
                Failure::from,
            ));
        }
        Ok(response)
    }

    async fn read_answer<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, Failure> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await;
        let bytes = body
            .map_err(|error| self.broken(error.as_ref()))?
            .to_bytes();
        serde_json::from_slice(&bytes)
            .map_err(|error| self.odd(&format!("its answer is not understood: {error}")))
    }

    /// The connection broke.
    pub(crate) fn broken(&self, error: &dyn std::error::Error) -> Failure {
        let socket = self.socket.display();
        Failure::failed(format!("lost the connection to clawd at {socket}: {error}"))
    }

    /// Something answers, but not as clawd of this version does.
    fn odd(&self, what: &str) -> Failure {
        let socket = self.socket.display();
        Failure::failed(format!(
            "clawd at {socket} does not answer as expected: {what}; are clawctl and clawd of the same version?"
        ))
    }
}

fn to_body<B: Serialize>(body: &B) -> Result<Bytes, Failure> {
    let bytes = serde_json::to_vec(body);
    bytes
        .map(Bytes::from)
        .map_err(|error| Failure::failed(format!("cannot write the request: {error}")))
}

/// Says why clawd cannot be reached, and what to do.
fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let start = if socket == Path::new(DEFAULT_SOCKET) {
        "start it with `systemctl start clawd` or `clawd`".to_owned()
    } else {
        format!("start it with `clawd --socket {}`", socket.display())
    };
    let why = match error.kind() {
        io::ErrorKind::NotFound => format!("no such file; is it running? {start}"),
        io::ErrorKind::ConnectionRefused => {
            format!("nobody listens there; has it stopped? {start}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("permission denied; only root and members of group {SOCKET_GROUP} may")
        }
        _ => error.to_string(),
    };
    let socket = socket.display();
    Failure::failed(format!("cannot reach clawd at {socket}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::unreachable;

    #[test]
    fn unreachable_says_what_to_do() {
        let default = Path::new("/run/clawd/control.sock");
        for (socket, kind, want) in [
            (
                default,
                io::ErrorKind::NotFound,
                "cannot reach clawd at /run/clawd/control.sock: no such file; is it running? \
                 start it with `systemctl start clawd` or `clawd`",
            ),
            (
                Path::new("/tmp/s"),
                io::ErrorKind::ConnectionRefused,
                "cannot reach clawd at /tmp/s: nobody listens there; has it stopped? \
                 start it with `clawd --socket /tmp/s`",
            ),
            (
                default,
                io::ErrorKind::PermissionDenied,
                "cannot reach clawd at /run/clawd/control.sock: permission denied; \
                 only root and members of group clawd may",
            ),
        ] {
            let failure = unreachable(socket, &kind.into());
            assert_eq!(failure.message, want);
        }
    }
}
