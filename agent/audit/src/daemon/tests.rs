//! What records of the daemon say.

use clawd_common::verdict::Reason;

use super::{DaemonEvent, MESSAGE_BYTES};
use crate::{
    record::{Activity, Digest, Outcome},
    time::Timestamp,
};

#[test]
fn daemon_refusal_is_a_denial_with_its_cause() {
    let record = DaemonEvent::SandboxRefused {
        sandbox: Some("a"),
        message: "no bpf",
    }
    .record(Timestamp::from_unix_ns(0));
    assert_eq!(record.activity, Activity::SandboxRefused);
    assert_eq!(record.action, Some(Outcome::Denied));
    assert_eq!(record.sandbox.as_deref(), Some("a"));
    assert_eq!(record.message.as_deref(), Some("no bpf"));
    assert_eq!(record.class.uid, 1007);
}

#[test]
fn daemon_limit_hit_is_a_denial_with_its_limit_and_count() {
    let hit = DaemonEvent::LimitHit {
        sandbox: "a",
        reason: Reason::PidsLimit,
        count: 3,
    };
    let record = hit.record(Timestamp::from_unix_ns(0));
    assert_eq!(record.activity, Activity::LimitHit);
    assert_eq!(
        (record.action, record.count),
        (Some(Outcome::Denied), Some(3))
    );
    assert_eq!(record.reason, Some(Reason::PidsLimit));
    assert_eq!(
        (record.sandbox.as_deref(), record.class.uid),
        (Some("a"), 1007)
    );
}

#[test]
fn daemon_change_of_a_policy_names_who_asked_and_what_is_in_force() {
    let (sandbox, generation, caller_uid) = ("a", 7, 1000);
    for (event, activity, outcome, rolled_back_to) in [
        (
            DaemonEvent::PolicyPushed {
                sandbox,
                generation,
                caller_uid,
                file: "said",
            },
            Activity::PolicyPushed,
            Outcome::Allowed,
            None,
        ),
        (
            DaemonEvent::PolicyRolledBack {
                sandbox,
                generation,
                rolled_back_to: 3,
                caller_uid,
                file: "said",
            },
            Activity::PolicyRolledBack,
            Outcome::Allowed,
            Some(3),
        ),
        (
            DaemonEvent::PolicyRefused {
                sandbox,
                generation,
                caller_uid,
                message: "said",
            },
            Activity::PolicyRefused,
            Outcome::Denied,
            None,
        ),
    ] {
        let record = event.record(Timestamp::from_unix_ns(0));
        assert_eq!((record.activity, record.action), (activity, Some(outcome)));
        assert_eq!(record.rolled_back_to, rolled_back_to);
        assert_eq!(record.policy_generation, Some(generation));
        assert_eq!(record.caller_uid, Some(caller_uid));
        assert_eq!(record.message.as_deref(), Some("said"));
        let whose = (record.sandbox.as_deref(), record.class.uid);
        assert_eq!(whose, (Some("a"), 3004));
    }
}

#[test]
fn daemon_lost_events_carry_their_count_and_judge_nothing() {
    let lost = DaemonEvent::EventsLost {
        sandbox: None,
        count: 7,
    };
    let record = lost.record(Timestamp::from_unix_ns(0));
    assert_eq!((record.count, record.action), (Some(7), None));
}

#[test]
fn daemon_events_of_pins_name_file_and_rule_and_judge_nothing() {
    let (pinned, found) = (Digest([1; 32]), Digest([2; 32]));
    let record = DaemonEvent::BinaryChanged {
        sandbox: "a",
        path: "/usr/bin/curl",
        pinned,
        found,
        rule: "github",
    }
    .record(Timestamp::from_unix_ns(0));
    assert_eq!(record.activity, Activity::BinaryChanged);
    assert_eq!((record.class.uid, record.action), (3004, None));
    assert_eq!(record.sandbox.as_deref(), Some("a"));
    assert_eq!(record.exe.as_deref(), Some("/usr/bin/curl"));
    assert_eq!(
        (record.sha256, record.pinned_sha256),
        (Some(found), Some(pinned))
    );
    assert_eq!(record.rule.as_deref(), Some("github"));

    let (path, sha256) = ("/usr/bin/curl", pinned);
    let sandbox = "a";
    for (event, activity, uid, pid) in [
        (
            DaemonEvent::BinaryPinned {
                sandbox,
                path,
                sha256,
            },
            Activity::BinaryPinned,
            3004,
            None,
        ),
        (
            DaemonEvent::PinForgotten { path, sha256 },
            Activity::PinForgotten,
            3004,
            None,
        ),
        (
            DaemonEvent::ProcessIdentified {
                sandbox,
                pid: 7,
                path,
                sha256,
            },
            Activity::ProcessIdentified,
            1007,
            Some(7),
        ),
    ] {
        let record = event.record(Timestamp::from_unix_ns(0));
        assert_eq!((record.activity, record.class.uid), (activity, uid));
        assert_eq!((record.action, record.pid), (None, pid));
        let named = (record.exe.as_deref(), record.sha256);
        assert_eq!(named, (Some(path), Some(sha256)));
        let known = record.sandbox.is_some();
        assert_eq!(known, activity != Activity::PinForgotten);
        assert_eq!(record.pinned_sha256, None);
    }
}

#[test]
fn daemon_events_of_the_gate_have_message_and_count() {
    let record = DaemonEvent::GateRestarted { message: "killed" };
    let record = record.record(Timestamp::from_unix_ns(0));
    assert_eq!(record.activity, Activity::GateRestarted);
    assert_eq!((record.class.uid, record.action), (6002, None));
    assert_eq!(record.message.as_deref(), Some("killed"));
    for sandbox in [None, Some("a")] {
        let record = DaemonEvent::ExecsUnseen { sandbox, count: 3 };
        let record = record.record(Timestamp::from_unix_ns(0));
        assert_eq!(record.activity, Activity::ExecsUnseen);
        assert_eq!(
            (record.count, record.sandbox.as_deref()),
            (Some(3), sandbox)
        );
    }
}

#[test]
fn daemon_message_too_long_is_cut_between_characters() {
    let message = format!("x{}", "é".repeat(MESSAGE_BYTES));
    let started = DaemonEvent::Started {
        pid: 1,
        message: &message,
    };
    let record = started.record(Timestamp::from_unix_ns(0));
    let kept = record.message.expect("a message");
    assert_eq!(kept.len(), MESSAGE_BYTES - 1 + "...".len());
    assert!(kept.ends_with("é..."));
}
