//! Tests of the conversion from events to records.

use clawd_common::{
    addr::Addr,
    event::{Event, EventKind},
    record::{FileKey, ProcessKey},
    verdict::{Action, NO_GRANT, Reason},
};

use super::{Names, record};
use crate::{
    record::{Activity, AuditRecord, Outcome},
    time::{Clock, Timestamp},
};

/// Knows sandbox 3, policy 5 with one entry, and file 9.
struct Known;

impl Names for Known {
    fn sandbox(&self, id: u32) -> Option<String> {
        (id == 3).then(|| "agent".to_owned())
    }

    fn generation(&self, policy_id: u32) -> Option<u64> {
        (policy_id == 5).then_some(2)
    }

    fn grant(&self, policy_id: u32, grant_index: u32) -> Option<String> {
        (policy_id == 5 && grant_index == 0).then(|| "github".to_owned())
    }

    fn file(&self, file_id: u32) -> Option<(String, [u8; 32])> {
        (file_id == 9).then(|| ("/usr/bin/cu\u{1b}rl\n".to_owned(), [0xab; 32]))
    }

    fn unidentified(&self, file: &FileKey) -> Option<(String, Reason)> {
        (file.ino == 11).then(|| ("/tmp/copy".to_owned(), Reason::WritableMount))
    }
}

#[test]
fn exec_without_identity_tells_the_gates_reason_and_path() {
    let exec = Event {
        file_id: 0,
        file: FileKey {
            ino: 11,
            ..FileKey::ZERO
        },
        kind_raw: EventKind::Exec as u8,
        reason_raw: Reason::NotHashed.to_raw(),
        ..event()
    };
    let record = super::record(
        &exec,
        &Known,
        &Clock {
            boot_to_wall_offset_ns: 0,
        },
    );
    assert_eq!(record.exe.as_deref(), Some("/tmp/copy"));
    assert_eq!(record.reason, Some(Reason::WritableMount));
    assert_eq!(record.sha256, None);
}

fn event() -> Event {
    Event {
        boottime_ns: 1_000_000_042,
        process: ProcessKey {
            tgid: 77,
            ..ProcessKey::ZERO
        },
        sandbox_id: 3,
        policy_id: 5,
        file_id: 9,
        tid: 78,
        grant_index: 0,
        addr: Addr::v4([192, 0, 2, 1]),
        port: 443,
        kind_raw: EventKind::Connect as u8,
        action_raw: Action::Allowed.to_raw(),
        reason_raw: Reason::Rule.to_raw(),
        protocol: 6,
        ..Event::ZERO
    }
}

fn converted(event: &Event) -> AuditRecord {
    let clock = Clock::new(0, Timestamp::from_unix_ns(0));
    record(event, &Known, &clock)
}

#[test]
fn record_of_a_connect_has_the_documented_line() {
    let line = serde_json::to_string(&converted(&event())).expect("serialises");
    let want = concat!(
        r#"{"time":"1970-01-01T00:00:01.000000042Z","seq":0,"#,
        r#""class":{"name":"Network Activity","uid":4001},"#,
        r#""sandbox":"agent","policy_generation":2,"pid":77,"#,
        r#""exe":"/usr/bin/cu\u001brl\n","#,
        r#""sha256":"abababababababababababababababababababababababababababababababab","#,
        r#""lineage":[],"action":"allowed","reason":"rule","rule":"github","dst_name":null,"#,
        r#""dst_ip":"192.0.2.1","dst_port":443,"protocol":"tcp","activity":"connect","tid":78}"#,
    );
    assert_eq!(line, want);
}

#[test]
fn record_of_unknown_numbers_shows_the_numbers() {
    let got = converted(&Event {
        sandbox_id: 4,
        policy_id: 6,
        file_id: 10,
        grant_index: 7,
        ..event()
    });
    assert_eq!(got.sandbox.as_deref(), Some("#4"));
    assert_eq!(got.rule.as_deref(), Some("#7"));
    assert_eq!(
        (got.policy_generation, got.exe, got.sha256),
        (None, None, None)
    );
}

#[test]
fn record_of_an_event_of_nothing_is_a_denial() {
    let got = converted(&Event {
        grant_index: NO_GRANT,
        ..Event::ZERO
    });
    assert_eq!(got.action, Some(Outcome::Denied));
    assert_eq!(got.reason, Some(Reason::Unknown));
    assert_eq!(got.activity, Activity::Unknown);
    assert_eq!(
        (got.sandbox, got.pid, got.tid, got.rule),
        (None, None, None, None)
    );
    assert_eq!(got.message.as_deref(), Some("event of unknown kind 0"));
}

#[test]
fn record_of_unknown_bytes_is_a_denial() {
    let got = converted(&Event {
        action_raw: 200,
        reason_raw: 200,
        addr: Addr {
            family: 99,
            octets: [1; 16],
        },
        ..event()
    });
    assert_eq!(got.action, Some(Outcome::Denied));
    assert_eq!(got.reason, Some(Reason::Unknown));
    assert_eq!(got.dst_ip, None);
}

#[test]
fn record_of_a_socket_names_family_type_and_protocol() {
    let socket = |family: u32, kind: u32, protocol| {
        let got = converted(&Event {
            kind_raw: EventKind::Socket as u8,
            socket_kind: family << 16 | kind,
            protocol,
            ..event()
        });
        assert_eq!((got.dst_ip, got.dst_port), (None, None));
        let protocol = got.protocol.map(|protocol| protocol.to_string());
        (got.socket_family, got.socket_type, protocol)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        socket(10, 3, 58),
        (text("inet6"), text("raw"), text("ipv6-icmp"))
    );
    assert_eq!(
        socket(2, 1, 262),
        (text("inet"), text("stream"), text("mptcp"))
    );
    assert_eq!(socket(38, 9, 999), (text("38"), text("9"), text("999")));
}

#[test]
fn record_of_an_exec_is_process_activity_without_destination() {
    let got = converted(&Event {
        kind_raw: EventKind::Exec as u8,
        reason_raw: Reason::Identified.to_raw(),
        ..event()
    });
    assert_eq!(got.class.uid, 1007);
    assert_eq!((got.dst_ip, got.dst_port, got.protocol), (None, None, None));
    assert_eq!(got.reason, Some(Reason::Identified));
}

#[test]
fn record_of_ipv6_has_its_shortest_text() {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    octets[15] = 1;
    let got = converted(&Event {
        addr: Addr::v6(octets),
        ..event()
    });
    assert_eq!(
        got.dst_ip.map(|ip| ip.to_string()).as_deref(),
        Some("2001:db8::1")
    );
}
