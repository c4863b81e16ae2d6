//! S4: setuid and setgid programs, file capabilities and ambient capabilities give nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use clawd_tests::{Daemon, PYTHON};
use rustix::fs::{XattrFlags, setxattr};
use serde_json::{Value, json};

use crate::support::{closed, code, text};

const SCRIPT: &str = include_str!("../../../escapes/s04_gain.py");
/// `struct vfs_cap_data`, version 2, effective: every capability permitted and inheritable.
const ALL_CAPABILITIES: [u8; 20] = {
    let mut data = [0xff; 20];
    let [a, b, c, d] = 0x0200_0001_u32.to_le_bytes();
    data[0] = a;
    data[1] = b;
    data[2] = c;
    data[3] = d;
    data
};

fn policy(tree: &Path, more: &str) -> String {
    format!(
        "version: 2\nfilesystem_policy: {{ read_execute: [/usr, {}] }}\n\
         landlock: {{ compatibility: best_effort }}\nnetwork: {{ mode: none }}\n{more}",
        tree.display()
    )
}

/// Pythons that promise rights: of root's by their mode, and by their capabilities.
fn promising(tree: &Path) -> Vec<PathBuf> {
    let copy = |name: &str, mode: u32| {
        let path = tree.join(name);
        fs::copy(PYTHON, &path).unwrap();
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let capable = copy("capable", 0o755);
    setxattr(
        &capable,
        "security.capability",
        &ALL_CAPABILITIES,
        XattrFlags::empty(),
    )
    .unwrap();
    vec![copy("setuid", 0o4755), copy("setgid", 0o2755), capable]
}

fn steps(daemon: &Daemon, policy: &str, programs: &[PathBuf]) -> Vec<Value> {
    let ask = json!({ "programs": programs }).to_string();
    let output = daemon.run(policy, &[PYTHON, "-I", "-c", SCRIPT, &ask]);
    assert_eq!(code(&output), 0, "{output:?}");
    let lines = text(&output.stdout);
    let parse = |line: &str| serde_json::from_str(line).expect("JSON");
    lines.lines().map(parse).collect()
}

#[test]
fn files_and_calls_that_promise_rights_give_none() {
    let daemon = Daemon::start(None).unwrap();
    let tree = daemon.scratch().folder("promising", 0o755).unwrap();
    let programs = promising(&tree);
    let steps = steps(&daemon, &policy(&tree, ""), &programs);
    let none = "0000000000000000";
    let group = steps[0]["rights"]["Gid"].clone();
    let want = json!({
        "Uid": "65534 65534 65534 65534", "Gid": group, "Groups": "",
        "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
        "NoNewPrivs": "1",
    });
    assert!(!group.as_str().unwrap().split(' ').any(|gid| gid == "0"));
    let looked = ["own", "exec", "exec", "exec", "after"];
    let rights = steps.iter().filter(|step| !step["rights"].is_null());
    let rights: Vec<_> = rights.collect();
    assert_eq!(rights.len(), looked.len(), "{steps:?}");
    for (step, name) in rights.into_iter().zip(looked) {
        assert_eq!(
            (&step["step"], &step["rights"]),
            (&json!(name), &want),
            "{step}"
        );
    }
    let errors: Vec<_> = steps
        .iter()
        .filter_map(|step| Some((step["step"].as_str()?, step.get("error")?)))
        .collect();
    let refused = json!("EPERM");
    for name in [
        "setuid",
        "setgid",
        "setresuid",
        "setgroups",
        "capset",
        "unshare",
    ] {
        assert!(errors.contains(&(name, &refused)), "{name}: {errors:?}");
    }
    // Ambient, securebits and keep-caps are refused; no_new_privs cannot be taken off.
    let calls: Vec<_> = errors.iter().filter(|(name, _)| *name == "prctl").collect();
    let want = ["EPERM", "EPERM", "EPERM", "EINVAL"].map(|error| json!(error));
    assert!(calls.iter().map(|(_, error)| *error).eq(&want), "{calls:?}");
}

#[test]
fn promising_files_give_rights_outside() {
    // What makes the test above one that could fail.
    let daemon = Daemon::start(None).unwrap();
    let tree = daemon.scratch().folder("promising", 0o755).unwrap();
    let programs = promising(&tree);
    let look =
        "print(*[line for line in open('/proc/self/status') if line[:4] in ('Uid:', 'CapE')])";
    let seen = |program: &PathBuf| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let output = command.arg(program).args(["-I", "-c", look]).output();
        text(&output.unwrap().stdout)
    };
    assert!(
        seen(&programs[0]).contains("Uid:\t65534\t0\t0\t0"),
        "{}",
        seen(&programs[0])
    );
    let capable = seen(&programs[2]);
    assert!(!capable.contains("CapEff:\t0000000000000000"), "{capable}");
}

#[test]
fn further_groups_are_those_of_the_policy_alone() {
    let daemon = Daemon::start(None).unwrap();
    let tree = daemon.scratch().folder("shared", 0o755).unwrap();
    let file = tree.join("file");
    fs::write(&file, "of the group\n").unwrap();
    chown(&file, Some(0), Some(4711)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let read = |more: &str| daemon.run(&policy(&tree, more), &["cat", file.to_str().unwrap()]);
    let output = read("process: { supplementary_groups: [\"4711\"] }\n");
    assert_eq!(text(&output.stdout), "of the group\n", "{output:?}");
    assert_eq!(
        code(&read("process: { supplementary_groups: [\"4712\"] }\n")),
        1
    );
    assert_eq!(code(&read("")), 1);
    let output = daemon.run(
        &format!(
            "{}process: {{ supplementary_groups: [no-such] }}\n",
            closed()
        ),
        &["true"],
    );
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(text(&output.stderr).contains("no-such"), "{output:?}");
}
