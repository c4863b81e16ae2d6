//! Files that go while their exec waits, and files that are no programs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread};

use clawd_tests::{Prober, sha256_of_file};
use serde_json::{Value, json};

use super::{connect, folder, policy};
use crate::{
    programs::{
        CURL, copy, denied, fetch, last_exec, path_entry, records, replace, sha256_entry,
        waiting_in_exec,
    },
    support::{PYTHON_ENTRY, World, eventually},
};

/// Has the prober fetch with `program` while the gate is stopped, does `meanwhile` when the exec
/// waits, and lets the gate go on; the fetch is refused for want of an identity.
fn fetch_while_it_waits(name: &str, meanwhile: impl FnOnce(&Path)) -> Value {
    let world = World::start();
    let folder = folder(&world);
    let program = copy(CURL, &folder.join(name), name.as_bytes());
    let entries = [
        sha256_entry(&sha256_of_file(&program).unwrap()),
        path_entry(&program),
    ];
    let mut prober = world.prober("box", &policy(&world, &[&folder], &entries));
    fetch_is_denied_while(&world, &mut prober, (&program, "no_identity"), || {
        meanwhile(&program);
    });
    let denials = world.denials("box", 0);
    assert_eq!(
        denials[0]["exe"].as_str().map(|exe| exe.contains(name)),
        Some(true)
    );
    let execs = records(&world, Some("box"), "exec");
    let exec = execs.into_iter().rfind(|record| {
        record["exe"]
            .as_str()
            .is_some_and(|exe| exe.starts_with(program.to_str().unwrap()))
    });
    exec.unwrap()
}

fn fetch_is_denied_while(
    world: &World,
    prober: &mut Prober,
    (program, reason): (&Path, &str),
    meanwhile: impl FnOnce(),
) {
    let attempt = || {
        // With clawd stopped too nobody kills the gate for its silence.
        let gate = world.daemon.stop_with_gate().unwrap();
        thread::scope(|scope| {
            let fetched = scope.spawn(|| fetch(prober, program));
            eventually("the exec waits", || waiting_in_exec(world, "box") == 1);
            meanwhile();
            drop(gate);
            fetched.join().unwrap()
        })
    };
    let (code, denial) = denied(world, "box", reason, attempt);
    assert_eq!(code, 7, "{denial}");
}

#[test]
fn file_that_vanishes_while_its_exec_waits_has_no_identity() {
    let exec = fetch_while_it_waits("vanished", |program| fs::remove_file(program).unwrap());
    assert_eq!(exec["reason"], "no_identity_unlinked", "{exec}");
}

#[test]
fn file_that_is_replaced_while_its_exec_waits_has_no_identity() {
    let mut new_sha256 = String::new();
    let exec = fetch_while_it_waits("replaced", |program| {
        replace(CURL, program, b"another");
        new_sha256 = sha256_of_file(program).unwrap();
    });
    assert_eq!(exec["reason"], "no_identity_unlinked", "{exec}");
    assert_ne!(exec["sha256"], new_sha256, "{exec}");
}

#[test]
fn file_that_its_user_may_execute_and_not_read_is_identified() {
    let world = World::start();
    let folder = folder(&world);
    let program = copy(CURL, &folder.join("unreadable"), b"unreadable");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o111)).unwrap();
    let mut prober = world.prober("box", &policy(&world, &[&folder], &[path_entry(&program)]));
    let read = prober.ask(&json!({ "do": "run", "argv": ["cat", program] }));
    assert_eq!(read["ok"]["code"], 1, "{read}");
    assert_eq!(fetch(&mut prober, &program), 0);
    let exec = last_exec(&world, "box", &program);
    assert_eq!(exec["reason"], "identified", "{exec}");
    assert_eq!(exec["sha256"], sha256_of_file(&program).unwrap(), "{exec}");
}

#[test]
fn what_is_no_program_fails_by_itself_and_leaves_gate_and_grants_alone() {
    let world = World::start();
    let folder = folder(&world);
    let noise: Vec<u8> = (0..65_536_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let elf_head = fs::read(CURL).unwrap()[..100].to_vec();
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "ENOEXEC"),
        ("noise", &noise, "ENOEXEC"),
        ("cut", &elf_head, "ENOEXEC"),
        ("lost", b"#!/nowhere/interpreter\n", "ENOENT"),
        ("itself", b"#!/\n", "EACCES"),
    ];
    let paths = cases.map(|(name, content, _)| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    });
    fs::create_dir(folder.join("directory")).unwrap();
    let mut entries: Vec<String> = paths.iter().map(path_entry).collect();
    entries.push(path_entry(folder.join("directory")));
    entries.push(PYTHON_ENTRY.to_owned());
    let mut prober = world.prober("box", &policy(&world, &[&folder], &entries));
    let directory = (folder.join("directory"), "EACCES");
    let wanted = paths.into_iter().zip(cases.map(|(_, _, errno)| errno));
    for (path, errno) in wanted.chain([directory]) {
        for _ in 0..3 {
            let answer = prober.ask(&json!({ "do": "run", "argv": [path] }));
            assert_eq!(answer["name"], errno, "{}: {answer}", path.display());
        }
        // The process whose exec failed is still who it was.
        assert_eq!(prober.ask(&connect())["ok"], "ping");
    }
    let execs = records(&world, Some("box"), "exec");
    let folder = folder.to_str().unwrap();
    let is_theirs = |exec: &&Value| {
        exec["exe"]
            .as_str()
            .is_some_and(|exe| exe.starts_with(folder))
    };
    assert_eq!(execs.iter().find(is_theirs), None);
    assert_eq!(world.denials("box", 0), Vec::<Value>::new());
    assert_eq!(world.daemon.gate_restarts(), 0);
}
