//! `clawctl logs`: audit records, past and as they come.

use clawd_audit::{AuditRecord, Outcome, escape::escape_json, tail};
use clawd_control::{LogQuery, Route};
use http_body_util::BodyExt as _;

use crate::{
    client::Client,
    failure::Failure,
    lines::{Lines, TooLong},
    output::{print, shown},
};

/// Prints the records that `query` asks for; with `json` as they stand in the log.
pub(crate) async fn logs(client: &Client, query: LogQuery, json: bool) -> Result<u8, Failure> {
    let follow = query.follow;
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
    if follow {
        return Err(Failure::failed(
            "clawd closed the connection; has it stopped?",
        ));
    }
    Ok(0)
}

/// The record in a line of the event stream; `None` for blank lines, comments and other fields.
fn record_text(line: &[u8]) -> Option<&str> {
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
    let pid = record.pid.map(|pid| pid.to_string());
    let sha256 = record
        .sha256
        .map(|digest| digest.to_string().chars().take(12).collect());
    for (name, value) in [
        ("exe", record.exe.clone()),
        ("sha256", sha256),
        ("pid", pid),
        (
            "reason",
            record.reason.map(|reason| reason.name().to_owned()),
        ),
        ("rule", record.rule.clone()),
        ("count", record.count.map(|count| count.to_string())),
        ("message", record.message.clone()),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

/// `tcp 192.0.2.1:443`, `tcp [2001:db8::1]:443`, or what kind of socket.
fn target(record: &AuditRecord) -> Option<String> {
    let protocol = record.protocol?;
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
