//! Tests of the conversion from events to records.

use clawd_common::{
    addr::Addr,
    event::{Event, EventKind},
    record::{FileKey, LINEAGE_MAX, PATH_BYTES, ProcessKey},
    verdict::{Action, NO_GRANT, Reason},
};

use super::{Names, SeenFile, record};
use crate::{
    record::{Activity, Ancestor, AuditRecord, Digest, Outcome},
    tail::read_line,
    time::{Clock, Timestamp},
};

/// Knows sandbox 3, policy 5 with one entry, files 7 to 9 and their line 4, and what the gate saw
/// of inodes 11 to 13.
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

    fn seen(&self, file: &FileKey) -> Option<SeenFile> {
        assert_ne!(*file, FileKey::ZERO, "no file cannot have been seen");
        let (path, sha256, reason) = match file.ino {
            11 => ("/tmp/copy", None, Reason::WritableMount),
            12 => ("/lib/ld.so", Some([0x11; 32]), Reason::Loader),
            13 => ("/usr/bin/link", Some([0x22; 32]), Reason::Identified),
            _ => return None,
        };
        let path = path.to_owned();
        Some(SeenFile {
            path,
            sha256,
            reason,
        })
    }

    fn file(&self, file_id: u32) -> Option<(String, [u8; 32])> {
        match file_id {
            7 => Some(("/usr/bin/agent".to_owned(), [0x77; 32])),
            9 => Some(("/usr/bin/cu\u{1b}rl\n".to_owned(), [0xab; 32])),
            _ => None,
        }
    }

    fn lineage(&self, chain: u32) -> Vec<u32> {
        match chain {
            4 => vec![9, 8, 7],
            3 => vec![8, 7],
            _ => Vec::new(),
        }
    }

    fn pinned(&self, policy_id: u32, file_id: u32) -> Option<[u8; 32]> {
        (policy_id == 5 && file_id == 9).then_some([0xcd; 32])
    }
}

/// On ext4.
fn file(ino: u64) -> FileKey {
    FileKey {
        ino,
        fs_magic: 0xef53,
        ..FileKey::ZERO
    }
}

/// An exec without identity.
fn exec(file: FileKey) -> Event {
    Event {
        file_id: 0,
        file,
        kind_raw: EventKind::Exec as u8,
        action_raw: Action::Denied.to_raw(),
        reason_raw: Reason::NotHashed.to_raw(),
        grant_index: NO_GRANT,
        ..event()
    }
}

/// Exe and the first byte of each hash.
fn line(record: &AuditRecord) -> Vec<(Option<&str>, Option<u8>)> {
    let lineage = record.lineage.iter();
    lineage
        .map(|Ancestor { exe, sha256 }| (exe.as_deref(), sha256.map(|digest| digest.0[0])))
        .collect()
}

#[test]
fn exec_without_identity_tells_the_gates_reason_path_and_hash() {
    let got = converted(&exec(file(11)));
    assert_eq!(got.exe.as_deref(), Some("/tmp/copy"));
    assert_eq!(got.reason, Some(Reason::WritableMount));
    assert_eq!(got.sha256, None);

    let got = converted(&exec(file(12)));
    assert_eq!(got.exe.as_deref(), Some("/lib/ld.so"));
    assert_eq!(got.reason, Some(Reason::Loader));
    assert_eq!(got.sha256, Some(Digest([0x11; 32])));
}

#[test]
fn exec_that_the_gate_identified_but_the_kernel_did_not_keeps_the_kernels_reason() {
    let got = converted(&exec(file(13)));
    assert_eq!(got.reason, Some(Reason::NotHashed));
    assert_eq!(got.exe.as_deref(), Some("/usr/bin/link"));
}

#[test]
fn exec_that_the_gate_did_not_see_tells_an_untrusted_file_system() {
    let on = |fs_magic| FileKey {
        fs_magic,
        ..file(99)
    };
    for (fs_magic, want) in [
        (0xef53, Reason::NotHashed),
        (0x5846_5342, Reason::NotHashed),
        (0x9123_683e, Reason::NotHashed),
        (0x0102_1994, Reason::NotHashed),
        (0x794c_7630, Reason::NotHashed),
        (0xf2f5_2010, Reason::NotHashed),
        (0xca45_1a4e, Reason::NotHashed),
        (0, Reason::FileSystem),
        (0x6573_5546, Reason::FileSystem),
        (0x6969, Reason::FileSystem),
    ] {
        let got = converted(&exec(on(fs_magic)));
        assert_eq!((got.reason, got.exe), (Some(want), None), "{fs_magic:#x}");
    }
    let unread = converted(&exec(FileKey::ZERO));
    assert_eq!(unread.reason, Some(Reason::NotHashed));
}

#[test]
fn reason_other_than_not_hashed_is_never_replaced() {
    for reason in Reason::ALL.iter().filter(|r| **r != Reason::NotHashed) {
        for ino in [11, 12, 13, 99] {
            let got = converted(&Event {
                reason_raw: reason.to_raw(),
                ..exec(FileKey {
                    fs_magic: 0,
                    ..file(ino)
                })
            });
            assert_eq!(got.reason, Some(*reason));
        }
    }
}

