//! Tests of both commands against a peer that answers as clawd does.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    thread,
};

use clawd_control::{ForgetReport, ForgetRequest, PinInfo};

use super::{forget, forgotten, list, not_pinned, rendered};
use crate::{client::Client, failure::Failure, output::json};

fn pin(path: &str, found: bool) -> PinInfo {
    PinInfo {
        path: path.to_owned(),
        sha256: "ab".repeat(32),
        first_used: "2026-01-01T00:00:00.000000000Z".to_owned(),
        sandbox: "agent".to_owned(),
        found_sha256: found.then(|| "cd".repeat(32)),
    }
}

/// Head and body of one request.
fn read_request(stream: &mut UnixStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().expect("a number"));
            if body.len() == length {
                return (head.to_owned(), body.to_owned());
            }
        }
        let read = stream.read(&mut chunk).expect("reads");
        assert_ne!(read, 0, "the request ends early: {text}");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Runs `command` against a peer that answers `status` with `body`; returns what it was asked, too.
fn against<F: Future<Output = Result<u8, Failure>>>(
    status: &str,
    body: &str,
    command: impl FnOnce(Client) -> F,
) -> (Result<u8, Failure>, (String, String)) {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).expect("binds");
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        let request = read_request(&mut stream);
        stream.write_all(answer.as_bytes()).expect("answers");
        request
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(command(Client::new(socket)));
    (outcome, server.join().expect("the peer was asked"))
}

fn forget_against(report: &ForgetReport, as_json: bool) -> (Result<u8, Failure>, (String, String)) {
    let request = ForgetRequest {
        paths: vec!["/b".to_owned(), "/x\u{1b}".to_owned()],
        all: false,
    };
    against("200 OK", &json(report), async |client| {
        forget(&client, &request, as_json).await
    })
}

#[test]
fn identity_list_shows_path_hash_first_use_sandbox_and_state() {
    let pins = [pin("/usr/bin/curl", false), pin("/usr/bin/g\u{1b}it", true)];
    assert_eq!(
        rendered(&pins),
        "PATH                SHA-256       FIRST USED                      SANDBOX  STATE\n\
         /usr/bin/curl       abababababab  2026-01-01T00:00:00.000000000Z  agent    pinned\n\
         /usr/bin/g\\u{1b}it  abababababab  2026-01-01T00:00:00.000000000Z  agent    changed"
    );
}

#[test]
fn identity_list_asks_for_the_pins() {
    let pins = json(&vec![pin("/b", true)]);
    for as_json in [false, true] {
        let (outcome, (head, body)) =
            against("200 OK", &pins, async |client| list(&client, as_json).await);
        assert_eq!(outcome, Ok(0));
        assert!(head.starts_with("GET /v1/pins HTTP/1.1\r\n"), "{head}");
        assert_eq!(body, "");
    }
}

#[test]
fn identity_forget_of_pinned_paths_is_done() {
    let report = ForgetReport {
        forgotten: vec![pin("/b", false)],
        unknown: vec![],
    };
    for as_json in [false, true] {
        let (outcome, (head, body)) = forget_against(&report, as_json);
        assert_eq!(outcome, Ok(0));
        let target = "POST /v1/pins/forget HTTP/1.1\r\n";
        assert!(head.starts_with(target), "{head}");
        assert_eq!(body, r#"{"paths":["/b","/x\u001b"],"all":false}"#);
    }
}

#[test]
fn identity_forget_of_a_path_that_is_not_pinned_fails_and_names_it() {
    for forgotten in [vec![pin("/b", false)], vec![]] {
        let report = ForgetReport {
            forgotten,
            unknown: vec!["/x\u{1b}".to_owned()],
        };
        let (outcome, _) = forget_against(&report, false);
        let message = "/x\\u{1b} is not pinned; `clawctl identity list` shows those that are";
        assert_eq!(outcome, Err(Failure::failed(message)));
        assert_eq!(forget_against(&report, true).0, Ok(1));
    }
}

#[test]
fn identity_forget_that_clawd_refuses_fails_as_clawd_says() {
    let error = r#"{"error":{"message":"cannot write the pins","exit_code":1}}"#;
    let request = ForgetRequest {
        paths: vec![],
        all: true,
    };
    let (outcome, _) = against("409 Conflict", error, async |client| {
        forget(&client, &request, false).await
    });
    assert_eq!(outcome, Err(Failure::failed("cannot write the pins")));
}

#[test]
fn identity_forgotten_is_one_line_a_path() {
    let pins = [pin("/b\n/c", false), pin("/d", true)];
    assert_eq!(
        forgotten(&pins),
        "forgot /b\\n/c (abababababab)\nforgot /d (abababababab)"
    );
    assert_eq!(forgotten(&[]), "no pins");
    let paths = ["/a\n".to_owned(), "/b".to_owned()];
    let message = not_pinned(&paths).message;
    assert!(
        message.starts_with("/a\\n, /b are not pinned;"),
        "{message}"
    );
}
