//! Tests of the run request's checks and of the messages' form on the wire.

use std::collections::BTreeSet;

use super::{ClientMessage, NetworkMode, RequestError, RunEvent, RunRequest};
use crate::{limits, name::SandboxName, policy::PolicySource};

fn request() -> RunRequest {
    RunRequest {
        name: None,
        policy: PolicySource {
            file: "p.yaml".to_owned(),
            text: "version: 2\n".to_owned(),
        },
        command: vec!["/bin/true".to_owned()],
        env: vec![("TERM".to_owned(), "xterm".to_owned())],
        cwd: "/tmp".to_owned(),
        workspace: Some("/tmp/w".to_owned()),
        network: Some(NetworkMode::None),
        user: Some("nobody".to_owned()),
        terminal: None,
        detach: false,
    }
}

/// `request()` with one change, checked.
fn checked(change: impl FnOnce(&mut RunRequest)) -> Result<(), RequestError> {
    let mut request = request();
    change(&mut request);
    request.check(&BTreeSet::new())
}

#[test]
fn request_in_order_passes() {
    assert_eq!(checked(|_| {}), Ok(()));
}

#[test]
fn request_without_command_is_refused() {
    assert_eq!(checked(|r| r.command.clear()), Err(RequestError::NoCommand));
    assert_eq!(
        checked(|r| r.command = vec![String::new()]),
        Err(RequestError::NoCommand)
    );
}

#[test]
fn request_with_zero_bytes_is_refused() {
    for change in [
        |r: &mut RunRequest| r.command.push("a\0b".to_owned()),
        |r: &mut RunRequest| r.cwd = "/\0".to_owned(),
        |r: &mut RunRequest| r.workspace = Some("/\0".to_owned()),
    ] {
        assert!(matches!(checked(change), Err(RequestError::Zero { .. })));
    }
}

#[test]
fn request_with_relative_paths_is_refused() {
    for change in [
        |r: &mut RunRequest| r.cwd = "tmp".to_owned(),
        |r: &mut RunRequest| r.cwd = String::new(),
        |r: &mut RunRequest| r.workspace = Some("w".to_owned()),
    ] {
        assert!(matches!(
            checked(change),
            Err(RequestError::NotAbsolute { .. })
        ));
    }
}

#[test]
fn request_over_a_limit_is_refused() {
    for change in [
        |r: &mut RunRequest| r.command = vec!["x".to_owned(); limits::COMMAND_WORDS + 1],
        |r: &mut RunRequest| r.command.push("x".repeat(limits::COMMAND_BYTES)),
        |r: &mut RunRequest| r.policy.text = "x".repeat(limits::POLICY_BYTES + 1),
        |r: &mut RunRequest| r.env = vec![("A".to_owned(), String::new()); limits::VARIABLES + 1],
        |r: &mut RunRequest| r.cwd = "/".repeat(limits::PATH_BYTES + 1),
    ] {
        assert!(matches!(
            checked(change),
            Err(RequestError::TooLarge { .. })
        ));
    }
}

#[test]
fn request_with_a_bad_variable_or_user_is_refused() {
    let preload = ("LD_PRELOAD".to_owned(), "/x.so".to_owned());
    assert!(matches!(
        checked(|r| r.env.push(preload)),
        Err(RequestError::Variable(_))
    ));
    let mut with_leave = request();
    with_leave
        .env
        .push(("LD_PRELOAD".to_owned(), "/x.so".to_owned()));
    let leave = BTreeSet::from(["LD_PRELOAD".to_owned()]);
    assert_eq!(with_leave.check(&leave), Ok(()));
    let term = ("TERM".to_owned(), "dumb".to_owned());
    assert_eq!(
        checked(|r| r.env.push(term)),
        Err(RequestError::VariableTwice("TERM".to_owned()))
    );
    for user in ["", "-x", "a b", "a\n", "a:b"] {
        let want = Err(RequestError::User(user.to_owned()));
        assert_eq!(checked(|r| r.user = Some(user.to_owned())), want);
    }
}

#[test]
fn request_with_unknown_fields_or_modes_is_not_read() {
    let text = serde_json::to_string(&request()).expect("serialises");
    assert_eq!(
        serde_json::from_str::<RunRequest>(&text).expect("reads back"),
        request()
    );
    let unknown = text.replacen('{', "{\"privileged\":true,", 1);
    serde_json::from_str::<RunRequest>(&unknown).expect_err("an unknown field is an error");
    let mode = text.replacen("\"none\"", "\"host\"", 1);
    assert_ne!(mode, text);
    serde_json::from_str::<RunRequest>(&mode).expect_err("an unknown mode is an error");
}

#[test]
fn messages_have_their_documented_form() {
    let sandbox = SandboxName::new("a").expect("valid");
    for (event, text) in [
        (
            RunEvent::Started {
                sandbox: sandbox.clone(),
                pid: 7,
                warnings: Vec::new(),
            },
            r#"{"event":"started","sandbox":"a","pid":7}"#,
        ),
        (
            RunEvent::Started {
                sandbox,
                pid: 7,
                warnings: vec!["w".to_owned()],
            },
            r#"{"event":"started","sandbox":"a","pid":7,"warnings":["w"]}"#,
        ),
        (
            RunEvent::Failed {
                exit_code: 127,
                message: "m".to_owned(),
            },
            r#"{"event":"failed","exit_code":127,"message":"m"}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&event).expect("serialises"), text);
        assert_eq!(
            serde_json::from_str::<RunEvent>(text).expect("reads"),
            event
        );
    }
    let signal = ClientMessage::Signal { signal: 15 };
    let text = r#"{"message":"signal","signal":15}"#;
    assert_eq!(serde_json::to_string(&signal).expect("serialises"), text);
    assert_eq!(
        serde_json::from_str::<ClientMessage>(text).expect("reads"),
        signal
    );
}

#[test]
fn run_detached_with_a_terminal_is_refused() {
    let terminal = Some(super::TerminalSize {
        rows: 1,
        columns: 1,
    });
    assert_eq!(checked(|request| request.detach = true), Ok(()));
    assert_eq!(checked(|request| request.terminal = terminal), Ok(()));
    let both = checked(|request| {
        request.detach = true;
        request.terminal = terminal;
    });
    assert_eq!(both, Err(RequestError::DetachedTerminal));
}
