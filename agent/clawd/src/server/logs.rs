//! `GET /v1/logs`: the audit log, and what comes after.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use clawd_audit::{AuditRecord, Filter, Line, Timestamp};
use clawd_control::{ApiError, ExitCode, LogQuery};
use futures_util::stream;
use hyper::Response;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout_at},
};

use super::body::{Body, events};
use crate::{audit, sandboxes::Shared};

/// How long records may take from the kernel into the log, and more.
const LATE: Duration = Duration::from_secs(1);

/// Where a stream of lines stands.
struct State {
    past: VecDeque<String>,
    /// The number of the last line of `past`; what follows must be newer.
    last_seq: u64,
    live: Option<broadcast::Receiver<Arc<Line>>>,
    /// When nothing that is wanted can come any more.
    ends_at: Option<Instant>,
    wanted: Wanted,
}

/// Which records were asked for.
#[derive(Clone)]
struct Wanted {
    sandbox: Option<String>,
    filter: Filter,
}

// === impl Wanted ===

impl Wanted {
    fn has(&self, record: &AuditRecord) -> bool {
        (self.sandbox.is_none() || self.sandbox == record.sandbox) && self.filter.wants(record)
    }

    /// When nothing that is wanted can come any more; `None` where that is never, or far away.
    fn ends_at(&self) -> Option<Instant> {
        let until_ns = self.filter.until.map(Timestamp::unix_ns)?;
        let left_ns = u64::try_from((until_ns - audit::now().unix_ns()).max(0)).ok()?;
        Instant::now().checked_add(Duration::from_nanos(left_ns).saturating_add(LATE))
    }
}

/// Answers with the last lines, then (`follow`) with each new one.
pub(super) async fn logs(
    shared: &Arc<Shared>,
    query: LogQuery,
) -> Result<Response<Body>, ApiError> {
    // Subscribed before the file is read, so that no line falls between.
    let live = query.follow.then(|| shared.audit.follow());
    let wanted = Wanted {
        sandbox: query.sandbox.map(String::from),
        filter: query.filter,
    };
    let (shared, of_past) = (Arc::clone(shared), wanted.clone());
    let tail = tokio::task::spawn_blocking(move || {
        let files = shared.audit.files()?;
        clawd_audit::tail(files, query.last, |record| of_past.has(record))
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
        ends_at: wanted.ends_at(),
        wanted,
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
        let next = state.live.as_mut()?.recv();
        let next = match state.ends_at {
            Some(at) => timeout_at(at, next).await.ok()?,
            None => next.await,
        };
        match next {
            Ok(line) if line.record.seq <= state.last_seq => {}
            Ok(line) if !state.wanted.has(&line.record) => {}
            Ok(line) => return Some((line.text.clone(), state)),
            // Falls silent rather than skip: the file has all, and `seq` shows the gap.
            Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
        }
    }
}
