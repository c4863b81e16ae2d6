//! `clawctl status`: whether clawd enforces, and what is missing.

use clawd_control::{
    ExecGateStatus, ExitCode, Health, NamedLimits, NamedPromises, PromiseStatus, Route, Status,
};

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
        field("exec gate", gate(&status.exec_gate)),
        field("identities", tables(&status.exec_gate)),
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
    lines.extend(status.limits.iter().map(|of| field("limits", limits(of))));
    lines.extend(promises(&status.promises));
    lines.extend(
        status
            .problems
            .iter()
            .map(|problem| field("problem", shown(problem))),
    );
    lines.join("\n")
}

fn gate(gate: &ExecGateStatus) -> String {
    let state = if gate.running {
        format!("running (pid {})", gate.pid)
    } else {
        "NOT RUNNING".to_owned()
    };
    format!(
        "{state}, {} workers, {} restarts",
        gate.workers, gate.restarts
    )
}

/// How full the tables are that a full one takes grants from.
fn tables(gate: &ExecGateStatus) -> String {
    format!(
        "{} of {} files, {} of {} chains",
        gate.files, gate.files_max, gate.chains, gate.chains_max
    )
}

/// What a sandbox uses of what it may.
fn limits(of: &NamedLimits) -> String {
    let limits = &of.limits;
    let count = |value: Option<u64>| value.map_or("no limit".to_owned(), |value| value.to_string());
    let bytes = |value: Option<u64>| value.map_or("no limit".to_owned(), shown_bytes);
    let cpu = limits
        .cpu_max_percent
        .map(|percent| format!("{}.{:02} CPUs", percent / 100, percent % 100));
    let hit = |count: u64, what: &str| match count {
        0 => String::new(),
        _ => format!(", {count} {what}"),
    };
    format!(
        "{}: processes {} ({} now{}), memory {} ({} now{}), {}, descriptors {} each, files {}",
        of.sandbox,
        count(limits.pids_max),
        limits.pids.unwrap_or(0),
        hit(limits.pids_refused, "forks refused"),
        bytes(limits.memory_max_bytes),
        shown_bytes(limits.memory_bytes.unwrap_or(0)),
        hit(limits.memory_killed, "processes killed"),
        cpu.unwrap_or_else(|| "CPUs no limit".to_owned()),
        count(limits.nofile_max),
        bytes(limits.fsize_max_bytes)
    )
}

/// What holds the promises; sandboxes of which all is the same are named together.
fn promises(all: &[NamedPromises]) -> Vec<String> {
    let mut groups: Vec<(Vec<&str>, &[PromiseStatus])> = Vec::new();
    for of in all {
        let same = groups
            .iter_mut()
            .find(|(_, promises)| *promises == of.promises);
        match same {
            Some((names, _)) => names.push(of.sandbox.as_str()),
            None => groups.push((vec![of.sandbox.as_str()], &of.promises)),
        }
    }
    let mut lines = Vec::new();
    for (names, promises) in groups {
        lines.push(field("kept from", format!("{}:", names.join(", "))));
        lines.extend(promises.iter().map(|status| {
            let held_by: Vec<_> = status.held_by.iter().map(|by| shown(by)).collect();
            let held_by = match held_by.as_slice() {
                [] => "NOTHING HOLDS THIS".to_owned(),
                some => some.join(", "),
            };
            format!("    {:<22} {held_by}", status.promise.to_string())
        }));
    }
    lines
}

/// In mebibytes, as far as there are any.
fn shown_bytes(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{} KiB", bytes >> 10);
    }
    format!("{} MiB", bytes >> 20)
}

fn field(name: &str, value: String) -> String {
    format!("  {name:<10} {value}")
}

#[cfg(test)]
mod tests {
    use clawd_control::{
        EventTotals, ExecGateStatus, Health, HookStatus, NamedLimits, NamedPromises, Promise,
        PromiseStatus, SandboxLimits, SandboxName, Status,
    };

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

    fn gate(running: bool) -> ExecGateStatus {
        ExecGateStatus {
            pid: if running { 12 } else { 0 },
            workers: 2,
            running,
            restarts: 3,
            files: 40,
            files_max: 16_384,
            chains: 50,
            chains_max: 65_536,
        }
    }

    #[test]
    fn status_shows_the_gate_and_its_tables() {
        assert_eq!(
            super::gate(&gate(true)),
            "running (pid 12), 2 workers, 3 restarts"
        );
        assert_eq!(
            super::tables(&gate(true)),
            "40 of 16384 files, 50 of 65536 chains"
        );
    }

    #[test]
    fn status_shows_once_what_several_sandboxes_are_promised() {
        let of = |sandbox: &str, held_by: &[&str]| NamedPromises {
            sandbox: SandboxName::new(sandbox).expect("a name"),
            promises: vec![
                PromiseStatus {
                    promise: Promise::Files,
                    held_by: vec!["mount view".to_owned(), "landlock\u{7} abi 7".to_owned()],
                },
                PromiseStatus {
                    promise: Promise::AbstractSockets,
                    held_by: held_by.iter().map(|by| (*by).to_owned()).collect(),
                },
            ],
        };
        let net = ["network namespace"];
        let all = [of("a", &net), of("b", &[]), of("c", &net)];
        let files = "    files                  mount view, landlock\\u{7} abi 7";
        let want = [
            "  kept from  a, c:",
            files,
            "    abstract unix sockets  network namespace",
            "  kept from  b:",
            files,
            "    abstract unix sockets  NOTHING HOLDS THIS",
        ];
        assert_eq!(super::promises(&all), want);
    }

    #[test]
    fn status_shows_limits_and_that_there_are_none() {
        let mut of = NamedLimits {
            sandbox: SandboxName::new("box").expect("a name"),
            limits: SandboxLimits::default(),
        };
        assert_eq!(
            super::limits(&of),
            "box: processes no limit (0 now), memory no limit (0 KiB now), CPUs no limit, \
             descriptors no limit each, files no limit"
        );
        of.limits = SandboxLimits {
            pids_max: Some(4096),
            pids: Some(3),
            pids_refused: 8,
            memory_max_bytes: Some(4 << 30),
            memory_bytes: Some(700 << 10),
            memory_killed: 0,
            cpu_max_percent: Some(105),
            nofile_max: Some(65_536),
            fsize_max_bytes: Some(1 << 20),
        };
        assert_eq!(
            super::limits(&of),
            "box: processes 4096 (3 now, 8 forks refused), memory 4096 MiB (700 KiB now), 1.05 CPUs, \
             descriptors 65536 each, files 1 MiB"
        );
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
            exec_gate: gate(false),
            sandboxes: 0,
            limits: Vec::new(),
            promises: Vec::new(),
            events: EventTotals::default(),
            health: Health::NotEnforcing,
            problems: vec!["connect6 is\u{7} gone".to_owned()],
        });
        for want in [
            "clawd 0.1.0: NOT ENFORCING",
            "  hook       connect4 attached, 321 instructions",
            "  hook       connect6 NOT ATTACHED",
            "  exec gate  NOT RUNNING, 2 workers, 3 restarts",
            "  identities 40 of 16384 files, 50 of 65536 chains",
            "  problem    connect6 is\\u{7} gone",
        ] {
            assert!(
                text.lines().any(|line| line == want),
                "{want:?} is not in {text}"
            );
        }
    }
}
