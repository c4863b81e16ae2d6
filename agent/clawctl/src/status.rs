//! `clawctl status`: whether clawd enforces, and what is missing.

use clawd_control::{ExitCode, Health, Route, Status};

use crate::{
    client::Client,
    failure::Failure,
    output::{json as to_json, print, shown},
};

/// Prints the status; the exit code says how much of the promise holds.
pub(crate) async fn status(client: &Client, json: bool) -> Result<u8, Failure> {
    let answer = client.request(&Route::Status).await;
    // Who cannot be asked cannot be relied on.
    let status: Status = answer.map_err(|failure| failure.with_code(ExitCode::Usage))?;
    print(&if json {
        to_json(&status)
    } else {
        rendered(&status)
    })?;
    Ok(exit_code(status.health))
}

fn exit_code(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::NotEnforcing => 2,
    }
}

fn rendered(status: &Status) -> String {
    let health = match status.health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::NotEnforcing => "NOT ENFORCING",
    };
    let events = status.events;
    let gate = if status.exec_gate.running {
        "running"
    } else {
        "not running"
    };
    let mut lines = vec![
        format!("clawd {}: {health}", shown(&status.version)),
        field(
            "pid",
            format!("{} (since {})", status.pid, shown(&status.started_at)),
        ),
        field("kernel", shown(&status.kernel)),
        field(
            "bpffs",
            format!("{} (layouts {})", shown(&status.bpffs), status.abi_version),
        ),
        field("cgroup", shown(&status.cgroup_parent)),
        field("state", shown(&status.state_dir)),
        field(
            "exec gate",
            format!("{gate}, {} workers", status.exec_gate.workers),
        ),
        field("sandboxes", status.sandboxes.to_string()),
        field(
            "events",
            format!(
                "{} allowed, {} denied, {} lost",
                events.allowed, events.denied, events.lost
            ),
        ),
    ];
    lines.extend(status.hooks.iter().map(|hook| {
        let state = if hook.attached {
            "attached"
        } else {
            "NOT ATTACHED"
        };
        let size = hook
            .instructions
            .map(|count| format!(", {count} instructions"));
        field(
            "hook",
            format!("{} {state}{}", shown(&hook.name), size.unwrap_or_default()),
        )
    }));
    lines.extend(
        status
            .problems
            .iter()
            .map(|problem| field("problem", shown(problem))),
    );
    lines.join("\n")
}

fn field(name: &str, value: String) -> String {
    format!("  {name:<10} {value}")
}

#[cfg(test)]
mod tests {
    use clawd_control::{EventTotals, ExecGateStatus, Health, HookStatus, Status};

    use super::{exit_code, rendered};

    #[test]
    fn status_exit_code_follows_health() {
        for (health, want) in [
            (Health::Healthy, 0),
            (Health::Degraded, 1),
            (Health::NotEnforcing, 2),
        ] {
            assert_eq!(exit_code(health), want);
        }
    }

    #[test]
    fn status_names_what_is_not_attached_and_every_problem() {
        let hook = |name: &str, attached| HookStatus {
            name: name.to_owned(),
            attached,
            program_id: 5,
            instructions: attached.then_some(321),
        };
        let text = rendered(&Status {
            version: "0.1.0".to_owned(),
            abi_version: 1,
            pid: 9,
            started_at: "then".to_owned(),
            uptime_s: 1,
            kernel: "6.12".to_owned(),
            bpffs: "/b".to_owned(),
            cgroup_parent: "/c".to_owned(),
            state_dir: "/s".to_owned(),
            hooks: vec![hook("connect4", true), hook("connect6", false)],
            exec_gate: ExecGateStatus {
                workers: 2,
                running: false,
            },
            sandboxes: 0,
            events: EventTotals::default(),
            health: Health::NotEnforcing,
            problems: vec!["connect6 is\u{7} gone".to_owned()],
        });
        for want in [
            "clawd 0.1.0: NOT ENFORCING",
            "  hook       connect4 attached, 321 instructions",
            "  hook       connect6 NOT ATTACHED",
            "  exec gate  not running, 2 workers",
            "  problem    connect6 is\\u{7} gone",
        ] {
            assert!(
                text.lines().any(|line| line == want),
                "{want:?} is not in {text}"
            );
        }
    }
}
