//! Cases about who a sandbox runs as, and what each of its processes may use up.

use std::{
    fs,
    time::{Duration, Instant},
};

use clawd_sandbox::{Group, Layer, ProcessLimits, StartError};
use clawd_sys::keyring;

use crate::rig::{Cgroup, finish, run, shell, spec, start};

pub(crate) fn privileges() {
    let got = shell(
        "id -u; id -g; id -G; grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; ulimit -c; ulimit -Hn; umask; ulimit -Hf",
    );
    let lines: Vec<&str> = got.out.lines().map(str::trim_end).collect();
    assert_eq!(lines[..3], ["64123"; 3]);
    assert_eq!(lines[3], "Groups:");
    assert!(
        lines[4..9]
            .iter()
            .all(|line| line.starts_with("Cap") && line.ends_with("0000000000000000"))
    );
    assert_eq!(
        lines[9..12],
        ["NoNewPrivs:\t1", "Seccomp:\t2", "0"],
        "{}",
        got.out
    );
    // Less where whoever runs this test has less.
    assert!(
        lines[12]
            .parse::<u32>()
            .is_ok_and(|files| (1..=65_536).contains(&files)),
        "{}",
        got.out
    );
    assert_eq!(lines[13..15], ["0022", "unlimited"]);
}

pub(crate) fn groups() {
    let mut spec = spec(&["sh", "-c", "id -G; id -Gn; grep Groups /proc/self/status"]);
    let group = |gid, name: &str| Group {
        gid,
        name: name.to_owned(),
    };
    spec.groups = vec![group(4711, "lab"), group(12, "files"), group(12, "files")];
    let got = run(&spec).expect("starts");
    let lines: Vec<_> = got.out.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], "64123 12 4711");
    assert!(lines[1].ends_with(" files lab"), "{got:?}");
    assert_eq!(lines[2], "Groups:\t12 4711");
    assert_eq!(got.layers.groups, [12, 4711]);
    spec.groups.push(group(0, "root"));
    assert!(matches!(run(&spec), Err(StartError::Request(_))));
}

/// A keyring counts whose it is: a sandbox does not count.
pub(crate) fn session_keyring() {
    let serial = keyring::new_session_keyring().and_then(|()| keyring::session_keyring());
    let Some(serial) = serial.expect("keyctl") else {
        return;
    };
    let number = format!("{serial:08x}");
    let users = || {
        let keys = fs::read_to_string("/proc/keys").expect("keys");
        let line = keys.lines().find(|line| line.starts_with(&number));
        let count = line.and_then(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok());
        count.expect("the keyring of this thread")
    };
    let before = users();
    let cgroup = Cgroup::new();
    let (running, pipes) = start(&spec(&["cat"]), &cgroup).expect("starts");
    // Credentials that were given up go after a grace period.
    let end = Instant::now() + Duration::from_secs(30);
    while users() > before {
        assert!(Instant::now() < end, "a sandbox has the keyring of clawd");
        std::thread::sleep(Duration::from_millis(10));
    }
    finish(running, pipes);
}

pub(crate) fn limits() {
    let mut spec = spec(&[
        "sh",
        "-c",
        "ulimit -Sn; ulimit -Hn; ulimit -Sf; ulimit -Hf; ulimit -n 301; ulimit -f 9; ulimit -c 1",
    ]);
    spec.limits = ProcessLimits {
        nofile_max: Some(300),
        fsize_max_bytes: Some(4096),
    };
    let got = run(&spec).expect("starts");
    assert_eq!(got.out, "300\n300\n8\n8\n", "{got:?}");
    assert_ne!(got.code, 0, "a limit was raised");
    assert_eq!(got.layers.limits, spec.limits);
    spec.limits.nofile_max = Some(u64::from(u32::MAX));
    let error = run(&spec).expect_err("past fs.nr_open");
    assert!(matches!(&error, StartError::Layer(failed) if failed.layer == Layer::Process));
    assert!(error.to_string().contains("nofile_max"), "{error}");
}
