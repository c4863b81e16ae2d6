//! `clawctl doctor`: says that all is well only where a forbidden connect really fails.

use std::{fs, path::PathBuf};

use clawd_tests::Daemon;
use serde_json::Value;

use crate::support::code;

/// What doctor prints, with its exit code.
fn doctor(daemon: &Daemon) -> (i32, Value) {
    let output = daemon.clawctl(["--json", "doctor"]).output().unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (code(&output), said)
}

#[track_caller]
fn check<'a>(said: &'a Value, name: &str) -> &'a Value {
    let checks = said["checks"].as_array().expect("a list");
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {said}"))
}

#[test]
fn doctor_sees_a_forbidden_connect_fail_and_leaves_nothing() {
    let daemon = Daemon::start(None).unwrap();
    let (code, said) = doctor(&daemon);
    for name in [
        "kernel",
        "architecture",
        "btf",
        "cgroup",
        "seccomp",
        "clawd",
    ] {
        assert_eq!(check(&said, name)["outcome"], "ok", "{said}");
    }
    let found = check(&said, "attempt")["found"].as_str().unwrap();
    assert_eq!(found, "a connect to 192.0.2.1:9 was refused with EPERM");
    let seq = check(&said, "record")["found"].as_str().unwrap();
    // An old Landlock is a warning: not all that policies may ask for is there.
    assert!([0, 1].contains(&code), "{said}");
    assert_eq!(code == 1, said["outcome"] == "warning", "{said}");
    let records = daemon.audit();
    let record = records.iter().find(|record| record["dst_port"] == 9);
    let record = record.expect("a record");
    assert_eq!(record["action"], "denied", "{record}");
    assert!(
        seq.starts_with(&format!("audit record {} ", record["seq"])),
        "{seq}"
    );
    assert_eq!(daemon.ps(), Vec::<Value>::new());
}

#[test]
fn doctor_fails_where_the_connect_is_allowed() {
    let daemon = Daemon::start(None).unwrap();
    let process = daemon.pid().expect("clawd runs");
    let pins = daemon.paths().bpffs.display();
    let link = PathBuf::from(format!("/proc/{process}/root{pins}/link_connect4"));
    fs::remove_file(link).unwrap();
    let (code, said) = doctor(&daemon);
    assert_eq!(code, 2, "{said}");
    assert_eq!(check(&said, "enforcement")["outcome"], "failed", "{said}");
    let attempt = check(&said, "attempt");
    assert_eq!(attempt["outcome"], "failed", "{said}");
    let found = attempt["found"].as_str().unwrap();
    assert!(found.contains("let through to 192.0.2.1:9"), "{found}");
}

#[test]
fn doctor_without_clawd_tells_of_the_host_and_fails() {
    let mut daemon = Daemon::start(None).unwrap();
    daemon.kill9().unwrap();
    let (code, said) = doctor(&daemon);
    assert_eq!(code, 2, "{said}");
    assert_eq!(check(&said, "kernel")["outcome"], "ok", "{said}");
    let clawd = check(&said, "clawd");
    assert_eq!(clawd["outcome"], "failed", "{said}");
    let found = clawd["found"].as_str().unwrap();
    assert!(found.contains("cannot reach clawd"), "{found}");
}
