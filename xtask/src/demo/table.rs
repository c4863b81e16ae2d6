//! The demo's output, within 120 columns.

use std::path::Path;

use clawd_audit::{Activity, AuditRecord, Outcome};
use clawd_common::verdict::Reason;

use super::attempt::{Attempt, Call};
use super::judge::Judged;

/// Digits of a hash that are shown.
const HASH_CHARS: usize = 12;

/// The line above the table.
pub(super) fn headings() -> String {
    line([
        "#",
        "tried",
        "binary (sha256)",
        "policy says",
        "what happened",
        "",
    ])
}

/// One row of the table.
pub(super) fn row(judged: &Judged) -> String {
    let mark = if judged.has_failed() { "FAILED" } else { "ok" };
    line([
        &judged.number.to_string(),
        &tried(&judged.attempt),
        &format!(
            "{} {}",
            file_name(&judged.attempt.program),
            short(&judged.sha256)
        ),
        &judged.expectation.in_words(),
        &judged.attempt.outcome(),
        mark,
    ])
}

fn line(cells: [&str; 6]) -> String {
    let [number, tried, binary, says, happened, mark] = cells;
    format!("{number:>3} {tried:<36} {binary:<26} {says:<26} {happened:<17} {mark}")
        .trim_end()
        .to_owned()
}

/// `tcp connect [2001:db8::10]:80`
fn tried(attempt: &Attempt) -> String {
    let call = match attempt.call {
        Call::Connect => "connect",
        Call::Sendmsg => "sendto",
    };
    // As the program wrote it: Rust shows mapped addresses in the same way.
    format!("{} {call} {}", attempt.protocol.name(), attempt.to)
}

/// The row's number and title, and below it the audit record behind it.
pub(super) fn audit(judged: &Judged) -> String {
    let record = judged
        .record
        .as_ref()
        .map_or_else(|| "no record".to_owned(), summary);
    format!("{:>3}  {}\n     {record}", judged.number, judged.row.title)
}

/// A record in one line: its number in the log, what it is about, and why it was decided so.
pub(super) fn summary(record: &AuditRecord) -> String {
    let mut words = vec![format!("#{}", record.seq)];
    let action = match record.action {
        Some(Outcome::Allowed) => "allowed",
        Some(Outcome::Denied) => "DENIED",
        Some(Outcome::Held) => "held",
        Some(Outcome::Audited) => "audited",
        None => "",
    };
    words.extend((!action.is_empty()).then(|| action.to_owned()));
    words.push(activity(record.activity).to_owned());
    if let (Some(protocol), Some(ip), Some(port)) =
        (record.protocol, record.dst_ip, record.dst_port)
    {
        words.push(format!(
            "{protocol} {}",
            std::net::SocketAddr::new(ip, port)
        ));
    }
    let sha256 = record.sha256.map(|digest| digest.to_string());
    let pinned = record.pinned_sha256.map(|digest| digest.to_string());
    let exe = record.exe.as_deref().map(|exe| file_name(Path::new(exe)));
    let fields = [
        ("exe", exe),
        (
            "sha256",
            sha256.as_deref().map(|digest| short(digest).to_owned()),
        ),
        (
            "pinned",
            pinned.as_deref().map(|digest| short(digest).to_owned()),
        ),
        (
            "reason",
            record
                .reason
                .filter(|reason| *reason != Reason::Rule)
                .map(|reason| reason.name().to_owned()),
        ),
        ("rule", record.rule.clone()),
        ("message", record.message.clone()),
    ];
    words.extend(
        fields
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?))),
    );
    words.join(" ")
}

fn activity(activity: Activity) -> &'static str {
    match activity {
        Activity::Connect => "connect",
        Activity::Sendmsg => "sendmsg",
        Activity::Socket => "socket",
        Activity::Exec => "exec",
        Activity::SandboxStarted => "sandbox_started",
        Activity::SandboxStopped => "sandbox_stopped",
        Activity::BinaryPinned => "binary_pinned",
        Activity::BinaryChanged => "binary_changed",
        Activity::ProcessIdentified => "process_identified",
        Activity::DaemonStarted => "daemon_started",
        Activity::DaemonTookOver => "daemon_took_over",
        _ => "other",
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn short(sha256: &str) -> &str {
    sha256.get(..HASH_CHARS).unwrap_or(sha256)
}

#[cfg(test)]
mod tests {
    use super::super::attempt::tests::{REACHED, REFUSED};
    use super::super::judge::tests::{allow, judged, record, refuse};
    use super::super::rows::Shows;
    use super::*;

    /// Columns that every line of the demo fits into.
    const COLUMNS: usize = 120;

    #[test]
    fn longest_row_fits_the_screen() {
        let line = REACHED
            .replace("port=80", "port=65535")
            .replace("/usr/bin/curl", "tools/fetch-changed")
            .replace("us=1249", "us=4999940")
            .replace("exit=0", "exit=7");
        let mut expectation = refuse();
        expectation.reason = "address_not_listed";
        let row = row(&judged(&line, Shows::Refused, expectation));
        assert!(row.chars().count() <= COLUMNS, "{row}");
        assert!(row.ends_with("FAILED"), "{row}");
    }

    #[test]
    fn row_and_headings_stand_in_columns() {
        let row = row(&judged(REFUSED, Shows::Refused, refuse()));
        let column = |text: &str, word: &str| text.find(word).unwrap();
        assert_eq!(column(&headings(), "binary"), column(&row, "python3"));
        assert_eq!(column(&headings(), "policy says"), column(&row, "refuse:"));
        assert_eq!(column(&headings(), "what"), column(&row, "EPERM"));
        assert!(row.ends_with("ok"), "{row}");
    }

    #[test]
    fn record_is_one_line_that_names_its_rule() {
        let text = summary(&record(&[("192.0.2.10", "2001:db8::10")]));
        assert_eq!(
            text,
            "#4 allowed connect tcp [2001:db8::10]:80 exe=curl sha256=abababababab \
             rule=network_policies.web.binaries[0]"
        );
        assert!(!row(&judged(REACHED, Shows::Reached, allow())).contains("FAILED"));
    }
}
