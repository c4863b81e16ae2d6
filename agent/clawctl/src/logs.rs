//! `clawctl logs`: audit records, past and as they come.

use clawd_audit::{AuditRecord, Digest, Outcome, escape::escape_json, tail};
use clawd_control::{LogQuery, Route};
use http_body_util::BodyExt as _;

use crate::{
    client::Client,
    failure::Failure,
    lines::{Lines, TooLong},
    output::{print, shown, shown_hash},
};

/// Prints the records that `query` asks for; with `json` as they stand in the log.
pub(crate) async fn logs(client: &Client, query: LogQuery, json: bool) -> Result<u8, Failure> {
    let is_endless = query.follow && query.filter.until.is_none();
    let mut body = client.stream(&Route::Logs(query)).await?.into_body();
    // The prefix `data: ` is part of the line.
    let mut lines = Lines::new(tail::LINE_BYTES + 16);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client.broken(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let complete = lines.push(&data);
        let complete =
            complete.map_err(|TooLong| Failure::failed("clawd sent a line without end"))?;
        for line in complete {
            if let Some(record) = record_text(&line) {
                print(&if json {
                    escape_json(record.to_owned())
                } else {
                    rendered(record)
                })?;
            }
        }
    }
    if is_endless {
        return Err(Failure::failed(
            "clawd closed the connection; has it stopped?",
        ));
    }
    Ok(0)
}

/// The record in a line of the event stream; `None` for blank lines, comments and other fields.
pub(crate) fn record_text(line: &[u8]) -> Option<&str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let data = line.strip_prefix(b"data:")?;
    std::str::from_utf8(data.strip_prefix(b" ").unwrap_or(data)).ok()
}

/// One line for people; a record that this version cannot read is shown as it is.
fn rendered(text: &str) -> String {
    match tail::read_line(text.as_bytes()) {
        Ok(record) => shown(&summary(&record)),
        Err(_) => shown(text),
    }
}

