//! Tests of the judgement: each disagreement has to be seen.

use clawd_audit::tail::read_line;

use super::super::attempt::tests::{REACHED, REFUSED, read};
use super::*;

const SHA256: &str = "abababababababababababababababababababababababababababababababab";

/// Judges a line of the agent's that shows what it should show.
pub(in crate::demo) fn judged(line: &str, shows: Shows, expectation: Expectation) -> Judged {
    let attempt = read(line);
    let name: &'static str = if attempt.name == "mapped" {
        "mapped"
    } else {
        "udp-send"
    };
    let row = Row {
        name,
        title: "a title",
        shows,
        hashed: true,
        started_by: None,
    };
    Judged::new(1, row, attempt, SHA256.to_owned(), expectation)
}

pub(in crate::demo) fn allow() -> Expectation {
    let rule = Some("network_policies.web.binaries[0]".to_owned());
    Expectation {
        allowed: true,
        reason: "rule",
        rule,
        pinned: None,
    }
}

pub(in crate::demo) fn refuse() -> Expectation {
    Expectation {
        allowed: false,
        reason: "port_not_listed",
        rule: None,
        pinned: None,
    }
}

pub(in crate::demo) fn record(changes: &[(&str, &str)]) -> AuditRecord {
    let mut text = format!(
        r#"{{"time":"2026-01-01T00:00:00.000000000Z","seq":4,"class":{{"name":"Network Activity","uid":4001}},
        "sandbox":"a","policy_generation":1,"pid":7,"exe":"/usr/bin/curl","sha256":"{SHA256}","lineage":[],
        "action":"allowed","reason":"rule","rule":"network_policies.web.binaries[0]","dst_name":null,
        "dst_ip":"192.0.2.10","dst_port":80,"protocol":"tcp","activity":"connect"}}"#
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    read_line(text.as_bytes()).unwrap()
}

#[test]
fn attempt_that_came_out_as_the_policy_says_has_no_complaint() {
    assert!(!judged(REACHED, Shows::Reached, allow()).has_failed());
    assert!(!judged(REFUSED, Shows::Refused, refuse()).has_failed());
}

#[test]
fn attempt_that_came_out_otherwise_is_a_complaint() {
    assert!(judged(REACHED, Shows::Refused, refuse()).has_failed());
    assert!(judged(REFUSED, Shows::Reached, allow()).has_failed());
    assert!(judged(REACHED, Shows::Refused, allow()).has_failed());
    let late = REFUSED.replace("us=51", "us=1000001");
    assert!(judged(&late, Shows::Refused, refuse()).has_failed());
    let other = REACHED.replace("name=mapped", "name=other");
    assert!(judged(&other, Shows::Reached, allow()).has_failed());
}

#[test]
fn refusal_without_identity_is_only_right_where_nobody_could_hash() {
    let no_identity = Expectation {
        reason: "no_identity",
        ..refuse()
    };
    assert!(judged(REFUSED, Shows::Refused, no_identity).has_failed());
}

#[test]
fn record_that_agrees_is_taken_once() {
    let mut row = judged(REACHED, Shows::Reached, allow());
    let mut records = vec![record(&[("192.0.2.10", "192.0.2.11")]), record(&[])];
    row.take_record(&mut records);
    assert!(!row.has_failed(), "{:?}", row.complaints);
    assert_eq!(records.len(), 1);
    row.take_record(&mut records);
    assert!(row.has_failed());
}

#[test]
fn record_that_disagrees_is_a_complaint() {
    for change in [
        ("\"allowed\"", "\"denied\""),
        ("\"reason\":\"rule\"", "\"reason\":\"port_not_listed\""),
        ("binaries[0]", "binaries[1]"),
        ("ababab", "cdcdcd"),
        ("\"connect\"", "\"sendmsg\""),
        ("\"tcp\"", "\"udp\""),
        (":80,", ":81,"),
    ] {
        let mut row = judged(REACHED, Shows::Reached, allow());
        row.take_record(&mut vec![record(&[change])]);
        assert!(row.has_failed(), "{change:?}");
    }
}

#[test]
fn record_without_the_pinned_content_is_a_complaint() {
    let changed = || Expectation {
        reason: "binary_changed",
        pinned: Some("cd".repeat(32)),
        ..refuse()
    };
    let told = [
        ("\"allowed\"", "\"denied\""),
        ("\"reason\":\"rule\"", "\"reason\":\"binary_changed\""),
        ("\"network_policies.web.binaries[0]\"", "null"),
        ("\"connect\"", "\"sendmsg\""),
        ("\"tcp\"", "\"udp\""),
        (":80,", ":7000,"),
    ];
    let mut row = judged(REFUSED, Shows::Refused, changed());
    row.take_record(&mut vec![record(&told)]);
    assert_eq!(row.complaints.len(), 1, "{:?}", row.complaints);
    let mut record = record(&told);
    record.pinned_sha256 = Some(clawd_audit::Digest([0xcd; 32]));
    let mut row = judged(REFUSED, Shows::Refused, changed());
    row.take_record(&mut vec![record]);
    assert!(!row.has_failed(), "{:?}", row.complaints);
}

#[test]
fn visits_of_servers_are_compared_both_ways() {
    let attempt = read(REACHED);
    let contact = |kind, local: &str| Contact {
        kind,
        local: local.parse().unwrap(),
        peer: "192.0.2.1:5000".parse().unwrap(),
    };
    let wanted = Visits::of([&attempt].into_iter());
    let seen = Visits::seen(&[contact("http", "192.0.2.10:80")]);
    assert!(seen.differences(&wanted).is_empty());
    assert_eq!(Visits::default().differences(&wanted).len(), 1);
    assert_eq!(seen.differences(&Visits::default()).len(), 1);
    let other = Visits::seen(&[contact("udp", "192.0.2.10:80")]);
    assert_eq!(other.differences(&wanted).len(), 2);
}
