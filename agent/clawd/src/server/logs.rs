//! `GET /v1/logs`: the audit log, and what comes after.

use std::{collections::VecDeque, sync::Arc};

use clawd_audit::Line;
use clawd_control::{ApiError, ExitCode, LogQuery};
use futures_util::stream;
use hyper::Response;
use tokio::sync::broadcast::{self, error::RecvError};

use super::body::{Body, events};
use crate::sandboxes::Shared;

/// Where a stream of lines stands.
struct State {
    past: VecDeque<String>,
    /// The number of the last line of `past`; what follows must be newer.
    last_seq: u64,
    live: Option<broadcast::Receiver<Arc<Line>>>,
    sandbox: Option<String>,
}

/// Answers with the last lines, then (`follow`) with each new one.
pub(super) async fn logs(
    shared: &Arc<Shared>,
    query: LogQuery,
) -> Result<Response<Body>, ApiError> {
    // Subscribed before the file is read, so that no line falls between.
    let live = query.follow.then(|| shared.audit.follow());
    let sandbox = query.sandbox.map(String::from);
    let (shared, filter) = (Arc::clone(shared), sandbox.clone());
    let tail = tokio::task::spawn_blocking(move || {
        let files = shared.audit.files()?;
        clawd_audit::tail(files, query.last, |record| {
            filter.is_none() || record.sandbox == filter
        })
    })
    .await
    .map_err(std::io::Error::other)
    .flatten()
    .map_err(|error| {
        ApiError::new(
            ExitCode::Failed,
            format!("cannot read the audit log: {error}"),
        )
    })?;
    let last_seq = tail.lines.last().and_then(|line| seq_of(line)).unwrap_or(0);
    let state = State {
        past: tail.lines.into(),
        last_seq,
        live,
        sandbox,
    };
    Ok(events(Box::pin(stream::unfold(state, next))))
}

fn seq_of(line: &str) -> Option<u64> {
    clawd_audit::tail::read_line(line.as_bytes())
        .ok()
        .map(|record| record.seq)
}

async fn next(mut state: State) -> Option<(String, State)> {
    if let Some(line) = state.past.pop_front() {
        return Some((line, state));
    }
    loop {
        match state.live.as_mut()?.recv().await {
            Ok(line) if line.seq <= state.last_seq => {}
            Ok(line) if state.sandbox.is_some() && state.sandbox != line.sandbox => {}
            Ok(line) => return Some((line.text.clone(), state)),
            // Falls silent rather than skip: the file has all, and `seq` shows the gap.
            Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
        }
    }
}
