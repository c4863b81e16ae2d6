//! Tests of a whole run against a peer that speaks the protocol's edge cases.

use std::{
    io::{IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{as_setup, policy_file, run, workspace};
use crate::{client::Client, command::RunCommand, failure::Failure};

const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: clawd-run/1\r\n\r\n";
const STARTED: &[u8] = b"{\"event\":\"started\",\"sandbox\":\"a\",\"pid\":7}\n";

/// A directory with a socket and the least policy.
struct Place {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    policy: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, policy) = (dir.path().join("s"), dir.path().join("p.yaml"));
    std::fs::write(&policy, "version: 2\n").expect("writes");
    Place {
        _dir: dir,
        socket,
        policy,
    }
}

/// Runs `true` against a peer that reads the request and then does as `script` says.
fn run_against(script: impl FnOnce(UnixStream) + Send + 'static) -> Result<u8, Failure> {
    let place = place();
    let listener = UnixListener::bind(&place.socket).expect("binds");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        let request = read_request(&mut stream);
        assert!(
            request.starts_with("POST /v1/sandboxes HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("upgrade: clawd-run/1\r\n"), "{request}");
        assert!(request.contains(r#""command":["true"]"#), "{request}");
        script(stream);
    });
    let outcome = run_true(&place);
    server.join().expect("the peer saw what it expects");
    outcome
}

fn run_true(place: &Place) -> Result<u8, Failure> {
    let command = RunCommand {
        policy: Some(place.policy.clone()),
        name: None,
        workspace: None,
        network: None,
        user: None,
        env: Vec::new(),
        terminal: false,
        detach: false,
        command: vec!["true".to_owned()],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let client = Client::new(place.socket.clone());
    runtime
        .expect("a runtime")
        .block_on(run(&client, command, false))
}

/// Reads a request as long as its header says, as text.
fn read_request(stream: &mut UnixStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        request.extend(byte);
    }
    let head = String::from_utf8(request).expect("text");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|text| text.parse().ok()).expect("a length")];
    stream.read_exact(&mut body).expect("a body");
    head + &String::from_utf8(body).expect("text")
}

/// Takes the descriptors as clawd does.
fn receive(stream: &UnixStream) -> Vec<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let message = recvmsg(
        stream,
        &mut buffers,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    );
    assert_eq!(message.expect("a message").bytes, 1);
    assert_eq!(byte, *b"F");
    let received = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    received.flatten().collect()
}

#[test]
fn run_hands_over_descriptors_and_returns_the_commands_status() {
    let outcome = run_against(|mut stream| {
        stream.write_all(UPGRADED).expect("writes");
        let mut descriptors = receive(&stream);
        assert_eq!(descriptors.len(), 4);
        let mut status = std::fs::File::from(descriptors.pop().expect("four"));
        stream.write_all(STARTED).expect("writes");
        // clawd dies, the sandbox does not.
        drop(stream);
        status.write_all(b"exit 5\n").expect("writes");
    });
    assert_eq!(outcome, Ok(5));
}

#[test]
fn run_started_said_together_with_the_upgrade_is_heard() {
    let outcome = run_against(|mut stream| {
        stream
            .write_all(&[UPGRADED, STARTED].concat())
            .expect("writes");
        drop(receive(&stream));
    });
    assert_eq!(outcome.expect_err("killed").code, 137);
}

#[test]
fn run_refused_has_the_code_that_clawd_gives() {
    for (body, want) in [
        (r#"{"error":{"message":"no such user","exit_code":2}}"#, 2),
        (r#"{"error":{"message":"landlock","exit_code":125}}"#, 125),
        (r#"{"error":{"message":"taken","exit_code":1}}"#, 125),
        ("nonsense", 125),
    ] {
        let length = body.len();
        let answer = format!("HTTP/1.1 422 X\r\ncontent-length: {length}\r\n\r\n{body}");
        let outcome = run_against(move |mut stream| {
            stream.write_all(answer.as_bytes()).expect("writes");
        });
        assert_eq!(outcome.expect_err("refused").code, want, "{body}");
    }
}

#[test]
fn run_with_a_peer_that_leaves_is_125() {
    let closed_at_once = run_against(drop);
    assert_eq!(closed_at_once.expect_err("no answer").code, 125);
    let no_upgrade = run_against(|mut stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            .expect("writes");
    });
    assert_eq!(no_upgrade.expect_err("no upgrade").code, 125);
    let closed_after = run_against(|mut stream| stream.write_all(UPGRADED).expect("writes"));
    assert_eq!(closed_after.expect_err("no start").code, 125);
}

#[test]
fn run_without_clawd_is_125_and_says_so() {
    let failure = run_true(&place()).expect_err("nobody there");
    assert_eq!(failure.code, 125);
    assert!(
        failure.message.contains("is it running?"),
        "{}",
        failure.message
    );
}

#[test]
fn run_without_any_policy_is_wrong_usage() {
    let dir = tempfile::tempdir().expect("a directory");
    let default = dir.path().join("default.yaml");
    let failure = policy_file(None, &default).expect_err("there is none");
    assert_eq!(failure.code, 2);
    assert!(failure.message.contains("--policy"), "{}", failure.message);
    std::fs::write(&default, "").expect("writes");
    assert_eq!(policy_file(None, &default), Ok(default.clone()));
    let named = Path::new("named.yaml").to_owned();
    assert_eq!(policy_file(Some(named.clone()), &default), Ok(named));
}

#[test]
fn run_workspace_is_a_real_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("writes");
    for path in [file, dir.path().join("missing")] {
        assert_eq!(workspace(path).expect_err("refused").code, 2);
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).expect("links");
    let real = dir.path().canonicalize().expect("exists");
    assert_eq!(
        workspace(link).as_deref(),
        Ok(real.to_str().expect("UTF-8"))
    );
}

#[test]
fn run_failure_of_the_transport_is_a_failure_of_the_set_up() {
    assert_eq!(as_setup(Failure::failed("x")).code, 125);
    assert_eq!(as_setup(Failure::usage("x")).code, 2);
}

#[test]
fn run_variable_that_changes_code_needs_the_policys_leave_and_is_not_shown() {
    let place = place();
    let with = |variable: &str| {
        super::request(RunCommand {
            policy: Some(place.policy.clone()),
            name: None,
            workspace: None,
            network: None,
            user: None,
            terminal: false,
            detach: false,
            env: vec![(variable.to_owned(), "hunter2".to_owned())],
            command: vec!["true".to_owned()],
        })
    };
    for variable in ["LD_PRELOAD", "GCONV_PATH"] {
        let failure = with(variable).expect_err("refused");
        assert_eq!(failure.code, 2);
        assert!(failure.message.contains(variable), "{}", failure.message);
        assert!(!failure.message.contains("hunter2"), "{}", failure.message);
    }
    std::fs::write(&place.policy, "version: 2\nenv_allow: [LD_PRELOAD]\n").expect("writes");
    assert!(with("LD_PRELOAD").is_ok());
    assert!(with("GCONV_PATH").is_err());
}
