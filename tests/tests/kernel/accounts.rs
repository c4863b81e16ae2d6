//! As whom a sandbox runs.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    process::Command,
};

use clawd_tests::{Daemon, binaries};

use crate::support::{closed, code, eventually, text};

#[test]
fn sandbox_never_has_the_group_that_commands_the_daemon() {
    const SOCKETS: u32 = 4713;
    let mut daemon = Daemon::prepare(None).unwrap();
    // A host with that group, which has another name too.
    let groups = daemon.scratch().path("group");
    let of_host = fs::read_to_string("/etc/group").unwrap();
    let others = of_host.lines().filter(|line| !line.starts_with("clawd:"));
    let names = [format!("alias:x:{SOCKETS}:"), format!("clawd:x:{SOCKETS}:")];
    let lines: Vec<_> = others.map(str::to_owned).chain(names).collect();
    fs::write(&groups, lines.join("\n") + "\n").unwrap();
    let script = format!(
        "mount --bind {} /etc/group && exec \"$@\"",
        groups.display()
    );
    daemon.launch_by(&["unshare", "-m", "sh", "-c", &script, "sh"]);
    daemon.launch().unwrap();
    let socket = daemon.paths().socket.clone();
    // The socket is there before it is given away.
    eventually("the group has the socket", || {
        fs::metadata(&socket).unwrap().gid() == SOCKETS
    });

    for keys in [
        format!("run_as_group: \"{SOCKETS}\""),
        "supplementary_groups: [alias]".to_owned(),
        "supplementary_groups: [clawd]".to_owned(),
    ] {
        let policy = format!("{}process: {{ {keys} }}\n", closed());
        let output = daemon.run(&policy, &["/usr/bin/true"]);
        assert_eq!(code(&output), 2, "{output:?}");
        assert!(
            text(&output.stderr).contains("command the host"),
            "{output:?}"
        );
    }
    // Whoever used `newgrp` has it as the own one.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let clawctl = daemon.scratch().path("clawctl");
    fs::copy(binaries::find("clawctl").unwrap(), &clawctl).unwrap();
    let policy = daemon.policy_file(closed());
    let run_as = |gid: u32| {
        let mut command = Command::new(&clawctl);
        command
            .arg("--socket")
            .arg(&socket)
            .args(["run", "--policy"]);
        command.arg(&policy).args(["--", "/usr/bin/true"]);
        command
            .uid(4711)
            .gid(gid)
            .current_dir("/")
            .output()
            .unwrap()
    };
    let output = run_as(SOCKETS);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(text(&output.stderr).contains("newgrp"), "{output:?}");
    let output = run_as(SOCKETS + 1);
    assert_eq!(code(&output), 0, "{output:?}");
}
