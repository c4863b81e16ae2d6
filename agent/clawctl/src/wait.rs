//! `clawctl wait`: until a sandbox has ended.

use clawd_control::{ExitCode, Route, SandboxName, WaitReport};

use crate::{
    client::Client,
    failure::Failure,
    output::{json as to_json, print},
};

/// Waits; returns the exit code of the sandbox's command. With `json` the report is printed too.
pub(crate) async fn wait(client: &Client, name: SandboxName, json: bool) -> Result<u8, Failure> {
    let answer = client.request(&Route::Wait(name)).await;
    // 1 may be the command's own.
    let report: WaitReport = answer.map_err(|failure| match failure.code {
        code if code == ExitCode::Failed.code() => failure.with_code(ExitCode::Setup),
        _ => failure,
    })?;
    if json {
        print(&to_json(&report))?;
    }
    report.exit_code.ok_or_else(|| {
        let message = format!(
            "sandbox {} was killed, or nobody saw how its command ended",
            report.sandbox
        );
        Failure::failed(message).with_code(ExitCode::Killed)
    })
}
