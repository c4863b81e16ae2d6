//! A daemon that was killed, and the one after it.

mod kills;
mod side_by_side;
mod upgrade;
mod watched;

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt as _};

use clawd_tests::Address;
use serde_json::json;

use crate::support::{
    Denial, PYTHON_ENTRY, World, direct, direct_with, eventually, group, processes, tcp,
};

const SMALL: &str = "http://192.0.2.10/small";

fn policy() -> String {
    let binaries = format!("{PYTHON_ENTRY}, {{ path: /usr/bin/curl }}");
    direct(&group(
        "g",
        "{ host: 192.0.2.10, ports: [80, 7000] }",
        &binaries,
    ))
}

#[test]
fn killed_daemon_leaves_every_verdict_in_place() {
    let mut world = World::start();
    let mut prober = world.prober("box", &policy());
    world.allows(&mut prober, &tcp(Address::A, 7000));
    world.daemon.kill9().unwrap();
    for _ in 0..20 {
        world.allows(&mut prober, &tcp(Address::A, 7000));
        let answer = prober.ask(&tcp(Address::B, 7000));
        assert_eq!(answer["errno"], 1, "{answer}");
        assert!(answer["ms"].as_f64() < Some(1000.0), "{answer}");
    }
    // A program that nobody hashed gets nothing; one that was hashed before would be known.
    let answer = prober.ask(&json!({ "do": "run", "argv": ["curl", "-sSv", SMALL] }));
    assert_eq!(answer["ok"]["code"], 7, "{answer}");
    assert!(world.internet.contacts_at(Address::B, 7000).is_empty());
    assert!(world.internet.contacts_at(Address::A, 80).is_empty());
    assert!(prober.end().unwrap().success());
}

