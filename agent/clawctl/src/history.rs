//! `clawctl policy history` and `rollback`: the policies that a running sandbox has had.

use clawd_control::{ExitCode, GenerationInfo, PushReport, RollbackRequest, Route, SandboxName};
use serde::Serialize;

use crate::{
    client::Client,
    failure::Failure,
    output::{json as to_json, print, shown, shown_hash},
    policy::in_force,
    table::table,
};

/// What `history --json` prints.
#[derive(Debug, Serialize)]
struct History<'a> {
    sandbox: SandboxName,
    generations: &'a [GenerationInfo],
}

/// Lists the policies that are kept, oldest first.
pub(crate) async fn history(client: &Client, name: SandboxName, json: bool) -> Result<u8, Failure> {
    let route = Route::History(name.clone());
    let generations: Vec<GenerationInfo> = client.request(&route).await?;
    print(&if json {
        to_json(&History {
            sandbox: name,
            generations: &generations,
        })
    } else {
        rendered(&generations)
    })?;
    Ok(ExitCode::Ok.code())
}

/// Puts an earlier policy in force again.
pub(crate) async fn rollback(
    client: &Client,
    name: SandboxName,
    request: &RollbackRequest,
    json: bool,
) -> Result<u8, Failure> {
    let route = Route::Rollback(name);
    let report: PushReport = client.request_with(&route, request).await?;
    in_force(&report, json)
}

fn rendered(generations: &[GenerationInfo]) -> String {
    let rows: Vec<_> = generations.iter().map(row).collect();
    let headings = [
        "GENERATION",
        "PUSHED",
        "UID",
        "SHA-256",
        "BYTES",
        "NOTE",
        "FILE",
    ];
    table(headings, &rows)
}

fn row(of: &GenerationInfo) -> [String; 7] {
    let mut notes = Vec::new();
    if of.in_force {
        notes.push("in force".to_owned());
    }
    notes.extend(of.rolled_back_to.map(|to| format!("back to {to}")));
    let note = if notes.is_empty() {
        "-".to_owned()
    } else {
        notes.join(", ")
    };
    let unknown = || "-".to_owned();
    [
        of.generation.to_string(),
        of.pushed_at.as_deref().map_or_else(unknown, shown),
        of.caller_uid.map_or_else(unknown, |uid| uid.to_string()),
        shown_hash(&of.sha256),
        of.text_bytes.to_string(),
        note,
        shown(&of.file),
    ]
}

#[cfg(test)]
mod tests {
    use clawd_control::GenerationInfo;

    use super::rendered;

    #[test]
    fn history_shows_who_pushed_what_and_what_is_in_force() {
        let first = GenerationInfo {
            generation: 9,
            in_force: false,
            pushed_at: None,
            caller_uid: None,
            rolled_back_to: None,
            file: "p\u{1b}.yaml".to_owned(),
            sha256: "ab".repeat(32),
            text_bytes: 20,
        };
        let second = GenerationInfo {
            generation: 10,
            in_force: true,
            pushed_at: Some("2026-01-01T00:00:00Z".to_owned()),
            caller_uid: Some(1000),
            rolled_back_to: Some(3),
            ..first.clone()
        };
        assert_eq!(
            rendered(&[first, second]),
            "GENERATION  PUSHED                UID   SHA-256       BYTES  NOTE                 FILE\n\
             9           -                     -     abababababab  20     -                    p\\u{1b}.yaml\n\
             10          2026-01-01T00:00:00Z  1000  abababababab  20     in force, back to 3  p\\u{1b}.yaml"
        );
    }
}
