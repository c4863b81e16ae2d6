//! Tests of what a run makes of the two sources, in every order that they can speak.

use std::{io::Write as _, os::fd::OwnedFd, time::Duration};

use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::UnixStream};

use super::{Attached, Kind, Session, start_code};
use crate::{
    client::RunConnection,
    failure::Failure,
    run::{descriptors, signals::Signals, streams::Streams},
};

const STARTED: &[u8] = b"{\"event\":\"started\",\"sandbox\":\"a\",\"pid\":7}\n";
const NOT_FOUND: &[u8] = b"{\"event\":\"failed\",\"exit_code\":127,\"message\":\"no x\"}\n";

/// The other ends of a session: clawd's connection and the sandbox's status pipe.
struct Peer {
    clawd: Option<UnixStream>,
    status: Option<std::fs::File>,
}

impl Peer {
    async fn say(&mut self, bytes: &[u8]) {
        let clawd = self.clawd.as_mut().expect("connected");
        clawd.write_all(bytes).await.expect("writes");
    }

    fn status(&mut self, bytes: &[u8]) {
        let status = self.status.as_mut().expect("open");
        status.write_all(bytes).expect("writes");
    }
}

/// As they are, where the test's own are no sockets.
fn streams() -> Attached {
    Attached::Streams(Streams::prepare().expect("streams"))
}

/// Runs a session while `script` plays the peer; nothing here may take long.
async fn session(script: impl AsyncFnOnce(&mut Peer)) -> Result<u8, Failure> {
    session_after(b"", script).await
}

async fn session_after(
    read: &'static [u8],
    script: impl AsyncFnOnce(&mut Peer),
) -> Result<u8, Failure> {
    let (stream, clawd) = UnixStream::pair().expect("a pair");
    let (status_read, status_write) = descriptors::status_pipe().expect("a pipe");
    let read = read.into();
    let session = Session::new(
        RunConnection { stream, read },
        status_read,
        Kind::Run,
        streams(),
    )?;
    let mut peer = Peer {
        clawd: Some(clawd),
        status: Some(OwnedFd::into(status_write)),
    };
    let outcome = session.outcome(Signals::take_over(false).expect("takes over"));
    let script = async {
        script(&mut peer).await;
        // As clawd does once nothing of the sandbox is left.
        peer.clawd = None;
    };
    let both = async { tokio::join!(outcome, script).0 };
    tokio::time::timeout(Duration::from_secs(10), both)
        .await
        .expect("in time")
}

#[tokio::test(flavor = "current_thread")]
async fn session_exit_status_is_the_commands() {
    for (line, want) in [("exit 0\n", 0), ("exit 7\n", 7), ("signal 15\n", 143)] {
        let got = session(async |peer| {
            peer.say(STARTED).await;
            peer.status(line.as_bytes());
        });
        assert_eq!(got.await, Ok(want));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn session_ends_only_once_clawd_has_cleared_the_sandbox_away() {
    let mut cleared = false;
    let got = session(async |peer| {
        peer.say(STARTED).await;
        peer.status(b"exit 0\n");
        tokio::time::sleep(Duration::from_millis(100)).await;
        cleared = true;
    });
    assert_eq!(got.await, Ok(0));
    assert!(cleared);
}

#[tokio::test(flavor = "current_thread")]
async fn session_goes_on_when_clawd_dies_after_the_start() {
    let got = session(async |peer| {
        peer.say(STARTED).await;
        peer.clawd = None;
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.status(b"exi");
        tokio::time::sleep(Duration::from_millis(20)).await;
        peer.status(b"t 3\n");
    });
    assert_eq!(got.await, Ok(3));
}

#[tokio::test(flavor = "current_thread")]
async fn session_status_counts_even_if_clawd_never_said_started() {
    let got = session(async |peer| {
        peer.clawd = None;
        tokio::time::sleep(Duration::from_millis(20)).await;
        peer.status(b"exit 4\n");
    });
    assert_eq!(got.await, Ok(4));
}

#[tokio::test(flavor = "current_thread")]
async fn session_killed_sandbox_is_137() {
    let got = session(async |peer| {
        peer.say(STARTED).await;
        peer.status = None;
    });
    let failure = got.await.expect_err("killed");
    assert_eq!(failure.code, 137);
    assert!(
        failure.message.contains("sandbox a was killed"),
        "{}",
        failure.message
    );
}

#[tokio::test(flavor = "current_thread")]
async fn session_status_pipe_closed_first_waits_for_the_reason() {
    let got = session(async |peer| {
        peer.status = None;
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.say(NOT_FOUND).await;
    });
    let want = Failure {
        code: 127,
        message: "no x".to_owned(),
    };
    assert_eq!(got.await, Err(want));
}

#[tokio::test(flavor = "current_thread")]
async fn session_closed_before_the_start_is_125() {
    let got = session(async |peer| {
        peer.clawd = None;
        peer.status = None;
    });
    assert_eq!(got.await.expect_err("nothing started").code, 125);
}

#[tokio::test(flavor = "current_thread")]
async fn session_reads_what_came_with_the_upgrade() {
    let got = session_after(STARTED, async |peer| peer.status = None).await;
    assert_eq!(got.expect_err("killed").code, 137);
    let got = session_after(NOT_FOUND, async |_| {}).await;
    assert_eq!(got.expect_err("not found").code, 127);
}

#[tokio::test(flavor = "current_thread")]
async fn session_of_nonsense_is_125() {
    for bytes in [
        &b"nonsense\n"[..],
        b"{\"event\":\"frob\"}\n",
        &[b'x'; 70_000],
    ] {
        let got = session(async |peer| peer.say(bytes).await);
        assert_eq!(got.await.expect_err("not understood").code, 125);
    }
    for bytes in [&b"exit 300\n"[..], b"exit 0 exit 0 exit 0", b"\n"] {
        let got = session(async |peer| {
            peer.say(STARTED).await;
            peer.status(bytes);
        });
        assert_eq!(got.await.expect_err("no status").code, 125);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn session_forwards_signals_while_clawd_is_there() {
    let (stream, mut clawd) = UnixStream::pair().expect("a pair");
    let (status_read, _status_write) = descriptors::status_pipe().expect("a pipe");
    let read = STARTED.into();
    let mut session = Session::new(
        RunConnection { stream, read },
        status_read,
        Kind::Run,
        streams(),
    )
    .expect("new");
    session.forward(15).await.expect("clawd is there");
    let want = b"{\"message\":\"signal\",\"signal\":15}\n";
    let mut got = vec![0; want.len()];
    clawd.read_exact(&mut got).await.expect("reads");
    assert_eq!(got, want);
    drop(clawd);
    let failure = session.forward(2).await.expect_err("clawd is gone");
    assert_eq!(failure.code, 130);
}

#[test]
fn start_code_is_one_of_those_documented() {
    for (sent, want) in [
        (126, 126),
        (127, 127),
        (2, 2),
        (125, 125),
        (0, 125),
        (1, 125),
    ] {
        assert_eq!(start_code(sent).code(), want);
    }
}
