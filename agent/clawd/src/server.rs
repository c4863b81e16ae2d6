//! The control API: HTTP/1.1 on the unix socket.

mod body;
mod exec;
mod listen;
mod logs;
mod run;
mod upgrade;

use std::{convert::Infallible, sync::Arc, time::Duration};

use clawd_control::{ApiError, ExitCode, Route, SandboxName, limits};
use clawd_sys::passing::Peer;
use http_body_util::BodyExt as _;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::UnixStream, sync::Semaphore};

pub(crate) use listen::listen;

use self::body::{Body, json};
use crate::{events, generations, pins, pull, push, sandboxes::Shared, status, stop};

/// Accepts connections until the task is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, listener: tokio::net::UnixListener) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _address)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; connections that end give some back.
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(
                limit = limits::CONNECTIONS,
                "too many connections; one was closed"
            );
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            connection(shared, stream).await;
            drop(place);
        });
    }
}

/// Serves one connection. Who is at its other end was decided by the socket's mode when it
/// connected, and is known from the kernel, not from anything it says.
async fn connection(shared: Arc<Shared>, stream: UnixStream) {
    let peer = match clawd_sys::passing::peer(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "a connection without credentials was closed");
            return;
        }
    };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(shared, request, peer).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::REQUEST_TIMEOUT_S))
        .max_buf_size(limits::HEAD_BYTES)
        .max_headers(limits::HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, pid = peer.pid, "a connection ended early");
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let route = match Route::parse(request.method().as_str(), target) {
        Ok(route) => route,
        Err(error) => {
            let status =
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
            return json(status, &ApiError::new(ExitCode::Usage, error.to_string()));
        }
    };
    debug_assert!(request.method() == Method::GET || request.method() == Method::POST);
    let result = match route {
        Route::Status => blocking(move || Ok(json(StatusCode::OK, &status::status(&shared)))).await,
        Route::Sandboxes => {
            blocking(move || {
                let infos: Vec<_> = shared
                    .list()
                    .iter()
                    .filter_map(|live| status::info(&shared, live))
                    .collect();
                Ok(json(StatusCode::OK, &infos))
            })
            .await
        }
        Route::Run => run::run(shared, request, peer).await,
        Route::Exec(name) => exec::exec(shared, name, request, peer).await,
        Route::Wait(name) => stop::wait(&shared, &name)
            .await
            .map(|report| json(StatusCode::OK, &report)),
        Route::Stop(name) => stopped(&shared, Some(&name), request).await,
        Route::StopAll => stopped(&shared, None, request).await,
        Route::Push(name) => {
            asked(request, move |body| push::push(&shared, &name, body, peer)).await
        }
        Route::Rollback(name) => {
            asked(request, move |body| {
                push::rollback(&shared, &name, &body, peer)
            })
            .await
        }
        Route::Policy(name, generation) => {
            told(move || pull::pull(&shared, &name, generation, peer)).await
        }
        Route::History(name) => told(move || generations::history(&shared, &name, peer)).await,
        Route::Pins => told(move || pins::list(&shared)).await,
        Route::ForgetPins => asked(request, move |body| pins::forget(&shared, &body)).await,
        Route::Logs(query) => {
            events::flush(&shared).await;
            logs::logs(&shared, query).await
        }
    };
    result.unwrap_or_else(|error| json(http_status(&error), &error))
}

/// What is wrong with a request's JSON. Messages that quote a value are left out: it may be a secret of
/// the environment.
fn without_values(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let names_alone = ["unknown field", "missing field", "duplicate field"];
    if error.is_data() && !names_alone.iter().any(|kind| message.starts_with(kind)) {
        return format!(
            "a value is of another kind or out of range at line {} column {}",
            error.line(),
            error.column()
        );
    }
    message
}

/// Stops the sandbox of that name, or all.
async fn stopped(
    shared: &Arc<Shared>,
    name: Option<&SandboxName>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let body = read_json(request).await?;
    match name {
        Some(name) => stop::stop(shared, name, &body)
            .await
            .map(|report| json(StatusCode::OK, &report)),
        None => stop::stop_all(shared, &body)
            .await
            .map(|report| json(StatusCode::OK, &report)),
    }
}

/// Wrong usage is the caller's fault, everything else ours or the machine's.
fn http_status(error: &ApiError) -> StatusCode {
    if error.error.exit_code == ExitCode::Usage.code() {
        StatusCode::BAD_REQUEST
    } else if error.error.exit_code == ExitCode::Failed.code() {
        StatusCode::CONFLICT
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

/// Runs what reads files or writes maps where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(ApiError::new(
                ExitCode::Failed,
                format!("the request failed inside clawd: {error}"),
            ))
        })
}

/// Answers with what reads files or asks the gate.
async fn told<T: serde::Serialize>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    blocking(move || work().map(|report| json(StatusCode::OK, &report))).await
}

/// Reads a request's body and does what it asks for.
async fn asked<B: serde::de::DeserializeOwned + Send + 'static, T: serde::Serialize>(
    request: Request<Incoming>,
    work: impl FnOnce(B) -> Result<T, ApiError> + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    let body = read_json(request).await?;
    told(move || work(body)).await
}

/// Reads a body of JSON, with limits on size and time.
async fn read_json<T: serde::de::DeserializeOwned>(
    request: Request<Incoming>,
) -> Result<T, ApiError> {
    let body = http_body_util::Limited::new(request.into_body(), limits::BODY_BYTES);
    let limit = Duration::from_secs(limits::REQUEST_TIMEOUT_S);
    let bytes = match tokio::time::timeout(limit, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            return Err(ApiError::new(
                ExitCode::Usage,
                format!("cannot read the request: {error}"),
            ));
        }
        Err(_late) => {
            return Err(ApiError::new(
                ExitCode::Usage,
                format!(
                    "the request did not arrive within {} s",
                    limits::REQUEST_TIMEOUT_S
                ),
            ));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::new(
            ExitCode::Usage,
            format!(
                "the request is not what this version expects: {}",
                without_values(&error)
            ),
        )
    })
}
