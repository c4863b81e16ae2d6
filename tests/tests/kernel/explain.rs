//! What `policy explain` says of a running sandbox's policy, and who may read that.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Output},
};

use clawd_tests::{Address, Daemon, Prober, binaries};
use serde_json::Value;

use crate::support::{Denial, PYTHON_ENTRY, World, closed, code, direct, group, tcp, text};

fn allowing(address: &str) -> String {
    let endpoint = format!("{{ host: {address}, port: 7000 }}");
    direct(&group("listed", &endpoint, PYTHON_ENTRY))
}

fn clawctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.clawctl(arguments).output().unwrap()
}

/// Exit code, and what is told.
fn explain(daemon: &Daemon, sandbox: &str, address: &str) -> (i32, Value) {
    let destination = format!("{address}:7000");
    let line = ["--json", "policy", "explain", "--sandbox", sandbox];
    let line = [&line[..], &["/usr/bin/python3", &destination]].concat();
    let output = clawctl(daemon, &line);
    let told = serde_json::from_slice(&output.stdout).expect("JSON");
    (code(&output), told)
}

#[test]
fn explained_decision_is_the_one_of_the_policy_in_force() {
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    for (listed, other) in [(Address::A, Address::B), (Address::B, Address::A)] {
        let (code_listed, told) = explain(&world.daemon, "box", listed);
        assert_eq!(
            (code_listed, &told["policy"]),
            (0, &"listed".into()),
            "{told}"
        );
        world.allows(&mut prober, &tcp(listed, 7000));
        let (code_other, told) = explain(&world.daemon, "box", other);
        assert_eq!((code_other, &told["policy"]), (1, &Value::Null), "{told}");
        let want = Denial::tcp("address_not_listed", other, 7000);
        assert_eq!(told["reason"], "address_not_listed");
        world.refuses(&mut prober, "box", &tcp(other, 7000), &want);

        let pulled = clawctl(&world.daemon, &["policy", "pull", "box"]);
        assert_eq!(text(&pulled.stdout), allowing(listed));
        let file = world.daemon.policy_file(&allowing(other));
        let push = ["policy", "push", "--sandbox", "box", file.to_str().unwrap()];
        assert_eq!(code(&clawctl(&world.daemon, &push)), 0);
    }
    // Not being told is no denial.
    let line = [
        "policy",
        "explain",
        "--sandbox",
        "none",
        "/bin/x",
        "192.0.2.1:1",
    ];
    assert_eq!(code(&clawctl(&world.daemon, &line)), 2);
}

#[test]
fn run_that_narrows_the_network_has_none_in_explanations() {
    let daemon = Daemon::start(None).unwrap();
    let file = daemon.policy_file(&allowing(Address::A));
    let run = [
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--policy",
    ];
    let run = [
        &run[..],
        &[file.to_str().unwrap(), "--", "sleep", "infinity"],
    ]
    .concat();
    let output = clawctl(&daemon, &run);
    assert_eq!(code(&output), 0, "{output:?}");
    let (code, told) = explain(&daemon, "box", Address::A);
    assert_eq!((code, &told["reason"]), (1, &"no_network".into()), "{told}");
}

/// `env` of a policy may hold secrets of the sandbox's user.
#[test]
fn policy_of_another_user_is_not_handed_out() {
    let daemon = Daemon::start(None).unwrap();
    let policy = format!("{}env: {{ TOKEN: hunter2 }}\n", closed());
    let _prober = Prober::start(&daemon, "box", &policy).unwrap();
    // As for a member of the group that may use the socket.
    fs::set_permissions(&daemon.paths().socket, fs::Permissions::from_mode(0o666)).unwrap();
    let clawctl = daemon.scratch().path("clawctl");
    fs::copy(binaries::find("clawctl").unwrap(), &clawctl).unwrap();
    let ask_as = |arguments: &[&str], uid: u32, gid: u32| {
        Command::new(&clawctl)
            .arg("--socket")
            .arg(&daemon.paths().socket)
            .arg("policy")
            .args(arguments)
            .uid(uid)
            .gid(gid)
            .current_dir("/")
            .output()
            .unwrap()
    };
    const NOBODY: u32 = 65534;
    for (uid, gid) in [(4711, 4711), (4711, NOBODY), (NOBODY, 4711)] {
        for arguments in [
            &["pull", "box"][..],
            &["pull", "box", "--generation", "1"],
            &["history", "box"],
        ] {
            let output = ask_as(arguments, uid, gid);
            assert_eq!(code(&output), 2, "{output:?}");
            assert!(text(&output.stderr).contains("only root"), "{output:?}");
            assert!(!format!("{output:?}").contains("hunter2"));
        }
    }
    for (uid, gid) in [(NOBODY, NOBODY), (0, 0)] {
        let output = ask_as(&["pull", "box"], uid, gid);
        assert_eq!(text(&output.stdout), policy, "{output:?}");
        let output = ask_as(&["history", "box"], uid, gid);
        assert_eq!(code(&output), 0, "{output:?}");
    }
}
