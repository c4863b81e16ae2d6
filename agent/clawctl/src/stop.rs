//! `clawctl stop`: end a sandbox, or all of them.

use clawd_control::{ExitCode, Route, StopAllReport, StopReport, StopRequest};

use crate::{
    client::Client,
    command::StopTarget,
    failure::Failure,
    output::{json as to_json, print, shown},
};

/// Stops the target; fails if anything of it is left.
pub(crate) async fn stop(
    client: &Client,
    target: StopTarget,
    request: StopRequest,
    json: bool,
) -> Result<u8, Failure> {
    match target {
        StopTarget::One(name) => {
            let report: StopReport = client.request_with(&Route::Stop(name), &request).await?;
            print(&if json {
                to_json(&report)
            } else {
                stopped(&report)
            })?;
            Ok(ExitCode::Ok.code())
        }
        StopTarget::All => {
            let report: StopAllReport = client.request_with(&Route::StopAll, &request).await?;
            print(&if json {
                to_json(&report)
            } else {
                all_stopped(&report)
            })?;
            Ok(if report.failed.is_empty() {
                ExitCode::Ok
            } else {
                ExitCode::Failed
            }
            .code())
        }
    }
}

fn stopped(report: &StopReport) -> String {
    let StopReport {
        sandbox, killed, ..
    } = report;
    match killed {
        0 => format!("stopped {sandbox} (it ended by itself)"),
        _ => format!("stopped {sandbox} ({killed} processes killed)"),
    }
}

fn all_stopped(report: &StopAllReport) -> String {
    let mut lines: Vec<String> = report.stopped.iter().map(stopped).collect();
    lines.extend(report.failed.iter().map(|failure| {
        format!(
            "could not stop {}: {}",
            failure.sandbox,
            shown(&failure.message)
        )
    }));
    if lines.is_empty() {
        lines.push("no sandboxes".to_owned());
    }
    lines.join("\n")
}