#[test]
fn next_daemon_takes_over_the_sandbox() {
    let mut world = World::start();
    let mut prober = world.prober("box", &policy());
    world.daemon.kill9().unwrap();
    for _ in 0..3 {
        assert_eq!(prober.ask(&tcp(Address::B, 7000))["errno"], 1);
    }
    world.daemon.launch().unwrap();

    let ps = world.daemon.ps();
    assert_eq!(ps.len(), 1);
    assert_eq!(
        (&ps[0]["name"], &ps[0]["adopted"]),
        (&json!("box"), &json!(true))
    );
    // What happened while nobody read is read now.
    let denials = world.denials("box", 0);
    assert_eq!(denials.len(), 3, "{denials:?}");
    for denial in &denials {
        assert_eq!(
            (&denial["reason"], &denial["dst_ip"]),
            (&json!("address_not_listed"), &json!(Address::B))
        );
    }
    assert!(
        world
            .daemon
            .audit()
            .iter()
            .any(|record| record["activity"] == "daemon_took_over")
    );

    world.allows(&mut prober, &tcp(Address::A, 7000));
    let want = Denial::tcp("address_not_listed", Address::C, 7000);
    world.refuses(&mut prober, "box", &tcp(Address::C, 7000), &want);
    // Its later programs are hashed again.
    let answer = prober.ask(&json!({ "do": "run", "argv": ["curl", "-sS", SMALL] }));
    assert_eq!(answer["ok"]["out"], "small file\n", "{answer}");
    // It can be given another policy, and be stopped.
    let file = world.daemon.policy_file(&direct(&group(
        "g",
        "{ host: 192.0.2.11, port: 7000 }",
        PYTHON_ENTRY,
    )));
    let pushed = world
        .daemon
        .clawctl(["policy", "push", "--sandbox", "box", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{pushed:?}");
    world.allows(&mut prober, &tcp(Address::B, 7000));
    assert_eq!(prober.ask(&tcp(Address::A, 7000))["errno"], 1);
    let stopped = world.daemon.clawctl(["stop", "box"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(world.daemon.ps().is_empty());
    assert!(processes(&world.daemon, "box").is_empty());
}

#[test]
fn daemon_that_ends_in_order_leaves_live_sandboxes_judged() {
    let mut world = World::start();
    let mut prober = world.prober("box", &policy());
    assert!(world.daemon.terminate().unwrap().success());
    world.allows(&mut prober, &tcp(Address::A, 7000));
    assert_eq!(prober.ask(&tcp(Address::B, 7000))["errno"], 1);
    world.daemon.launch().unwrap();
    assert_eq!(world.daemon.ps()[0]["adopted"], true);
    world.allows(&mut prober, &tcp(Address::A, 7000));
}

#[test]
fn sandbox_that_ended_meanwhile_is_cleared_away() {
    let mut world = World::start();
    let mut prober = world.prober("box", &policy());
    world.daemon.kill9().unwrap();
    assert!(prober.end().unwrap().success());
    eventually("the sandbox is empty", || {
        processes(&world.daemon, "box").is_empty()
    });
    world.daemon.launch().unwrap();
    assert!(world.daemon.ps().is_empty());
    assert!(!world.daemon.paths().cgroup_parent.join("box").exists());
}

#[test]
fn daemon_killed_again_and_again_keeps_its_sandboxes() {
    let mut world = World::start();
    let mut prober = world.prober("box", &policy());
    for _ in 0..5 {
        world.daemon.restart().unwrap();
        world.allows(&mut prober, &tcp(Address::A, 7000));
        assert_eq!(prober.ask(&tcp(Address::B, 7000))["errno"], 1);
    }
    assert_eq!(world.denials("box", 0).len(), 5);
}

/// Mounts on which a process has fanotify marks, and the mounts that it sees itself.
fn marked_and_own_mounts(pid: u32) -> (HashSet<u32>, HashSet<u32>) {
    let mut marked = HashSet::new();
    for info in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .unwrap()
        .flatten()
    {
        let text = fs::read_to_string(info.path()).unwrap_or_default();
        let marks = text
            .lines()
            .filter_map(|line| line.strip_prefix("fanotify mnt_id:"));
        marked.extend(marks.map(|rest| {
            let id = rest.split(' ').next().unwrap_or_default();
            u32::from_str_radix(id, 16).expect("a mount id")
        }));
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let ids = mounts.lines().filter_map(|line| line.split(' ').next());
    (
        marked,
        ids.map(|id| id.parse().expect("a mount id")).collect(),
    )
}

#[test]
fn next_daemon_watches_no_mount_of_the_host_whatever_was_moved() {
    let mut world = World::start();
    let folder = world.daemon.scratch().folder("moved", 0o777).unwrap();
    fs::create_dir_all(folder.join("t/usr")).unwrap();
    fs::set_permissions(folder.join("t"), fs::Permissions::from_mode(0o777)).unwrap();
    let trees = format!("[/usr, {}/t/usr]", folder.display());
    let writable = format!("[{}]", folder.display());
    let mut prober = world.prober("box", &direct_with(&trees, &writable, ""));
    // The sandbox itself cannot.
    let mut sees = |script: &str| {
        let script = format!("cd {} && {script}", folder.display());
        prober.ask(&json!({ "do": "run", "argv": ["sh", "-c", script] }))
    };
    let answer = sees("mv t old");
    assert!(
        answer["ok"]["err"]
            .as_str()
            .is_some_and(|err| err.contains("busy")),
        "{answer}"
    );
    // Where its programs were, a link now leads to the root, and so to the host's own programs.
    fs::rename(folder.join("t"), folder.join("old")).unwrap();
    std::os::unix::fs::symlink("/", folder.join("t")).unwrap();
    let answer = sees("ls -d t/usr/bin");
    assert_eq!(answer["ok"]["code"], 0, "{answer}");
    world.daemon.kill9().unwrap();
    world.daemon.launch().unwrap();
    assert_eq!(world.daemon.ps().len(), 1);
    let (marked, own) = marked_and_own_mounts(world.daemon.gate_pid().unwrap());
    assert!(!marked.is_empty());
    assert!(marked.is_disjoint(&own), "{marked:?} {own:?}");
}