fn summary(record: &AuditRecord) -> String {
    let action = match record.action {
        Some(Outcome::Allowed) => "allowed",
        Some(Outcome::Denied) => "DENIED",
        Some(Outcome::Held) => "held",
        Some(Outcome::Audited) => "audited",
        None => "-",
    };
    let sandbox = record.sandbox.as_deref().unwrap_or("-");
    let activity = serde_name(&record.activity);
    let mut line = format!("{} {sandbox} {action} {activity}", record.time);
    if let Some(target) = target(record) {
        line.push_str(&format!(" {target}"));
    }
    if let Some(call) = &record.syscall {
        line.push_str(&format!(" {call}"));
    }
    let pid = record.pid.map(|pid| pid.to_string());
    let short = |digest: Digest| shown_hash(&digest.to_string());
    let pinned = record.pinned_sha256.map(short);
    // Beside what was pinned, what is there is what was found.
    let sha256_name = if pinned.is_some() { "found" } else { "sha256" };
    for (name, value) in [
        ("exe", record.exe.clone()),
        ("pinned", pinned),
        (sha256_name, record.sha256.map(short)),
        ("pid", pid),
        (
            "reason",
            record.reason.map(|reason| reason.name().to_owned()),
        ),
        ("rule", record.rule.clone()),
        ("table", record.syscall_table.clone()),
        ("arguments", record.arguments.clone()),
        ("lineage", lineage(record)),
        ("count", record.count.map(|count| count.to_string())),
        (
            "rolled_back_to",
            record.rolled_back_to.map(|to| to.to_string()),
        ),
        ("caller", record.caller_uid.map(|uid| uid.to_string())),
        ("message", record.message.clone()),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

/// `curl < bash < agent`, the running executable first, where something was denied.
fn lineage(record: &AuditRecord) -> Option<String> {
    if record.action != Some(Outcome::Denied) || record.lineage.is_empty() {
        return None;
    }
    let ancestors = record.lineage.iter().map(|ancestor| &ancestor.exe);
    let names: Vec<String> = std::iter::once(&record.exe)
        .chain(ancestors)
        .map(|exe| exe.as_deref().map_or_else(|| "?".to_owned(), file_name))
        .collect();
    Some(names.join(" < "))
}

/// The last part of a path. A sandbox chooses names, so none may look like two of the line.
fn file_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut shown = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '<' || c.is_whitespace() {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `tcp 192.0.2.1:443`, `tcp [2001:db8::1]:443`, or what kind of socket.
fn target(record: &AuditRecord) -> Option<String> {
    let protocol = match (record.protocol, &record.socket_family) {
        (Some(protocol), _) => protocol.to_string(),
        (None, Some(_)) => "-".to_owned(),
        (None, None) => return None,
    };
    match (record.dst_ip, record.dst_port) {
        (Some(ip), Some(port)) => {
            let to = std::net::SocketAddr::new(ip, port);
            Some(format!("{protocol} {to}"))
        }
        _ => {
            let family = record.socket_family.as_deref().unwrap_or("-");
            let kind = record.socket_type.as_deref().unwrap_or("-");
            Some(format!("{protocol} {family} {kind}"))
        }
    }
}

/// The name under which a plain enum is serialised.
fn serde_name<T: serde::Serialize>(value: &T) -> String {
    crate::output::json(value).trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{record_text, rendered};

    const LINE: &str = r#"{"time":"2026-01-01T00:00:00.000000000Z","seq":4,
        "class":{"name":"Network Activity","uid":4001},"sandbox":"agent","policy_generation":1,
        "pid":77,"exe":"/usr/bin/cu\u001b[31mrl",
        "sha256":"abababababababababababababababababababababababababababababababab",
        "lineage":[],"action":"denied","reason":"port_not_listed","rule":null,"dst_name":null,
        "dst_ip":"2001:db8::1","dst_port":443,"protocol":"tcp","activity":"connect"}"#;

    #[test]
    fn log_record_is_one_line_without_control_characters() {
        assert_eq!(
            rendered(LINE),
            "2026-01-01T00:00:00.000000000Z agent DENIED connect tcp [2001:db8::1]:443 \
             exe=/usr/bin/cu\\u{1b}[31mrl sha256=abababababab pid=77 reason=port_not_listed"
        );
    }

    #[test]
    fn log_denial_shows_the_line_of_executables_and_none_that_a_name_makes_up() {
        let lineage = r#""lineage":[{"exe":"/tmp/ba\u001bsh < sudo","sha256":null},
            {"exe":null,"sha256":null},{"exe":"/opt/agent","sha256":null}]"#;
        let line = LINE.replace(r#""lineage":[]"#, lineage);
        let denied = rendered(&line);
        let want = "lineage=cu\\u{1b}[31mrl < ba\\u{1b}sh\\u{20}\\u{3c}\\u{20}sudo < ? < agent";
        assert!(denied.ends_with(want), "{denied}");
        for action in ["\"allowed\"", "null"] {
            let other = rendered(&line.replace("\"denied\"", action));
            assert!(!other.contains("lineage"), "{other}");
        }
    }

    #[test]
    fn log_of_a_changed_binary_shows_what_was_pinned_and_what_was_found() {
        let pinned = format!(r#""pinned_sha256":"{}","seq""#, "cd".repeat(32));
        let line = LINE
            .replace(r#""seq""#, &pinned)
            .replace("port_not_listed", "binary_changed")
            .replace(r#""rule":null"#, r#""rule":"github""#);
        let shown = rendered(&line);
        let want =
            "pinned=cdcdcdcdcdcd found=abababababab pid=77 reason=binary_changed rule=github";
        assert!(shown.ends_with(want), "{shown}");
    }

    #[test]
    fn log_of_a_refused_call_names_it_and_what_was_tried() {
        let line = r#"{"time":"2026-01-01T00:00:00.000000000Z","seq":4,
            "class":{"name":"Kernel Activity","uid":1003},"sandbox":"agent","policy_generation":1,
            "pid":77,"exe":"/usr/bin/bash","sha256":null,"lineage":[],"action":"denied",
            "reason":"syscall_denied","rule":null,"dst_name":null,"dst_ip":null,"dst_port":null,
            "protocol":null,"activity":"syscall","syscall":"clone",
            "arguments":"flags=CLONE_NEWUSER"}"#;
        assert_eq!(
            rendered(line),
            "2026-01-01T00:00:00.000000000Z agent DENIED syscall clone exe=/usr/bin/bash pid=77 \
             reason=syscall_denied arguments=flags=CLONE_NEWUSER"
        );
        let socket = line.replace("clone", "socket").replace(
            r#""arguments":"flags=CLONE_NEWUSER""#,
            r#""socket_family":"alg""#,
        );
        assert!(rendered(&socket).contains(" syscall - alg - socket exe="));
    }

    #[test]
    fn log_line_of_another_form_is_shown_escaped() {
        assert_eq!(rendered("{\u{7}"), "{\\u{7}");
    }

    #[test]
    fn log_stream_fields_other_than_data_are_passed_over() {
        assert_eq!(record_text(b"data: {}"), Some("{}"));
        assert_eq!(record_text(b"data:{}\r"), Some("{}"));
        for line in [&b""[..], b": ping", b"event: x", b"data: \xff"] {
            assert_eq!(record_text(line), None);
        }
    }
}
