//! S1, S2, S5, S9, N12: files, processes and sockets of the host that are not listed.
//!
//! The kernel tells nobody of a file that was refused, so these have two proofs: the errno, and that
//! nothing happened on the host.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command},
};

use clawd_tests::{Daemon, PYTHON};
use serde_json::{Value, json};

use crate::support::text;

const FILES: &str = include_str!("../../../escapes/s01_files.py");
const OTHERS: &str = include_str!("../../../escapes/s05_others.py");
const SOCKETS: &str = include_str!("../../../escapes/n12_sockets.py");

const EPERM: i64 = 1;
const ENOENT: i64 = 2;
const ESRCH: i64 = 3;
const EACCES: i64 = 13;
const EXDEV: i64 = 18;
const EROFS: i64 = 30;
/// Not every file system has flags.
const ENOTTY: i64 = 25;
/// Nor handles.
const EOPNOTSUPP: i64 = 95;
const ECONNREFUSED: i64 = 111;
/// Whom a sandbox of root's runs as.
const NOBODY: u32 = 65_534;

/// Runs a program; each attempt with its errno.
#[track_caller]
fn attempts(daemon: &Daemon, policy: &str, script: &str, ask: &Value) -> BTreeMap<String, i64> {
    let output = daemon.run(policy, &[PYTHON, "-I", "-c", script, &ask.to_string()]);
    let told = text(&output.stdout);
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}

/// A policy with these further keys of `filesystem_policy`, in this network mode.
fn policy(keys: &str, mode: &str) -> String {
    format!(
        "version: 2\nfilesystem_policy: {{ read_execute: [/usr]{keys} }}\n\
         landlock: {{ compatibility: best_effort }}\nnetwork: {{ mode: {mode} }}\n"
    )
}

/// A file that anybody may write, in a folder where anybody may make others.
fn open_file(daemon: &Daemon, name: &str) -> PathBuf {
    let folder = daemon.scratch().folder(name, 0o777).expect("a folder");
    let file = folder.join("file");
    fs::write(&file, "as it was").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("mode");
    file
}

#[test]
fn s01_files_outside_the_view_cannot_be_reached_nor_fixed_ones_changed() {
    let daemon = Daemon::start(None).unwrap();
    let (outside, fixed) = (open_file(&daemon, "outside"), open_file(&daemon, "fixed"));
    let work = daemon.scratch().folder("work", 0o777).unwrap();
    let keys = format!(
        ", read_only: [{}], read_write: [{}]",
        fixed.parent().unwrap().display(),
        work.display()
    );
    let ask = json!({ "outside": outside, "fixed": fixed, "work": work });
    let got = attempts(&daemon, &policy(&keys, "none"), FILES, &ask);
    assert_eq!(got["raced"], 0, "{got:?}");
    assert_eq!(got.len(), 8 * 14 + 3, "{got:?}");
    for (attempt, errno) in &got {
        let want: &[i64] = match attempt.as_str() {
            "raced" | "fixed stat" | "fixed read" => &[0],
            // No other name of it in a tree that can be written.
            "fixed take" | "fixed replace" | "fixed link out" | "fixed link over" => {
                &[EXDEV, EROFS]
            }
            "handle" | "fixed flags" => &[EPERM, EROFS, EACCES, ENOTTY, EOPNOTSUPP],
            name if name.starts_with("fixed") => &[EROFS],
            // The link itself is the sandbox's own: it moves, and nothing behind it.
            "symlink unlink" | "symlink take" | "symlink replace" | "symlink link out" => {
                &[0, ENOENT]
            }
            "symlink link over" | "symlink create" | "symlink mkdir" => &[0, 17],
            // Of its own file, which has taken the link's place.
            "symlink flags" => &[EPERM, ENOTTY],
            // Of pid 1 not even the way to its root is shown.
            name if name.starts_with("init") => &[EACCES],
            _ => &[ENOENT, EACCES],
        };
        assert!(want.contains(errno), "{attempt}: {errno}, not {want:?}");
    }
    for file in [outside, fixed] {
        assert_eq!(fs::read_to_string(&file).unwrap(), "as it was");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o666
        );
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }
}

/// A process of the host, outside of every sandbox, with a sandbox's user.
fn bystander() -> Child {
    Command::new("sleep")
        .arg("1000")
        .uid(NOBODY)
        .gid(NOBODY)
        .process_group(0)
        .spawn()
        .expect("sleep")
}

