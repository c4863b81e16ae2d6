//! Which audit records a `logs` request asks for.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use clawd_audit::Filter;

use crate::{limits, name::SandboxName, percent};

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
    /// Only records that it wants; they alone count for `last`.
    pub filter: Filter,
}

/// A query that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogQueryError {
    /// A key that there is not, or one twice.
    #[error(
        "unknown or repeated query key {0:?}; expected `follow`, `sandbox`, `n`, `since`, `until`, \
         `binary`, `destination`, `reason` and `action`, once each"
    )]
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
    /// A value is not encoded as it should be.
    #[error("`{key}` is {value:?}; expected UTF-8 with `%` and two hexadecimal digits for a byte")]
    Encoding {
        /// Whose.
        key: String,
        /// As it came.
        value: String,
    },
    /// A condition is none.
    #[error("`{key}` is {value:?}, which is {why}")]
    Condition {
        /// Which.
        key: String,
        /// Its text.
        value: String,
        /// What is expected.
        why: String,
    },
}

// === impl LogQuery ===

impl Default for LogQuery {
    fn default() -> Self {
        Self {
            follow: false,
            sandbox: None,
            last: DEFAULT_RECORDS,
            filter: Filter::default(),
        }
    }
}

impl LogQuery {
    /// Reads the part after `?`; empty means the default.
    ///
    /// # Errors
    /// [`LogQueryError`] names the key or the value at fault.
    pub fn parse(query: &str) -> Result<Self, LogQueryError> {
        let (mut follow, mut last, mut sandbox) = (None, None, None);
        let mut filter = Filter::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "follow" if follow.is_none() => follow = Some(parse_follow(value)?),
                "sandbox" if sandbox.is_none() => sandbox = Some(SandboxName::new(value)?),
                "n" if last.is_none() => last = Some(parse_count(value)?),
                "since" => set(&mut filter.since, (key, value))?,
                "until" => set(&mut filter.until, (key, value))?,
                "binary" => set(&mut filter.binary, (key, value))?,
                "destination" => set(&mut filter.destination, (key, value))?,
                "reason" => set(&mut filter.reason, (key, value))?,
                "action" => set(&mut filter.action, (key, value))?,
                _ => return Err(LogQueryError::Key(key.to_owned())),
            }
        }
        Ok(Self {
            follow: follow.unwrap_or(false),
            sandbox,
            last: last.unwrap_or(DEFAULT_RECORDS),
            filter,
        })
    }
}

/// Reads a condition that has not been read yet.
fn set<T>(condition: &mut Option<T>, (key, value): (&str, &str)) -> Result<(), LogQueryError>
where
    T: FromStr<Err: Display>,
{
    if condition.is_some() {
        return Err(LogQueryError::Key(key.to_owned()));
    }
    let key = || key.to_owned();
    let text = percent::decode(value).ok_or_else(|| LogQueryError::Encoding {
        key: key(),
        value: value.to_owned(),
    })?;
    let read = text
        .parse()
        .map_err(|error: T::Err| LogQueryError::Condition {
            key: key(),
            value: text.clone(),
            why: error.to_string(),
        })?;
    *condition = Some(read);
    Ok(())
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
        fn text(condition: Option<&impl Display>) -> Option<String> {
            condition.map(|value| percent::encode(&value.to_string()))
        }
        write!(f, "follow={}&n={}", self.follow, self.last)?;
        let filter = &self.filter;
        for (key, value) in [
            ("sandbox", text(self.sandbox.as_ref())),
            ("since", text(filter.since.as_ref())),
            ("until", text(filter.until.as_ref())),
            ("binary", text(filter.binary.as_ref())),
            ("destination", text(filter.destination.as_ref())),
            ("reason", text(filter.reason.as_ref())),
            ("action", text(filter.action.as_ref())),
        ] {
            if let Some(value) = value {
                write!(f, "&{key}={value}")?;
            }
        }
        Ok(())
    }
}
