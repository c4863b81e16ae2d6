//! Messages, whole and broken.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use clawd_policy::PathPattern;
use proptest::prelude::*;

use super::{
    FrameError, FromGate, MESSAGE_BYTES_MAX, Notice, Policy, Reply, Request, ToGate, Watch,
    receive, send,
};
use crate::entries::{Entry, Matcher};

fn watch() -> Watch {
    let entry = |matcher| Entry {
        label: "agent.yaml:3".to_owned(),
        matcher,
        descendants: true,
        denies: true,
    };
    Watch {
        sandbox_id: 3,
        name: "box".to_owned(),
        init_pid: 17,
        exec_mounts: vec![PathBuf::from("/"), PathBuf::from("/usr/\u{e9} \"")],
        policy: Policy {
            policy_id: 5,
            entries: vec![
                entry(Matcher::Sha256([0xab; 32])),
                entry(Matcher::Path(PathBuf::from("/bin/a"))),
                entry(Matcher::Pattern(
                    PathPattern::parse("/opt/*/bin/a?").expect("a pattern"),
                )),
            ],
        },
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("small");
    [&len.to_le_bytes()[..], body].concat()
}

/// Sent, received, and sent once more: the same bytes.
fn comes_back<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) {
    let mut bytes = Vec::new();
    send(&mut bytes, message).expect("sent");
    let received: T = receive(&mut bytes.as_slice()).expect("received");
    let mut again = Vec::new();
    send(&mut again, &received).expect("sent");
    assert_eq!(again, bytes);
}

#[test]
fn every_request_comes_back() {
    let requests = [
        Request::Watch(watch()),
        Request::Restore(vec![watch(), watch()]),
        Request::Load {
            sandbox_id: 1,
            policy: watch().policy,
        },
        Request::Retire { policy_id: 1 },
        Request::Unwatch { sandbox_id: 1 },
        Request::Pins,
        Request::Forget(vec![PathBuf::from("/a")]),
        Request::Health,
    ];
    for request in requests {
        comes_back(&ToGate { id: 7, request });
    }
}

#[test]
fn replies_and_notices_come_back() {
    comes_back(&FromGate::Reply {
        id: u64::MAX,
        reply: Reply::Restored(vec![None, Some("why".to_owned())]),
    });
    comes_back(&FromGate::Notice(Notice::Changed {
        sandbox_id: 1,
        rule: "rule".to_owned(),
        path: "/a\n".to_owned(),
        pinned: [1; 32],
        found: [2; 32],
    }));
}

#[test]
fn messages_follow_each_other() {
    let mut bytes = Vec::new();
    for id in 0..3 {
        let request = Request::Health;
        send(&mut bytes, &ToGate { id, request }).expect("sent");
    }
    let mut from = bytes.as_slice();
    for id in 0..3 {
        let message: ToGate = receive(&mut from).expect("received");
        assert_eq!(message.id, id);
    }
    assert!(matches!(
        receive::<ToGate>(&mut from),
        Err(FrameError::Closed)
    ));
}

#[test]
fn a_message_that_is_cut_is_the_end() {
    let mut bytes = Vec::new();
    let request = Request::Health;
    send(&mut bytes, &ToGate { id: 1, request }).expect("sent");
    for len in 0..bytes.len() {
        let result = receive::<ToGate>(&mut &bytes[..len]);
        assert!(matches!(result, Err(FrameError::Closed)), "{len}");
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_before_it_is_read() {
    struct Endless;

    impl Read for Endless {
        fn read(&mut self, _to: &mut [u8]) -> io::Result<usize> {
            panic!("the body was read");
        }
    }

    let len = (MESSAGE_BYTES_MAX + 1).to_le_bytes();
    let result = receive::<ToGate>(&mut len.as_slice().chain(Endless));
    assert!(matches!(result, Err(FrameError::TooLong(_))));
}

#[test]
fn send_refuses_what_nobody_would_receive() {
    let body = "x".repeat(usize::try_from(MESSAGE_BYTES_MAX).expect("small"));
    let mut bytes = Vec::new();
    let result = send(&mut bytes, &body);
    assert!(matches!(result, Err(FrameError::TooLong(_))));
    assert!(bytes.is_empty());
}

#[test]
fn what_is_not_understood_is_told() {
    let bodies: [&[u8]; 8] = [
        b"",
        b"null",
        b"{}",
        br#"{"id":1}"#,
        br#"{"id":-1,"request":"Health"}"#,
        br#"{"id":1,"request":"Sleep"}"#,
        br#"{"id":1,"request":"Health"}x"#,
        b"\xff\xfe",
    ];
    for body in bodies {
        let result = receive::<ToGate>(&mut framed(body).as_slice());
        let what = String::from_utf8_lossy(body).into_owned();
        assert!(matches!(result, Err(FrameError::Malformed(_))), "{what}");
    }
}

#[test]
fn json_too_deep_is_refused() {
    let body = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let result = receive::<ToGate>(&mut framed(&body).as_slice());
    assert!(matches!(result, Err(FrameError::Malformed(_))));
}

#[test]
fn a_writer_that_is_gone_is_told_as_such() {
    struct Gone(io::ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let result = send(&mut Gone(io::ErrorKind::BrokenPipe), &1);
    assert!(matches!(result, Err(FrameError::Closed)));
    let result = send(&mut Gone(io::ErrorKind::PermissionDenied), &1);
    assert!(matches!(result, Err(FrameError::Io(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(receive::<ToGate>(&mut bytes.as_slice()));
        drop(receive::<FromGate>(&mut bytes.as_slice()));
        drop(receive::<ToGate>(&mut framed(&bytes).as_slice()));
        drop(receive::<FromGate>(&mut framed(&bytes).as_slice()));
    }
}
