//! The requests of the API: one table, read by clawd and written by clawctl.

use std::fmt;

use crate::{
    logs::{LogQuery, LogQueryError},
    name::{NameError, SandboxName},
};

/// One request, its body apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Answers [`crate::Status`].
    Status,
    /// Answers a list of [`crate::SandboxInfo`].
    Sandboxes,
    /// Takes a [`crate::RunRequest`]; see [`crate::run`] for what follows.
    Run,
    /// Takes a [`crate::ExecRequest`]; see [`crate::exec`] for what follows.
    Exec(SandboxName),
    /// Answers [`crate::WaitReport`] when the sandbox has ended.
    Wait(SandboxName),
    /// Takes a [`crate::StopRequest`], answers [`crate::StopReport`].
    Stop(SandboxName),
    /// Takes a [`crate::StopRequest`], answers [`crate::StopAllReport`].
    StopAll,
    /// Takes a [`crate::PushRequest`], answers [`crate::PushReport`].
    Push(SandboxName),
    /// Answers [`crate::PolicyReport`] of that generation, or of the one in force.
    Policy(SandboxName, Option<u64>),
    /// Answers a list of [`crate::GenerationInfo`].
    History(SandboxName),
    /// Takes a [`crate::RollbackRequest`], answers [`crate::PushReport`].
    Rollback(SandboxName),
    /// Answers a stream of audit records.
    Logs(LogQuery),
    /// Answers a list of [`crate::PinInfo`].
    Pins,
    /// Takes a [`crate::ForgetRequest`], answers [`crate::ForgetReport`].
    ForgetPins,
}

/// Not a request of this API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// 404.
    #[error("no such resource; this is clawd's control API, version 1")]
    NotFound,
    /// 405.
    #[error("method not allowed; expected {expected}")]
    Method {
        /// The method that the resource has.
        expected: &'static str,
    },
    /// 400.
    #[error(transparent)]
    Name(#[from] NameError),
    /// 400.
    #[error("{got:?} is no generation; expected a number as `history` tells it")]
    Generation {
        /// What is in its place.
        got: String,
    },
    /// 400.
    #[error(transparent)]
    Query(#[from] LogQueryError),
    /// 400.
    #[error("unexpected query; only /v1/logs takes one")]
    UnexpectedQuery,
}

// === impl Route ===

impl Route {
    /// Reads a request line's method and target (path and query).
    ///
    /// # Errors
    /// [`RouteError`]; its [`RouteError::http_status`] is the answer's status.
    pub fn parse(method: &str, target: &str) -> Result<Self, RouteError> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let resource = path.strip_prefix("/v1/").ok_or(RouteError::NotFound)?;
        let segments: Vec<&str> = resource.split('/').collect();
        let route = match (segments.as_slice(), method) {
            (["status"], _) => Self::Status,
            (["sandboxes"], "POST") => Self::Run,
            (["sandboxes"], _) => Self::Sandboxes,
            (["sandboxes", "stop-all"], _) => Self::StopAll,
            (["sandboxes", name, "exec"], _) => Self::Exec(SandboxName::new(*name)?),
            (["sandboxes", name, "wait"], _) => Self::Wait(SandboxName::new(*name)?),
            (["sandboxes", name, "stop"], _) => Self::Stop(SandboxName::new(*name)?),
            (["sandboxes", name, "policy"], "GET") => Self::Policy(SandboxName::new(*name)?, None),
            (["sandboxes", name, "policy"], _) => Self::Push(SandboxName::new(*name)?),
            (["sandboxes", name, "policy", "history"], _) => {
                Self::History(SandboxName::new(*name)?)
            }
            (["sandboxes", name, "policy", "rollback"], _) => {
                Self::Rollback(SandboxName::new(*name)?)
            }
            (["sandboxes", name, "policy", number], _) => {
                Self::Policy(SandboxName::new(*name)?, Some(generation(number)?))
            }
            (["logs"], _) => Self::Logs(LogQuery::parse(query.unwrap_or(""))?),
            (["pins"], _) => Self::Pins,
            (["pins", "forget"], _) => Self::ForgetPins,
            _ => return Err(RouteError::NotFound),
        };
        let expected = route.method();
        if method != expected {
            return Err(RouteError::Method { expected });
        }
        if query.is_some() && !matches!(route, Self::Logs(_)) {
            return Err(RouteError::UnexpectedQuery);
        }
        Ok(route)
    }

    /// Its HTTP method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Wait(_)
            | Self::Status
            | Self::Sandboxes
            | Self::Policy(..)
            | Self::History(_)
            | Self::Logs(_)
            | Self::Pins => "GET",
            Self::Run
            | Self::Exec(_)
            | Self::Stop(_)
            | Self::StopAll
            | Self::Push(_)
            | Self::Rollback(_)
            | Self::ForgetPins => "POST",
        }
    }
}

