//! Which audit records a `logs` request asks for.

use std::fmt;

use crate::{limits, name::SandboxName};

/// Records given where the request does not say how many.
pub const DEFAULT_RECORDS: usize = 100;

/// The query of `GET /v1/logs`.
///
/// The answer is `text/event-stream`, one `data: <audit record as JSON>` an event, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on with new records instead of ending after the last.
    pub follow: bool,
    /// Only this sandbox's records.
    pub sandbox: Option<SandboxName>,
    /// How many of the past, at most [`limits::LOG_RECORDS`].
    pub last: usize,
}

/// A query that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogQueryError {
    /// A key other than `follow`, `sandbox`, `n`, or one of them twice.
    #[error("unknown or repeated query key {0:?}; expected `follow`, `sandbox` and `n`, once each")]
    Key(String),
    /// `follow` is neither `true` nor `false`.
    #[error("`follow` is {0:?}; expected `true` or `false`")]
    Follow(String),
    /// `n` is no number, or too large.
    #[error("`n` is {0:?}; expected a number up to {max}", max = limits::LOG_RECORDS)]
    Count(String),
    /// `sandbox` is no name.
    #[error(transparent)]
    Name(#[from] crate::name::NameError),
}

// === impl LogQuery ===

impl Default for LogQuery {
    fn default() -> Self {
        Self {
            follow: false,
            sandbox: None,
            last: DEFAULT_RECORDS,
        }
    }
}

impl LogQuery {
    /// Reads the part after `?`; empty means the default.
    ///
    /// Values need no percent decoding: none of them can hold a character that would be encoded.
    ///
    /// # Errors
    /// [`LogQueryError`] names the key or the value at fault.
    pub fn parse(query: &str) -> Result<Self, LogQueryError> {
        let (mut follow, mut sandbox, mut last) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "follow" if follow.is_none() => follow = Some(parse_follow(value)?),
                "sandbox" if sandbox.is_none() => sandbox = Some(SandboxName::new(value)?),
                "n" if last.is_none() => last = Some(parse_count(value)?),
                _ => return Err(LogQueryError::Key(key.to_owned())),
            }
        }
        Ok(Self {
            follow: follow.unwrap_or(false),
            sandbox,
            last: last.unwrap_or(DEFAULT_RECORDS),
        })
    }
}

fn parse_follow(value: &str) -> Result<bool, LogQueryError> {
    let follow = value.parse().ok();
    follow.ok_or_else(|| LogQueryError::Follow(value.to_owned()))
}

fn parse_count(value: &str) -> Result<usize, LogQueryError> {
    let plain = value.bytes().all(|b| b.is_ascii_digit());
    let count = value.parse().ok().filter(|_| plain);
    count
        .filter(|count| *count <= limits::LOG_RECORDS)
        .ok_or_else(|| LogQueryError::Count(value.to_owned()))
}

impl fmt::Display for LogQuery {
    /// The text that [`LogQuery::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "follow={}&n={}", self.follow, self.last)?;
        match &self.sandbox {
            Some(name) => write!(f, "&sandbox={name}"),
            None => Ok(()),
        }
    }
}