#[test]
fn s05_processes_outside_cannot_be_reached_and_s02_what_is_written_does_not_run() {
    let daemon = Daemon::start(None).unwrap();
    let work = daemon.scratch().folder("work", 0o777).unwrap();
    let keys = format!(", read_write: [{}]", work.display());
    let mut bystander = bystander();
    let ask = json!({ "pid": bystander.id(), "work": work });
    let got = attempts(&daemon, &policy(&keys, "none"), OTHERS, &ask);
    for (attempt, errno) in &got {
        let want = match attempt.as_str() {
            "kill" | "kill group" | "signal pidfd" | "priority" => ESRCH,
            // The filters refuse the call, whomever it means.
            "attach" | "seize" | "read memory" => EPERM,
            "execute" => EACCES,
            "map" => EPERM,
            "map what was not written" => 0,
            peek if peek.starts_with("peek ") => ENOENT,
            other => panic!("not expected: {other}"),
        };
        assert_eq!(*errno, want, "{attempt}");
    }
    assert_eq!(got.len(), 16, "{got:?}");
    assert!(bystander.try_wait().unwrap().is_none(), "it was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// A folder below the host's `/run`, which is gone with this.
struct Run(PathBuf);

impl Run {
    fn new(daemon: &Daemon) -> Self {
        let path = Path::new("/run").join(daemon.scratch().name());
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        Self(path)
    }

    /// Listens as a service does that lets everybody in.
    fn listen(&self, name: &str) -> (UnixListener, PathBuf) {
        let path = self.0.join(name);
        let listener = UnixListener::bind(&path).expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("mode");
        (listener, path)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// What somebody who connected has said; `None` if nobody did.
fn heard(listener: &UnixListener) -> Option<String> {
    let (mut stream, _) = listener.accept().ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("read");
    Some(said)
}

#[test]
fn n12_sockets_of_the_host_are_out_of_reach_unless_listed() {
    let daemon = Daemon::start(None).unwrap();
    let run = Run::new(&daemon);
    let (docker, docker_path) = run.listen("docker.sock");
    let (agent, agent_path) = run.listen("agent.sock");
    let name = format!("{}-abstract", daemon.scratch().name());
    // The namespace of the daemon's network, which mode direct shares.
    let hidden = {
        let name = name.clone();
        let place = daemon.place();
        place.run(move || {
            let address = SocketAddr::from_abstract_name(&name).expect("address");
            UnixListener::bind_addr(&address).expect("bind")
        })
    };
    hidden.set_nonblocking(true).unwrap();
    let dbus = "/run/dbus/system_bus_socket";
    let ask = json!({ "connect": [docker_path, agent_path, dbus], "abstract": [name], "open": [] });
    let shown = |path: &Path| path.display().to_string();
    for mode in ["none", "direct"] {
        let got = attempts(&daemon, &policy("", mode), SOCKETS, &ask);
        for path in [shown(&docker_path), shown(&agent_path), dbus.to_owned()] {
            assert_eq!(got[&path], ENOENT, "{mode}: {path}");
        }
        let is_kept = mode == "none" || landlock_abi() >= 6;
        let want = match (mode, is_kept) {
            ("none", _) => ECONNREFUSED,
            (_, true) => EPERM,
            (_, false) => 0,
        };
        assert_eq!(got[&name], want, "{mode}");
        assert_eq!(heard(&hidden).is_none(), is_kept, "{mode}");
        assert!(heard(&docker).is_none() && heard(&agent).is_none());
    }
    // The one that is listed, and no other beside it.
    for list in ["read_only", "read_write"] {
        let keys = format!(", {list}: [{}]", agent_path.display());
        let got = attempts(&daemon, &policy(&keys, "none"), SOCKETS, &ask);
        assert_eq!(
            (got[&shown(&agent_path)], got[&shown(&docker_path)]),
            (0, ENOENT)
        );
        assert_eq!(heard(&agent).as_deref(), Some("inside"));
        assert!(heard(&docker).is_none());
    }
    // And not one that is denied in a listed folder.
    let keys = format!(
        ", read_write: [{}], deny: [{}]",
        run.0.display(),
        docker_path.display()
    );
    let got = attempts(&daemon, &policy(&keys, "none"), SOCKETS, &ask);
    assert_eq!(got[&shown(&agent_path)], 0);
    assert!(
        [EACCES, ECONNREFUSED].contains(&got[&shown(&docker_path)]),
        "{got:?}"
    );
    assert!(heard(&docker).is_none());
}

/// The running kernel's, as a sandbox of this host gets it.
fn landlock_abi() -> u64 {
    let daemon = Daemon::start(None).unwrap();
    let mut prober = clawd_tests::Prober::start(&daemon, "box", &policy("", "none")).unwrap();
    let abi = daemon.ps()[0]["layers"]["landlock_abi"].as_u64();
    prober.end().unwrap();
    abi.expect("a number")
}

#[test]
fn s09_what_clawd_lives_by_is_out_of_reach() {
    let daemon = Daemon::start(None).unwrap();
    let paths = daemon.paths();
    let policy = policy("", "direct");
    let places = [
        paths.cgroup_parent.clone(),
        paths.cgroup_parent.join("sandbox-1/cgroup.procs"),
        paths.bpffs.clone(),
        paths.bpffs.join("map_SANDBOX"),
        paths.state_dir.clone(),
        paths.state_dir.join("audit.jsonl"),
        paths.state_dir.join("pins.json"),
        daemon.policy_file(&policy),
        "/sys/fs/cgroup".into(),
        "/sys/fs/bpf".into(),
        "/sys/kernel/btf/vmlinux".into(),
    ];
    let ask = json!({ "connect": [paths.socket], "abstract": [], "open": places });
    let got = attempts(&daemon, &policy, SOCKETS, &ask);
    assert_eq!(got.len(), 1 + 3 * places.len());
    for (attempt, errno) in got {
        assert_eq!(errno, ENOENT, "{attempt}");
    }
    assert!(
        paths.state_dir.join("audit.jsonl").exists(),
        "the place was right"
    );
    assert!(daemon.ps().is_empty() && daemon.audit().len() >= 2);
}