impl fmt::Display for Route {
    /// The request target: path and query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("/v1/status"),
            Self::Sandboxes | Self::Run => f.write_str("/v1/sandboxes"),
            Self::Exec(name) => write!(f, "/v1/sandboxes/{name}/exec"),
            Self::Wait(name) => write!(f, "/v1/sandboxes/{name}/wait"),
            Self::Stop(name) => write!(f, "/v1/sandboxes/{name}/stop"),
            Self::StopAll => f.write_str("/v1/sandboxes/stop-all"),
            Self::Push(name) | Self::Policy(name, None) => {
                write!(f, "/v1/sandboxes/{name}/policy")
            }
            Self::Policy(name, Some(number)) => {
                write!(f, "/v1/sandboxes/{name}/policy/{number}")
            }
            Self::History(name) => write!(f, "/v1/sandboxes/{name}/policy/history"),
            Self::Rollback(name) => write!(f, "/v1/sandboxes/{name}/policy/rollback"),
            Self::Logs(query) => write!(f, "/v1/logs?{query}"),
            Self::Pins => f.write_str("/v1/pins"),
            Self::ForgetPins => f.write_str("/v1/pins/forget"),
        }
    }
}

// === impl RouteError ===

impl RouteError {
    /// The HTTP status of the answer.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Method { .. } => 405,
            Self::Name(_) | Self::Generation { .. } | Self::Query(_) | Self::UnexpectedQuery => 400,
        }
    }
}

