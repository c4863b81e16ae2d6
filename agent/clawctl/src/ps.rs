//! `clawctl ps`: the sandboxes that run.

use clawd_control::{Route, SandboxInfo};

use crate::{
    client::Client,
    failure::Failure,
    output::{json as to_json, print, shown},
    table::table,
};

/// Columns of a command that are shown.
const COMMAND_CHARS: usize = 60;

/// Lists the sandboxes; with `json` as `{"sandboxes":[...]}`.
pub(crate) async fn ps(client: &Client, json: bool) -> Result<u8, Failure> {
    let sandboxes: Vec<SandboxInfo> = client.request(&Route::Sandboxes).await?;
    if json {
        print(&format!("{{\"sandboxes\":{}}}", to_json(&sandboxes)))?;
    } else {
        print(&rendered(&sandboxes))?;
    }
    Ok(0)
}

fn rendered(sandboxes: &[SandboxInfo]) -> String {
    let rows: Vec<_> = sandboxes.iter().map(row).collect();
    let headings = [
        "NAME",
        "PID",
        "NETWORK",
        "POLICY",
        "GENERATION",
        "STARTED",
        "COMMAND",
    ];
    table(headings, &rows)
}

fn row(sandbox: &SandboxInfo) -> [String; 7] {
    [
        sandbox.name.to_string(),
        sandbox.pid.to_string(),
        sandbox.network.name().to_owned(),
        shown(&sandbox.policy_file),
        sandbox.policy_generation.to_string(),
        shown(&sandbox.started_at),
        command(&sandbox.command),
    ]
}

/// The words on one line, cut after [`COMMAND_CHARS`].
fn command(words: &[String]) -> String {
    let line = shown(&words.join(" "));
    match line.char_indices().nth(COMMAND_CHARS) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::{command, rendered};

    #[test]
    fn ps_shows_what_clawd_says_without_control_characters() {
        let text = r#"[{"name":"a","sandbox_id":1,"pid":7,"command":["sh","-c","\u001b[2J"],
            "user":1000,"network":"none","policy_file":"p.yaml","policy_generation":2,
            "policy_id":9,"started_at":"2026-01-01T00:00:00Z","layers":{"landlock_abi":7,
            "landlock":"fully_enforced","seccomp_profile":"default","seccomp_filters":3,
            "memory_deny_write_execute":false,"namespaces":["pid"],"mounts":9,"uid":1000,
            "gid":1000,"no_new_privs":true,"capabilities_empty":true,"cgroup":"/clawd/a"},
            "limits":{"pids_max":9,"pids_refused":0,"memory_killed":0},
            "counters":{"allowed":1,"denied":2,"events_lost":0},"adopted":false}]"#;
        let sandboxes: Vec<_> = serde_json::from_str(text).expect("of the API's form");
        assert_eq!(
            rendered(&sandboxes),
            "NAME  PID  NETWORK  POLICY  GENERATION  STARTED               COMMAND\n\
             a     7    none     p.yaml  2           2026-01-01T00:00:00Z  sh -c \\u{1b}[2J"
        );
    }

    #[test]
    fn ps_long_command_is_cut() {
        let shown = command(&["é".repeat(100)]);
        assert_eq!(shown, format!("{}...", "é".repeat(60)));
    }
}
