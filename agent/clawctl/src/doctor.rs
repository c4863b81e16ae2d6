//! `clawctl doctor`: whether this machine can keep the promise, and whether it does.

mod attempt;
mod host;
mod probe;

use std::path::Path;

use clawd_control::{ExitCode, Health, Route, Status};
use serde::Serialize;

use crate::{
    client::Client,
    failure::Failure,
    output::{json as to_json, print, shown},
};

pub(crate) use probe::probe;

/// How a check ended, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    /// It cannot be told from here. The attempt below tells whether it matters.
    Unknown,
    /// Something that a policy may ask for is missing.
    Warning,
    /// Nothing can be enforced, or is not.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at; stable.
    name: &'static str,
    outcome: Outcome,
    /// What was found.
    found: String,
    /// What to do, where something is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// What `doctor --json` prints.
#[derive(Debug, Serialize)]
struct Diagnosis {
    /// The worst of the checks' outcomes.
    outcome: Outcome,
    checks: Vec<Check>,
}

/// Looks at the host and at clawd, and tries a forbidden connect; returns an exit code as `status` does.
pub(crate) async fn doctor(client: &Client, json: bool) -> Result<u8, Failure> {
    let mut checks = host::checks(Path::new("/"));
    let (of_clawd, answers) = clawd(client).await;
    checks.extend(of_clawd);
    if answers {
        checks.extend(attempt::checks(client).await);
    }
    let diagnosis = Diagnosis {
        outcome: worst(&checks),
        checks,
    };
    print(&if json {
        to_json(&diagnosis)
    } else {
        rendered(&diagnosis.checks)
    })?;
    Ok(exit_code(diagnosis.outcome))
}

fn worst(checks: &[Check]) -> Outcome {
    let outcomes = checks.iter().map(|check| check.outcome);
    outcomes.max().unwrap_or(Outcome::Ok)
}

fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Ok | Outcome::Unknown => ExitCode::Ok.code(),
        Outcome::Warning => ExitCode::Failed.code(),
        Outcome::Failed => ExitCode::Usage.code(),
    }
}

/// What clawd says of itself, and whether it answers at all.
async fn clawd(client: &Client) -> (Vec<Check>, bool) {
    match client.request::<Status>(&Route::Status).await {
        Ok(status) => (of_status(&status), true),
        Err(failure) => {
            let found = failure.message;
            let remedy = "start clawd; where it does not start, what it prints says why";
            (vec![Check::failed("clawd", found, remedy)], false)
        }
    }
}

fn of_status(status: &Status) -> Vec<Check> {
    let own = env!("CARGO_PKG_VERSION");
    let found = format!("version {}, pid {}", status.version, status.pid);
    let mut checks = vec![if status.version == own {
        Check::ok("clawd", found)
    } else {
        let found = format!("{found}; clawctl is version {own}");
        Check::warning("clawd", found, "install both from the same release")
    }];
    let attached = status.hooks.iter().filter(|hook| hook.attached).count();
    let hooks = format!("{attached} of {} hooks attached", status.hooks.len());
    checks.push(match status.health {
        Health::Healthy => Check::ok("enforcement", hooks),
        Health::Degraded => {
            let found = format!("{hooks}; {}", status.problems.join("; "));
            Check::warning("enforcement", found, "see `clawctl status`")
        }
        Health::NotEnforcing => {
            let found = format!("{hooks}; {}", status.problems.join("; "));
            let remedy = "start clawd again, which attaches what is missing";
            Check::failed("enforcement", found, remedy)
        }
    });
    checks
}

fn rendered(checks: &[Check]) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let outcome = match check.outcome {
            Outcome::Ok => "ok",
            Outcome::Unknown => "unknown",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
        };
        lines.push(format!(
            "{outcome:<8} {:<12} {}",
            check.name,
            shown(&check.found)
        ));
        let remedy = check.remedy.as_deref();
        lines.extend(remedy.map(|remedy| format!("{:<21} -> {}", "", shown(remedy))));
    }
    lines.join("\n")
}

// === impl Check ===

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, found, None)
    }

    fn unknown(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self::new(name, Outcome::Unknown, found, Some(remedy))
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self::new(name, Outcome::Warning, found, Some(remedy))
    }

    fn failed(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self::new(name, Outcome::Failed, found, Some(remedy))
    }

    fn new(
        name: &'static str,
        outcome: Outcome,
        found: impl Into<String>,
        remedy: Option<&str>,
    ) -> Self {
        Self {
            name,
            outcome,
            found: found.into(),
            remedy: remedy.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Outcome, exit_code, rendered, worst};

    #[test]
    fn doctor_exit_code_is_that_of_the_worst_check() {
        let ok = Check::ok("a", "x");
        let unknown = Check::unknown("b", "x", "y");
        let warning = Check::warning("c", "x", "y");
        let failed = Check::failed("d", "x", "y");
        for (checks, want) in [
            (vec![], 0),
            (vec![ok.clone(), unknown.clone()], 0),
            (vec![warning.clone(), ok.clone()], 1),
            (vec![failed, warning, unknown, ok], 2),
        ] {
            assert_eq!(exit_code(worst(&checks)), want);
        }
        assert_eq!(worst(&[]), Outcome::Ok);
    }

    #[test]
    fn doctor_shows_each_check_and_what_to_do_without_control_characters() {
        let checks = [
            Check::ok("kernel", "Linux 6.12\u{1b}[31m"),
            Check::failed("btf", "not there", "boot another kernel"),
        ];
        assert_eq!(
            rendered(&checks),
            "ok       kernel       Linux 6.12\\u{1b}[31m\n\
             FAILED   btf          not there\n                      -> boot another kernel"
        );
    }
}