/// A generation, as [`Route`] writes it: each has one form alone.
fn generation(text: &str) -> Result<u64, RouteError> {
    let wrong = || RouteError::Generation {
        got: text.to_owned(),
    };
    let number: u64 = text.parse().map_err(|_not_one| wrong())?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use clawd_audit::{Filter, Outcome, Timestamp};

    use super::{Route, RouteError};
    use crate::{limits, logs::LogQuery, name::SandboxName};

    fn name() -> impl Strategy<Value = SandboxName> {
        "[a-z0-9][a-z0-9_.-]{0,62}".prop_map(|text| SandboxName::new(text).expect("valid"))
    }

    fn filter() -> impl Strategy<Value = Filter> {
        let time = |unix_ns: u64| Timestamp::from_unix_ns(unix_ns.into());
        let reason = proptest::sample::select(vec!["port_not_listed", "unknown"]);
        let conditions = (
            any::<Option<u64>>(),
            any::<Option<u64>>(),
            proptest::option::of("(/.{0,20}|[^/]{1,20})"),
            proptest::option::of((any::<std::net::IpAddr>(), any::<Option<u16>>())),
            proptest::option::of(reason),
            any::<bool>(),
        );
        conditions.prop_map(move |(since, until, binary, to, reason, denied)| Filter {
            since: since.map(time),
            until: until.map(time),
            binary: binary.map(|text| text.parse().expect("a program")),
            destination: to.map(|(ip, port)| {
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                format!("[{ip}]{port}").parse().expect("a destination")
            }),
            reason: reason.and_then(|name| name.parse().ok()),
            action: denied.then_some(Outcome::Denied),
        })
    }

    fn route() -> impl Strategy<Value = Route> {
        let query = (
            any::<bool>(),
            proptest::option::of(name()),
            0..=limits::LOG_RECORDS,
            filter(),
        );
        prop_oneof![
            Just(Route::Status),
            Just(Route::Sandboxes),
            Just(Route::Run),
            Just(Route::StopAll),
            Just(Route::Pins),
            Just(Route::ForgetPins),
            name().prop_map(Route::Exec),
            name().prop_map(Route::Wait),
            name().prop_map(Route::Stop),
            name().prop_map(Route::Push),
            (name(), any::<Option<u64>>())
                .prop_map(|(name, generation)| Route::Policy(name, generation)),
            name().prop_map(Route::History),
            name().prop_map(Route::Rollback),
            query.prop_map(|(follow, sandbox, last, filter)| Route::Logs(LogQuery {
                follow,
                sandbox,
                last,
                filter
            })),
        ]
    }

    proptest! {
        #[test]
        fn route_written_is_the_route_read(route in route()) {
            prop_assert_eq!(Route::parse(route.method(), &route.to_string()), Ok(route));
        }

        #[test]
        fn route_of_any_target_does_not_panic(method in "[A-Z]{1,7}", target in ".{0,80}") {
            if let Ok(route) = Route::parse(&method, &target) {
                prop_assert_eq!(route.method(), method);
            }
        }
    }

    #[test]
    fn route_unknown_or_wrong_is_refused() {
        for (method, target, status) in [
            ("GET", "/", 404),
            ("GET", "/v2/status", 404),
            ("GET", "/v1/status/", 404),
            ("DELETE", "/v1/status", 405),
            ("GET", "/v1/sandboxes/a/stop", 405),
            ("GET", "/v1/sandboxes/a/exec", 405),
            ("POST", "/v1/sandboxes/a/wait", 405),
            ("DELETE", "/v1/sandboxes/a/policy", 405),
            ("GET", "/v1/sandboxes/A/policy", 400),
            ("PUT", "/v1/sandboxes/a/policy", 405),
            ("POST", "/v1/sandboxes/a/policy/3", 405),
            ("POST", "/v1/sandboxes/a/policy/history", 405),
            ("GET", "/v1/sandboxes/a/policy/rollback", 405),
            ("GET", "/v1/sandboxes/a/policy/", 400),
            ("GET", "/v1/sandboxes/a/policy/-1", 400),
            ("GET", "/v1/sandboxes/a/policy/+1", 400),
            ("GET", "/v1/sandboxes/a/policy/01", 400),
            ("GET", "/v1/sandboxes/a/policy/18446744073709551616", 400),
            ("GET", "/v1/sandboxes/a/policy/../../b/policy", 404),
            ("GET", "/v1/sandboxes/a/policy?generation=3", 400),
            ("POST", "/v1/pins", 405),
            ("GET", "/v1/pins/forget", 405),
            ("POST", "/v1/pins/forget?all=true", 400),
            ("GET", "/v1/pins/", 404),
            ("POST", "/v1/sandboxes/../stop", 400),
            ("POST", "/v1/sandboxes/%2e/stop", 400),
            ("GET", "/v1/status?x=1", 400),
            ("GET", "/v1/logs?n=100001", 400),
            ("GET", "/v1/logs?n=1&n=2", 400),
            ("GET", "/v1/logs?follow=1", 400),
            ("GET", "/v1/logs?tail=1", 400),
            ("GET", "/v1/logs?since=yesterday", 400),
            ("GET", "/v1/logs?since=2026-01-01T00:00:00Z", 400),
            ("GET", "/v1/logs?binary=bin/curl", 400),
            ("GET", "/v1/logs?binary=%2", 400),
            ("GET", "/v1/logs?binary=a&binary=b", 400),
            ("GET", "/v1/logs?destination=host", 400),
            ("GET", "/v1/logs?reason=because", 400),
            ("GET", "/v1/logs?action=", 400),
        ] {
            let got = Route::parse(method, target).map_err(|error: RouteError| error.http_status());
            assert_eq!(got, Err(status), "{method} {target}");
        }
    }
}
