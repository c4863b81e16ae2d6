//! Tests of command lines: what is understood, and what is wrong usage.

use std::path::Path;

use clap::{CommandFactory as _, Parser as _};
use clawd_audit::Timestamp;
use clawd_control::{LogQuery, NetworkMode, StopRequest, limits};

use super::{Command, Invocation, Old, StopTarget, check_run, moment};
use crate::{
    arguments::{Action, Arguments, RunArguments},
    failure::Failure,
};

/// Parses and checks; both kinds of wrong usage have exit code 2.
pub(super) fn check(line: &[&str]) -> Result<Command, u8> {
    let words = std::iter::once("clawctl").chain(line.iter().copied());
    let arguments = Arguments::try_parse_from(words).map_err(|error| {
        assert!(error.use_stderr(), "{error}");
        2_u8
    })?;
    let checked = Invocation::check(arguments);
    checked
        .map(|invocation| invocation.command)
        .map_err(|failure| failure.code)
}

fn run_arguments(line: &[&str]) -> RunArguments {
    let words = ["clawctl", "run"].iter().chain(line);
    match Arguments::try_parse_from(words).expect("parses").action {
        Action::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_table_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn run_takes_its_command_after_two_dashes_as_it_is() {
    let line = [
        "--policy",
        "p.yaml",
        "--name",
        "a",
        "--workspace",
        "w",
        "--network",
        "direct",
        "--user",
        "u",
        "--env",
        "A=b=c",
        "--env",
        "E=",
        "--",
        "/bin/sh",
        "-c",
        "--json",
    ];
    let run = check_run(run_arguments(&line), Some("xterm".to_owned())).expect("valid");
    assert_eq!(run.policy.as_deref(), Some(Path::new("p.yaml")));
    assert_eq!(run.name.map(|name| name.to_string()).as_deref(), Some("a"));
    assert_eq!(run.network, Some(NetworkMode::Direct));
    assert_eq!(run.user.as_deref(), Some("u"));
    assert_eq!(run.command, ["/bin/sh", "-c", "--json"]);
    let env: Vec<_> = run
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(env, [("A", "b=c"), ("E", ""), ("TERM", "xterm")]);
}

#[test]
fn run_term_given_is_not_replaced() {
    let run = run_arguments(&["--env", "TERM=dumb", "--", "x"]);
    let run = check_run(run, Some("xterm".to_owned())).expect("valid");
    assert_eq!(run.env, [("TERM".to_owned(), "dumb".to_owned())]);
}

#[test]
fn wrong_usage_has_exit_code_2() {
    for line in [
        &[][..],
        &["frob"],
        &["run"],
        &["run", "--"],
        &["run", "ls"],
        &["run", "--frob", "--", "ls"],
        &["run", "--name", "A", "--", "ls"],
        &["run", "--network", "isolated", "--", "ls"],
        &["run", "--env", "A", "--", "ls"],
        &["run", "--env", "=x", "--", "ls"],
        &["exec"],
        &["exec", "--", "ls"],
        &["exec", "a"],
        &["exec", "a", "ls"],
        &["exec", "A", "--", "ls"],
        &["exec", "a", "b", "--", "ls"],
        &["exec", "--user", "root", "a", "--", "ls"],
        &["wait"],
        &["wait", "../x"],
        &["stop"],
        &["stop", "../x"],
        &["stop", "a", "--all"],
        &["stop", "a", "--timeout", "-1"],
        &["stop", "a", "--timeout", "3601"],
        &["run", "-dt", "--", "ls"],
        &["ps", "x"],
        &["logs", "-n", "x"],
        &["logs", "-n", "100001"],
        &["logs", "--sandbox", "a/b"],
        &["logs", "--since", "yesterday"],
        &["logs", "--since", "10"],
        &["logs", "--since", "-10m"],
        &["logs", "--since", "m"],
        &["logs", "--until", ""],
        &["logs", "--binary", "bin/curl"],
        &["logs", "--destination", "example.org"],
        &["logs", "--destination", "192.0.2.1/24"],
        &["logs", "--reason", "because"],
        &["logs", "--action", "DENIED"],
        &["identity"],
        &["identity", "list", "x"],
        &["identity", "forget"],
        &["identity", "forget", "curl"],
        &["identity", "forget", "/usr/bin/curl", ""],
        &["identity", "forget", "--all", "/usr/bin/curl"],
    ] {
        assert_eq!(check(line).map(|_| ()), Err(2), "{line:?}");
    }
}

#[test]
fn wrong_usage_of_policies_has_exit_code_2() {
    for line in [
        &["policy"][..],
        &["policy", "validate"],
        &["policy", "push", "f"],
        &["policy", "push", "--sandbox", "a"],
        &["policy", "push", "--sandbox", "a", "--if-generation", "f"],
        &[
            "policy",
            "push",
            "--sandbox",
            "a",
            "--if-generation",
            "-1",
            "f",
        ],
        &["policy", "diff"],
        &["policy", "diff", "a.yaml"],
        &["policy", "diff", "a.yaml", "b.yaml", "c.yaml"],
        &["policy", "diff", "--sandbox", "a", "a.yaml", "b.yaml"],
        &["policy", "diff", "--sandbox", "A", "a.yaml"],
        &["policy", "pull"],
        &["policy", "pull", "A"],
        &["policy", "pull", "a", "--generation", "x"],
        &["policy", "history"],
        &["policy", "history", "../a"],
        &["policy", "rollback"],
        &["policy", "rollback", "a", "b"],
        &["policy", "rollback", "a", "--to", "x"],
    ] {
        assert_eq!(check(line).map(|_| ()), Err(2), "{line:?}");
    }
}

#[test]
fn wrong_variable_is_not_shown_with_its_value() {
    for text in ["hunter2", "1A=hunter2", "A-B=hunter2"] {
        let run = run_arguments(&["--env", text, "--", "x"]);
        let Failure { message, .. } = check_run(run, None).expect_err("refused");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn commands_are_understood() {
    assert!(matches!(check(&["ps", "--json"]), Ok(Command::Ps)));
    assert!(matches!(check(&["--json", "status"]), Ok(Command::Status)));
    assert!(matches!(check(&["wait", "a"]), Ok(Command::Wait(_))));
    let Ok(Command::Exec(exec)) = check(&["exec", "-it", "--env", "A=1", "a", "--", "sh", "-t"])
    else {
        panic!("not understood");
    };
    assert_eq!((exec.sandbox.as_str(), exec.terminal), ("a", true));
    assert_eq!(exec.env.first(), Some(&("A".to_owned(), "1".to_owned())));
    assert_eq!(exec.command, ["sh", "-t"]);
    assert!(!run_arguments(&["-i", "--", "x"]).terminal.terminal);
    assert!(run_arguments(&["-t", "--", "x"]).terminal.terminal);
    assert!(run_arguments(&["-d", "--", "x"]).detach);
    assert!(matches!(
        check(&["stop", "--all"]),
        Ok(Command::Stop(StopTarget::All, StopRequest { timeout_s: 0 }))
    ));
    assert!(matches!(
        check(&["stop", "--timeout", "5", "a"]),
        Ok(Command::Stop(
            StopTarget::One(_),
            StopRequest { timeout_s: 5 }
        ))
    ));
    let Ok(Command::Logs(query)) = check(&["logs", "-f", "-n", "5", "--sandbox", "a"]) else {
        panic!("not understood");
    };
    assert_eq!(query.to_string(), "follow=true&n=5&sandbox=a");
    assert!(matches!(check(&["logs"]), Ok(Command::Logs(query)) if query == LogQuery::default()));
    assert!(limits::LOG_RECORDS >= LogQuery::default().last);
    assert!(matches!(
        check(&["identity", "list", "--json"]),
        Ok(Command::IdentityList)
    ));
    let Ok(Command::IdentityForget(forget)) = check(&["identity", "forget", "/b", "/a b"]) else {
        panic!("not understood");
    };
    assert_eq!(
        (forget.paths, forget.all),
        (vec!["/b".to_owned(), "/a b".to_owned()], false)
    );
    let Ok(Command::IdentityForget(forget)) = check(&["identity", "forget", "--all"]) else {
        panic!("not understood");
    };
    assert_eq!((forget.paths, forget.all), (vec![], true));
    let push = ["policy", "push", "--sandbox", "a", "f.yaml"];
    for (more, want) in [(&[][..], None), (&["--if-generation", "7"], Some(7))] {
        let Ok(Command::PolicyPush(push)) = check(&[&push[..], more].concat()) else {
            panic!("not understood");
        };
        assert_eq!(push.file, Path::new("f.yaml"));
        assert_eq!(push.if_generation, want);
    }
}

#[test]
fn commands_about_earlier_policies_are_understood() {
    let pull = check(&["policy", "pull", "a"]);
    assert!(matches!(pull, Ok(Command::PolicyPull(_, None))));
    let pull = check(&["policy", "pull", "a", "--generation", "3"]);
    assert!(matches!(pull, Ok(Command::PolicyPull(_, Some(3)))));
    let history = check(&["policy", "history", "a", "--json"]);
    assert!(matches!(history, Ok(Command::PolicyHistory(_))));
    let wanted = |line: &[&str]| match check(line) {
        Ok(Command::PolicyRollback(_, request)) => (request.to, request.if_generation),
        other => panic!("{other:?}"),
    };
    assert_eq!(wanted(&["policy", "rollback", "a"]), (None, None));
    let line = [
        "policy",
        "rollback",
        "a",
        "--to",
        "3",
        "--if-generation",
        "5",
    ];
    assert_eq!(wanted(&line), (Some(3), Some(5)));
}

#[test]
fn diff_takes_two_files_or_a_sandbox_and_one() {
    let compared = |line: &[&str]| match check(line) {
        Ok(Command::PolicyDiff { old, new }) => (old, new),
        other => panic!("{other:?}"),
    };
    let files = compared(&["policy", "diff", "a.yaml", "b.yaml"]);
    assert_eq!(files, (Old::File("a.yaml".into()), "b.yaml".into()));
    let (old, new) = compared(&["policy", "diff", "--sandbox", "a", "b.yaml"]);
    assert!(matches!(old, Old::Sandbox(name) if name.as_str() == "a"));
    assert_eq!(new, Path::new("b.yaml"));
}

#[test]
fn socket_typed_is_the_socket_used() {
    let line = ["clawctl", "ps", "--socket", "/tmp/s"];
    let arguments = Arguments::try_parse_from(line).expect("parses");
    let invocation = Invocation::check(arguments).expect("valid");
    assert_eq!(invocation.socket, Path::new("/tmp/s"));
}

#[test]
fn logs_conditions_are_what_clawd_is_asked() {
    let words = [
        "logs",
        "--until=2026-01-01T01:00:00.5+01:00",
        "--binary=/opt/a b",
        "--destination=2001:db8::/32",
        "--reason=port_not_listed",
        "--action=denied",
    ];
    let Ok(Command::Logs(query)) = check(&words) else {
        panic!("not understood");
    };
    assert_eq!(
        query.to_string(),
        "follow=false&n=100&until=2026-01-01T00:00:00.500000000Z&binary=/opt/a%20b\
         &destination=2001:db8::/32&reason=port_not_listed&action=denied"
    );
    // All of a time is wanted, unless it is said how many.
    for (words, last) in [
        (&["logs", "--since", "1h"][..], limits::LOG_RECORDS),
        (&["logs", "--since", "1h", "-n", "3"], 3),
    ] {
        assert!(matches!(check(words), Ok(Command::Logs(query)) if query.last == last));
    }
}

#[test]
fn moment_is_a_time_or_how_long_ago() {
    const S: i128 = 1_000_000_000;
    let now = Timestamp::from_unix_ns(1_000_000 * S);
    for (text, ago_s) in [
        ("0s", 0),
        ("30s", 30),
        ("10m", 600),
        ("2h", 7200),
        ("7d", 604_800),
    ] {
        let want = Timestamp::from_unix_ns((1_000_000 - ago_s) * S);
        assert_eq!(moment(text, now), Ok(want), "{text}");
    }
    let epoch = Ok(Timestamp::from_unix_ns(0));
    assert_eq!(moment("1970-01-01T00:00:00Z", now), epoch);
    assert_eq!(moment("99999999999d", now), epoch, "before all times");
    for text in [
        "",
        "m",
        "10",
        "+1m",
        "1.5h",
        "10M",
        "1w",
        "10\u{b5}",
        "99999999999999999999d",
    ] {
        assert!(moment(text, now).is_err(), "{text:?}");
    }
}
