//! `clawctl identity`: which content stands for the paths that policies list.

use clawd_control::{ExitCode, ForgetReport, ForgetRequest, PinInfo, Route};

use crate::{
    client::Client,
    failure::Failure,
    output::{json as to_json, print, shown, shown_hash},
    table::table,
};

/// `clawctl identity list`; with `json` as `{"pins":[...]}`.
pub(crate) async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let pins: Vec<PinInfo> = client.request(&Route::Pins).await?;
    print(&if json {
        format!("{{\"pins\":{}}}", to_json(&pins))
    } else {
        rendered(&pins)
    })?;
    Ok(ExitCode::Ok.code())
}

/// `clawctl identity forget`; fails if a path is not pinned, after the others were forgotten.
pub(crate) async fn forget(
    client: &Client,
    request: &ForgetRequest,
    json: bool,
) -> Result<u8, Failure> {
    let report: ForgetReport = client.request_with(&Route::ForgetPins, request).await?;
    if json {
        print(&to_json(&report))?;
        let code = match report.unknown.as_slice() {
            [] => ExitCode::Ok,
            _ => ExitCode::Failed,
        };
        return Ok(code.code());
    }
    if !report.forgotten.is_empty() || report.unknown.is_empty() {
        print(&forgotten(&report.forgotten))?;
    }
    match report.unknown.as_slice() {
        [] => Ok(ExitCode::Ok.code()),
        unknown => Err(not_pinned(unknown)),
    }
}

fn rendered(pins: &[PinInfo]) -> String {
    let rows: Vec<_> = pins.iter().map(row).collect();
    table(["PATH", "SHA-256", "FIRST USED", "SANDBOX", "STATE"], &rows)
}

fn row(pin: &PinInfo) -> [String; 5] {
    let state = match pin.found_sha256 {
        None => "pinned",
        Some(_) => "changed",
    };
    [
        shown(&pin.path),
        shown_hash(&pin.sha256),
        shown(&pin.first_used),
        shown(&pin.sandbox),
        state.to_owned(),
    ]
}

fn forgotten(pins: &[PinInfo]) -> String {
    let line = |pin: &PinInfo| format!("forgot {} ({})", shown(&pin.path), shown_hash(&pin.sha256));
    match pins {
        [] => "no pins".to_owned(),
        pins => pins.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

fn not_pinned(paths: &[String]) -> Failure {
    let paths: Vec<String> = paths.iter().map(|path| shown(path)).collect();
    let verb = match paths.as_slice() {
        [_] => "is",
        _ => "are",
    };
    Failure::failed(format!(
        "{} {verb} not pinned; `clawctl identity list` shows those that are",
        paths.join(", ")
    ))
}

#[cfg(test)]
mod tests;