#[test]
fn executable_has_its_own_path_and_the_hash_that_was_judged() {
    let at = |ino, file_id| {
        let got = converted(&Event {
            file_id,
            file: file(ino),
            ..event()
        });
        (got.exe, got.sha256.map(|digest| digest.0[0]))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(at(13, 9), (text("/usr/bin/link"), Some(0xab)));
    assert_eq!(at(11, 9), (text("/tmp/copy"), Some(0xab)));
    assert_eq!(at(13, 10), (text("/usr/bin/link"), Some(0x22)));
    assert_eq!(at(99, 7), (text("/usr/bin/agent"), Some(0x77)));
    assert_eq!(at(99, 10), (None, None));
}

#[test]
fn lineage_is_the_line_before_the_running_executable() {
    let at = |chain, parent_chain| {
        converted(&Event {
            chain,
            parent_chain,
            ..event()
        })
    };
    let forgotten = (None, None);
    let agent = (Some("/usr/bin/agent"), Some(0x77));
    assert_eq!(line(&at(4, 0)), [forgotten, agent]);
    assert_eq!(line(&at(4, 3)), [forgotten, agent]);
    assert_eq!(line(&at(0, 3)), [forgotten, agent], "the exec has no line");
    assert_eq!(line(&at(0, 4))[0].1, Some(0xab), "whole, as it was before");
    assert_eq!(line(&at(99, 3)), [], "its own line is not known any more");
    assert_eq!(line(&at(0, 0)), []);
}

#[test]
fn record_with_the_longest_lineage_is_a_line_that_is_read_back() {
    struct Longest;
    impl Names for Longest {
        fn sandbox(&self, _id: u32) -> Option<String> {
            None
        }
        fn generation(&self, _policy_id: u32) -> Option<u64> {
            None
        }
        fn grant(&self, _policy_id: u32, _grant_index: u32) -> Option<String> {
            None
        }
        fn seen(&self, _file: &FileKey) -> Option<SeenFile> {
            None
        }
        fn file(&self, _file_id: u32) -> Option<(String, [u8; 32])> {
            Some(("\u{1b}".repeat(PATH_BYTES), [0; 32]))
        }
        fn lineage(&self, _chain: u32) -> Vec<u32> {
            vec![1; 1_000]
        }
        fn pinned(&self, _policy_id: u32, _file_id: u32) -> Option<[u8; 32]> {
            None
        }
    }
    let chain = Event {
        chain: 1,
        ..event()
    };
    let clock = Clock::new(0, Timestamp::from_unix_ns(0));
    let record = record(&chain, &Longest, &clock);
    assert_eq!(record.lineage.len(), LINEAGE_MAX - 1);
    let line = serde_json::to_vec(&record).expect("serialises");
    assert_eq!(read_line(&line).expect("short enough"), record);
}

#[test]
fn binary_changed_tells_the_rule_and_both_hashes() {
    let changed = Event {
        action_raw: Action::Denied.to_raw(),
        reason_raw: Reason::BinaryChanged.to_raw(),
        ..event()
    };
    let got = converted(&changed);
    assert_eq!(got.action, Some(Outcome::Denied));
    assert_eq!(got.reason, Some(Reason::BinaryChanged));
    assert_eq!(got.rule.as_deref(), Some("github"));
    assert_eq!(got.sha256, Some(Digest([0xab; 32])));
    assert_eq!(got.pinned_sha256, Some(Digest([0xcd; 32])));
    let json = serde_json::to_string(&got).expect("serialises");
    assert!(json.contains(&format!(r#""pinned_sha256":"{}""#, "cd".repeat(32))));

    for other in [
        converted(&event()),
        converted(&Event {
            policy_id: 6,
            ..changed
        }),
        converted(&Event {
            file_id: 0,
            ..changed
        }),
    ] {
        assert_eq!(other.pinned_sha256, None);
        let json = serde_json::to_string(&other).expect("serialises");
        assert!(!json.contains("pinned_sha256"), "{json}");
    }
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
    let line = serde_json::to_string(&converted(&Event {
        chain: 4,
        parent_chain: 3,
        ..event()
    }))
    .expect("serialises");
    let want = concat!(
        r#"{"time":"1970-01-01T00:00:01.000000042Z","seq":0,"#,
        r#""class":{"name":"Network Activity","uid":4001},"#,
        r#""sandbox":"agent","policy_generation":2,"pid":77,"#,
        r#""exe":"/usr/bin/cu\u001brl\n","#,
        r#""sha256":"abababababababababababababababababababababababababababababababab","#,
        r#""lineage":[{"exe":null,"sha256":null},{"exe":"/usr/bin/agent","sha256":"#,
        r#""7777777777777777777777777777777777777777777777777777777777777777"}],"#,
        r#""action":"allowed","reason":"rule","rule":"github","dst_name":null,"#,
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
        chain: 99,
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
