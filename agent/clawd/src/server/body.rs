//! Bodies of answers.

use std::{convert::Infallible, pin::Pin};

use futures_util::Stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame},
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;

/// A body of either kind.
pub(super) type Body = BoxBody<Bytes, Infallible>;

/// An answer of JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type(
            status,
            "application/json",
            Full::new(Bytes::from(bytes)).boxed(),
        ),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            with_type(
                StatusCode::INTERNAL_SERVER_ERROR,
                "application/json",
                empty(),
            )
        }
    }
}

/// No body.
pub(super) fn empty() -> Body {
    Full::new(Bytes::new()).boxed()
}

/// Server-sent events, one for each line.
pub(super) fn events(lines: Pin<Box<dyn Stream<Item = String> + Send + Sync>>) -> Response<Body> {
    use futures_util::StreamExt as _;

    // A record is one line of JSON, so it needs no splitting into several `data:` fields.
    let frames = lines
        .map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {line}\n\n")))));
    with_type(
        StatusCode::OK,
        "text/event-stream",
        BodyExt::boxed(StreamBody::new(frames)),
    )
}

fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
