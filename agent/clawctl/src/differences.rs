//! `clawctl policy diff`: what one policy lets a sandbox do and another does not, in words.

use std::path::Path;

use clawd_control::{ExitCode, PolicyReport, Route};
use clawd_policy::{
    FileAccess, Policy,
    diff::{Change, FileChange, FileState, NetworkChange, PolicyDiff, SettingChange, Who},
};
use serde::Serialize;

use crate::{
    client::Client,
    command::Old,
    failure::Failure,
    output::{json as to_json, print, shown},
    policy::read,
};

/// As diff(1): what follows where there are differences.
const DIFFERENT: u8 = 1;

/// What `diff --json` prints.
#[derive(Debug, Serialize)]
struct Told<'a> {
    old: String,
    new: String,
    different: bool,
    #[serde(flatten)]
    differences: &'a PolicyDiff,
}

/// Compares a policy with another one, or with the one in force for a sandbox.
pub(crate) async fn diff(client: &Client, old: Old, new: &Path, json: bool) -> Result<u8, Failure> {
    // Exit code 1 says that there are differences, so nothing else may.
    let told = compare(client, old, new).await;
    let (old, new, differences) = told.map_err(|failure| failure.with_code(ExitCode::Usage))?;
    let different = !differences.is_empty();
    let text = if json {
        Some(to_json(&Told {
            old,
            new,
            different,
            differences: &differences,
        }))
    } else {
        different.then(|| rendered(&differences))
    };
    if let Some(text) = text {
        print(&text).map_err(|failure| failure.with_code(ExitCode::Usage))?;
    }
    Ok(if different {
        DIFFERENT
    } else {
        ExitCode::Ok.code()
    })
}

/// What is compared, by name, and how it differs.
async fn compare(
    client: &Client,
    old: Old,
    new: &Path,
) -> Result<(String, String, PolicyDiff), Failure> {
    let new_policy = read(new)?.policy;
    let (old, old_policy) = match old {
        Old::File(path) => (path.display().to_string(), read(&path)?.policy),
        Old::Sandbox(name) => {
            let label = format!("{name} (in force)");
            let report: PolicyReport = client.request(&Route::Policy(name, None)).await?;
            (label, parsed(&report)?)
        }
    };
    let differences = clawd_policy::diff(&old_policy, &new_policy)
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok((old, new.display().to_string(), differences))
}

fn parsed(report: &PolicyReport) -> Result<Policy, Failure> {
    match clawd_policy::parse(&report.policy.file, &report.policy.text) {
        Ok(parsed) => Ok(parsed.policy),
        Err(errors) => Err(Failure::usage(format!(
            "the policy of {} is not one of this version: {errors}",
            report.sandbox
        ))),
    }
}

fn rendered(differences: &PolicyDiff) -> String {
    let network = differences.network.iter().map(network);
    let files = differences.files.iter().map(file);
    let settings = differences.settings.iter().map(setting);
    let lines: Vec<_> = network.chain(files).chain(settings).collect();
    lines.join("\n")
}

/// `+` for what is more than before, `-` for what is less.
fn network(of: &NetworkChange) -> String {
    let except = match of.except.as_slice() {
        [] => String::new(),
        except => {
            let except: Vec<_> = except.iter().map(ToString::to_string).collect();
            format!(" (except {})", except.join(", "))
        }
    };
    let to = format!("{}{except}", of.prefix);
    let service = format!("{} {}", of.protocol, of.ports);
    let who = match &of.who {
        Who::Peers => {
            return match of.change {
                Change::Reached | Change::NotDenied => {
                    format!("+ {to} may connect to the sandbox's {service}")
                }
                Change::NotReached | Change::Denied => {
                    format!("- {to} may no longer connect to the sandbox's {service}")
                }
            };
        }
        Who::EveryProgram => "every program".to_owned(),
        Who::Program(program) => shown(&program.to_string()),
        Who::StartedBy(program) => format!("what {} starts", shown(&program.to_string())),
        Who::ProgramAndStarted(program) => {
            format!("{} and what it starts", shown(&program.to_string()))
        }
    };
    match of.change {
        Change::Reached => format!("+ {who}: may reach {to}, {service}"),
        Change::NotReached => format!("- {who}: may no longer reach {to}, {service}"),
        Change::Denied => format!("- {who}: denied, whatever allows it: {to}, {service}"),
        Change::NotDenied => format!("+ {who}: no longer denied, nor allowed: {to}, {service}"),
    }
}

fn file(of: &FileChange) -> String {
    let path = of.path.as_ref().map(|path| path.display().to_string());
    let path = path.unwrap_or_else(|| "(workspace)".to_owned());
    let (old, new) = (access(of.old.as_ref()), access(of.new.as_ref()));
    format!("~ {}: {old} -> {new}", shown(&path))
}

fn access(state: Option<&FileState>) -> String {
    let Some(state) = state else {
        return "not there".to_owned();
    };
    let access = match state.access {
        FileAccess::Read => "read",
        FileAccess::ReadExecute => "read, execute",
        FileAccess::ReadWrite => "read, write",
        FileAccess::ReadWriteExecute => "read, write, execute",
        FileAccess::Denied => "DENIED",
    };
    match &state.in_place {
        Some(reason) => format!("{access} ({})", shown(reason)),
        None => access.to_owned(),
    }
}

fn setting(of: &SettingChange) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or("-".to_owned(), shown);
    let (old, new) = (value(&of.old), value(&of.new));
    format!("~ {}: {old} -> {new}", shown(&of.key))
}

#[cfg(test)]
mod tests {
    use super::rendered;

    fn told(old: &str, new: &str) -> String {
        let policy = |text: &str| {
            let text = format!("version: 2\n{text}");
            clawd_policy::parse("p", &text).expect("a policy").policy
        };
        let differences = clawd_policy::diff(&policy(old), &policy(new)).expect("small enough");
        rendered(&differences)
    }

    #[test]
    fn differences_are_told_in_words() {
        let old = "filesystem_policy: { read_only: [/srv] }\n\
             process: { pids_max: 9 }\n\
             ingress: [{ port: 8080 }]\n\
             network_policies:\n  \
             g: { endpoints: [{ cidr: 192.0.2.0/24, port: 443 }], binaries: [{ path: /usr/bin/curl }] }\n  \
             h: { action: deny, endpoints: [{ host: 10.0.0.1, port: 1, protocol: tcp }] }\n";
        let new = "filesystem_policy: { read_write: [/srv/a] }\n\
             env: { A: hunter2 }\n\
             network_policies:\n  \
             g: { endpoints: [{ host: 192.0.2.7, ports: [443, 80] }], binaries: [{ path: /usr/bin/curl, descendants: true }] }\n";
        assert_eq!(
            told(old, new),
            "+ every program: no longer denied, nor allowed: 10.0.0.1/32, tcp 1\n\
             - /usr/bin/curl: may no longer reach 192.0.2.0/24 (except 192.0.2.7/32), tcp 443\n\
             + /usr/bin/curl: may reach 192.0.2.7/32, tcp 80\n\
             + what /usr/bin/curl starts: may reach 192.0.2.7/32, tcp 80, 443\n\
             - 0.0.0.0/0 may no longer connect to the sandbox's tcp 8080\n\
             - ::/0 may no longer connect to the sandbox's tcp 8080\n\
             ~ /srv: read -> not there\n\
             ~ /srv/a: read -> read, write\n\
             ~ env.A: - -> (set)\n\
             ~ process.pids_max: 9 -> -"
        );
        assert_eq!(told(old, old), "");
    }
}
