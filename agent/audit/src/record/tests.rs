//! Tests of the record's parts, and records to test others with.

use std::net::IpAddr;

use clawd_common::verdict::Reason;
use proptest::{option, prelude::*, sample::select};

use super::{Activity, Ancestor, AuditRecord, Digest, Outcome, Protocol};
use crate::time::Timestamp;

const ACTIVITIES: &[Activity] = &[
    Activity::Connect,
    Activity::Sendmsg,
    Activity::Socket,
    Activity::Exec,
    Activity::SandboxStarted,
    Activity::SandboxRefused,
    Activity::SandboxStopped,
    Activity::PolicyPushed,
    Activity::PolicyRolledBack,
    Activity::PolicyRefused,
    Activity::BinaryPinned,
    Activity::BinaryChanged,
    Activity::PinForgotten,
    Activity::ProcessIdentified,
    Activity::GateRestarted,
    Activity::ExecsUnseen,
    Activity::DaemonStarted,
    Activity::DaemonTookOver,
    Activity::DaemonStopped,
    Activity::EventsLost,
    Activity::Unknown,
];

const OUTCOMES: &[Outcome] = &[
    Outcome::Allowed,
    Outcome::Denied,
    Outcome::Held,
    Outcome::Audited,
];

type Who = (
    Option<String>,
    Option<u64>,
    Option<u32>,
    Option<String>,
    Option<Digest>,
);
type What = (
    Option<Outcome>,
    Option<Reason>,
    Option<IpAddr>,
    Option<u16>,
    Option<u16>,
);

fn who() -> impl Strategy<Value = Who> {
    (
        option::of(select(vec![
            "a".to_owned(),
            "b".to_owned(),
            "\u{1b}\n\0".to_owned(),
        ])),
        any::<Option<u64>>(),
        any::<Option<u32>>(),
        any::<Option<String>>(),
        any::<Option<[u8; 32]>>().prop_map(|bytes| bytes.map(Digest)),
    )
}

fn what() -> impl Strategy<Value = What> {
    (
        option::of(select(OUTCOMES)),
        option::of(select(Reason::ALL)),
        any::<Option<IpAddr>>(),
        any::<Option<u16>>(),
        any::<Option<u16>>(),
    )
}

/// Any record.
pub(crate) fn any_record() -> impl Strategy<Value = AuditRecord> {
    let times = (0..i128::from(u64::MAX)).prop_map(Timestamp::from_unix_ns);
    let rest = (
        any::<Option<u64>>(),
        any::<Option<String>>(),
        any::<Option<String>>(),
        any::<Option<[u8; 32]>>().prop_map(|bytes| bytes.map(Digest)),
    );
    (times, any::<u64>(), select(ACTIVITIES), who(), what(), rest).prop_map(
        |(time, seq, activity, who, what, rest)| {
            let exe = who.3.clone();
            AuditRecord {
                seq,
                sandbox: who.0,
                policy_generation: who.1,
                pid: who.2,
                exe: who.3,
                sha256: who.4,
                lineage: vec![Ancestor { exe, sha256: who.4 }],
                action: what.0,
                reason: what.1,
                dst_ip: what.2,
                dst_port: what.3,
                protocol: what.4.map(Protocol),
                tid: who.2,
                caller_uid: who.2,
                rolled_back_to: who.1,
                count: rest.0,
                rule: rest.1,
                message: rest.2,
                pinned_sha256: rest.3,
                ..AuditRecord::new(time, activity)
            }
        },
    )
}

proptest! {
    #[test]
    fn digest_round_trips(bytes in any::<[u8; 32]>()) {
        let text = Digest(bytes).to_string();
        prop_assert_eq!(text.len(), 64);
        prop_assert_eq!(text.parse(), Ok(Digest(bytes)));
    }

    #[test]
    fn protocol_round_trips(number in any::<u16>()) {
        prop_assert_eq!(Protocol(number).to_string().parse(), Ok(Protocol(number)));
    }
}

#[test]
fn digest_out_of_form_is_refused() {
    for text in [
        String::new(),
        "a".repeat(63),
        "a".repeat(65),
        "A".repeat(64),
        "g".repeat(64),
    ] {
        assert!(text.parse::<Digest>().is_err(), "{text:?}");
    }
}

#[test]
fn activity_has_its_documented_name() {
    for (activity, name) in [
        (Activity::PolicyRolledBack, "policy_rolled_back"),
        (Activity::BinaryPinned, "binary_pinned"),
        (Activity::BinaryChanged, "binary_changed"),
        (Activity::PinForgotten, "pin_forgotten"),
        (Activity::ProcessIdentified, "process_identified"),
        (Activity::GateRestarted, "gate_restarted"),
        (Activity::ExecsUnseen, "execs_unseen"),
    ] {
        let json = serde_json::to_string(&activity).expect("serialises");
        assert_eq!(json, format!("\"{name}\""));
    }
}

#[test]
fn record_of_a_later_version_is_read() {
    let record = AuditRecord::new(Timestamp::from_unix_ns(0), Activity::Connect);
    let text = serde_json::to_string(&record).expect("serialises");
    let later = text
        .replace("\"connect\"", "\"teleport\"")
        .replace("\"reason\":null", "\"reason\":\"moon_phase\"")
        .replacen('{', "{\"signature\":\"x\",", 1);
    let got: AuditRecord = serde_json::from_str(&later).expect("is read");
    assert_eq!(got.activity, Activity::Unknown);
    assert_eq!(got.reason, Some(Reason::Unknown));
}

#[test]
fn outcome_has_its_name_of_json() {
    for outcome in OUTCOMES {
        let name = serde_json::to_string(outcome).expect("serialises");
        assert_eq!(name, format!("\"{outcome}\""));
        assert_eq!(outcome.to_string().parse(), Ok(*outcome));
    }
    assert!("Denied".parse::<Outcome>().is_err());
}
