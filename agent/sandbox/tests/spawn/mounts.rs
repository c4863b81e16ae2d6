//! Cases about the mounts of a view.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, ExitCode},
};

use clawd_sandbox::SpawnSpec;

use crate::rig::{Cgroup, USER, finish, pipes, probe, run, spec, start_view};

/// A directory of the sandbox's user, with these in it.
pub(crate) fn directory(inner: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    std::os::unix::fs::chown(dir.path(), Some(USER), Some(USER)).expect("owner");
    for name in inner {
        let path = dir.path().join(name);
        fs::create_dir(&path).expect("inner");
        std::os::unix::fs::chown(&path, Some(USER), Some(USER)).expect("owner");
    }
    dir
}

/// A sandbox that writes a program into each directory, and executes it there.
fn writes_and_executes(dirs: &[&Path]) -> SpawnSpec {
    let dirs = dirs.iter().map(|dir| dir.to_str().expect("utf-8"));
    probe(
        &["write-and-execute"]
            .into_iter()
            .chain(dirs)
            .collect::<Vec<_>>(),
    )
}

pub(crate) fn written_program() {
    let (both, data) = (directory(&[]), directory(&[]));
    let mut spec = writes_and_executes(&[both.path(), data.path()]);
    spec.view.read_write_execute.push(both.path().into());
    spec.view.read_write.push(data.path().into());
    let cgroup = Cgroup::new();
    let (theirs, ours) = pipes();
    let ready = start_view(&spec, &cgroup.open(), theirs).expect("a view");
    let gated = |dir: &Path| ready.exec_mounts().iter().any(|at| at == dir);
    assert!(gated(both.path()), "{:?}", ready.exec_mounts());
    assert!(!gated(data.path()), "{:?}", ready.exec_mounts());
    let got = finish(ready.go().expect("runs"), ours);
    assert_eq!(got.out, "exit 0\nerrno 13\n", "{}", got.err);
    // Written in both: what differs is the exec alone.
    assert!(both.path().join("program").exists() && data.path().join("program").exists());
}

pub(crate) fn written_library() {
    let dir = directory(&[]);
    let script = "cp /usr/lib/*/libm.so.6 l.so; LD_PRELOAD=./l.so cat /dev/null && echo mapped; \
        printf '#!/bin/sh\\necho script\\n' > s; chmod +x s; ./s; grep \" $PWD \" /proc/self/mountinfo";
    let mut spec = spec(&["sh", "-c", script]);
    spec.view.read_write_execute.push(dir.path().into());
    spec.cwd = dir.path().into();
    let got = run(&spec).expect("starts");
    let lines: Vec<&str> = got.out.lines().collect();
    // A library that cannot be mapped is told of, and the program goes on without it.
    assert_eq!(got.err, "");
    assert_eq!(lines[..2], ["mapped", "script"]);
    assert_eq!(lines.len(), 3, "{}", got.out);
    let options = lines[2].split(' ').nth(5).expect("options");
    assert!(options.starts_with("rw,nosuid,nodev"), "{options}");
    assert!(!options.contains("noexec"), "{options}");
}

/// The outer tree's Landlock rights reach into the inner one: there the mount alone says no.
pub(crate) fn nested() {
    let dir = directory(&["data", "fixed"]);
    let (data, fixed) = (dir.path().join("data"), dir.path().join("fixed"));
    let mut inner = writes_and_executes(&[dir.path(), &data, &fixed]);
    inner.view.read_write_execute.push(dir.path().into());
    inner.view.read_write.push(data.clone());
    inner.view.read_execute.push(fixed);
    let got = run(&inner).expect("starts");
    assert_eq!(
        got.out, "exit 0\nerrno 13\nnot written: errno 30\n",
        "{}",
        got.err
    );
    let mut outer = writes_and_executes(&[&data, dir.path()]);
    outer.view.read_write.push(dir.path().into());
    outer.view.read_write_execute.push(data);
    let got = run(&outer).expect("starts");
    assert_eq!(got.out, "exit 0\nerrno 13\n", "{}", got.err);
}

/// Prints the mounts of a sandbox; its host is the mount namespace that this runs in.
pub(crate) fn show(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let dir = arguments.next().expect("a directory");
    let mut spec = spec(&["cat", "/proc/self/mountinfo"]);
    spec.view.read_write_execute.push(dir.into());
    print!("{}", run(&spec).expect("starts").out);
    ExitCode::SUCCESS
}

/// As on a host whose init shares all mounts, which the one of a test machine may not do.
pub(crate) fn private() {
    let dir = directory(&[]);
    let got = Command::new("unshare")
        // Private first: shared at once would be shared with this machine.
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        // A mount inside the tree: it comes into the view with it, and must be private too.
        .arg(
            "mount --make-rshared / && mkdir \"$1/m\" && mount -t tmpfs x \"$1/m\" && \
             cat /proc/self/mountinfo && echo VIEW && exec \"$2\" show-mounts \"$1\"",
        )
        .arg("sh")
        .arg(dir.path())
        .arg(std::env::current_exe().expect("own path"))
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&got.stdout).into_owned();
    let err = String::from_utf8_lossy(&got.stderr);
    let (host, view) = text
        .split_once("VIEW\n")
        .unwrap_or_else(|| panic!("two parts: {text}{err}"));
    // Fields from the seventh to `-`: `shared:N`, `master:N` and their like.
    let propagates = |line: &&str| line.split(' ').nth(6) != Some("-");
    assert!(host.lines().all(|line| propagates(&line)), "{host}");
    let within = format!(" {}/m ", dir.path().display());
    assert!(
        view.lines().count() > 10 && view.contains(&within),
        "{view}{err}"
    );
    assert_eq!(view.lines().find(propagates), None);
}
