//! B10: programs that are written through a shared mapping, which moves no change time.

use std::path::{Path, PathBuf};

use clawd_tests::{FileSystem, Kind};
use serde_json::{Value, json};

use super::{
    EPERM, ETXTBSY, EXECUTE, Script, WRITE, WRITE_AND_EXECUTE,
    caller::{self, LISTED_PORT, OTHER_PORT},
    contacts, denial, execute, only, policy, reaches, unseen, writable,
    writers::{no_content_was_taken_for_another, tries},
};
use crate::support::{CURL_ENTRY, World, eventually, told_in_all};

const MAPPING: &str = include_str!("../../../../escapes/b10_mapping.py");
const RACE: &str = include_str!("../../../../escapes/b10_race.py");

/// Large enough that hashing it takes its time.
const SIZE_BYTES: usize = 1 << 20;
/// How often a program is written while its exec is under way.
const TRIES: u64 = 200;
/// The longest from the start of an exec until that, in microseconds: hashing takes some thousand.
const LONGEST_US: u64 = 8000;

/// The entry of the listed program.
fn entry() -> String {
    format!("{{ sha256: {} }}", caller::digest(LISTED_PORT, SIZE_BYTES))
}

/// The byte of the program that its port depends on.
fn byte(port: u16) -> String {
    port.to_be_bytes()[1].to_string()
}

/// A folder of a file system, and the listed program in it, which everybody may write.
fn program(disk: &FileSystem) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = writable(disk.path(), "bin");
    let program = caller::write(&folder, "fetch", LISTED_PORT, SIZE_BYTES);
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&program, mode).unwrap();
    (folder, program)
}

/// Starts the script that maps `program`: see it for what it does.
fn mapping(world: &World, sandbox: &str, policy: &str, program: &Path, how: &str) -> Script {
    let arguments = [
        program.to_str().unwrap(),
        &caller::port_at().to_string(),
        &byte(OTHER_PORT),
        how,
    ];
    Script::start(world, sandbox, policy, MAPPING, &arguments)
}

/// The exec was refused, and left nothing.
#[track_caller]
fn is_busy(answer: &Value, records: &[Value]) {
    assert_eq!(answer["errno"], ETXTBSY, "{answer}");
    assert_eq!(records, &[] as &[Value]);
}

/// A program of an overlay that a sandbox can write: without identity.
#[track_caller]
fn is_nobody(answer: &Value, records: &[Value], program: &Path) {
    assert_eq!(answer["code"], EPERM, "{answer}");
    let denial = only(records, "connect", program);
    assert_eq!(denial["action"], "denied", "{denial}");
    assert_eq!(denial["reason"], "no_identity", "{denial}");
    assert_eq!(denial["sha256"], Value::Null, "{denial}");
    let exec = only(records, "exec", program);
    assert_eq!(exec["reason"], "no_identity_overlay_writable", "{exec}");
}

/// A program of an overlay that is mapped: kernels differ in whether the mapping, which is one of
/// the file below, keeps an exec away.
#[track_caller]
fn is_busy_or_nobody(answer: &Value, records: &[Value], program: &Path) {
    if answer["code"].is_null() {
        is_busy(answer, records);
    } else {
        is_nobody(answer, records, program);
    }
}

/// A program that was written through the mapping has the identity of what was written.
#[track_caller]
fn is_the_other(answer: &Value, records: &[Value], program: &Path) {
    assert_eq!(answer["code"], EPERM, "{answer}");
    let other = caller::digest(OTHER_PORT, SIZE_BYTES);
    let denial = denial(records, "binary_not_listed", program);
    assert_eq!(denial["sha256"], other, "{denial}");
    let exec = only(records, "exec", program);
    assert_eq!(exec["reason"], "identified", "{exec}");
    assert_eq!(exec["sha256"], other, "{exec}");
}

/// Maps, executes, writes, unmaps and executes in one sandbox.
#[track_caller]
fn own_mapping_gains_nothing(kind: Kind) {
    let world = World::start();
    let disk = FileSystem::mount(world.daemon.scratch(), kind, "disk").unwrap();
    let (folder, program) = program(&disk);
    let policy = policy(WRITE_AND_EXECUTE, &folder, &entry());
    let mut script = mapping(&world, "box", &policy, &program, "execute");
    reaches(&world, || assert_eq!(script.value()["code"], 0));
    let (mapped, records) = unseen(&world, "box", || script.go_on());
    is_busy(&mapped, &records);
    let (written, records) = unseen(&world, "box", || script.go_on());
    script.end();
    assert_eq!(written["moved_ns"], 0, "the write shows");
    is_the_other(&written, &records, &program);
}

#[test]
fn b10_own_mapping_on_ext4() {
    own_mapping_gains_nothing(Kind::Ext4);
}

#[test]
fn b10_own_mapping_on_xfs() {
    own_mapping_gains_nothing(Kind::Xfs);
}

#[test]
fn b10_own_mapping_on_btrfs() {
    own_mapping_gains_nothing(Kind::Btrfs);
}

#[test]
fn b10_own_mapping_on_tmpfs() {
    own_mapping_gains_nothing(Kind::Tmpfs);
}

#[test]
fn b10_own_mapping_on_overlay() {
    let world = World::start();
    let disk = FileSystem::mount(world.daemon.scratch(), Kind::Overlay, "disk").unwrap();
    let (folder, program) = program(&disk);
    let mut prober = world.prober("before", &policy(EXECUTE, &folder, &entry()));
    reaches(&world, || {
        assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    });
    prober.end().unwrap();

    let policy = policy(WRITE_AND_EXECUTE, &folder, &entry());
    let ((mut script, answer), records) = unseen(&world, "box", || {
        let mut script = mapping(&world, "box", &policy, &program, "execute");
        let answer = script.value();
        (script, answer)
    });
    is_nobody(&answer, &records, &program);
    let (mapped, records) = unseen(&world, "box", || script.go_on());
    is_busy_or_nobody(&mapped, &records, &program);
    let (written, records) = unseen(&world, "box", || script.go_on());
    is_nobody(&written, &records, &program);
    script.end();
    assert_eq!(written["moved_ns"], 0, "the write shows");
}

/// One sandbox maps and writes what another executes.
#[track_caller]
fn other_sandboxes_mapping_gains_nothing(kind: Kind) {
    let world = World::start();
    let disk = FileSystem::mount(world.daemon.scratch(), kind, "disk").unwrap();
    let (folder, program) = program(&disk);
    let mut prober = world.prober("runs", &policy(EXECUTE, &folder, &entry()));
    // Known, and in the kernel's table, before there is a sandbox that can write it.
    reaches(&world, || {
        assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    });
    let writes = policy(WRITE, &folder, CURL_ENTRY);
    let mut script = mapping(&world, "writes", &writes, &program, "hold");
    script.value();
    let is_overlay = kind == Kind::Overlay;
    if !is_overlay {
        reaches(&world, || {
            assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
        });
    }

    script.go_on();
    let (answer, records) = unseen(&world, "runs", || execute(&mut prober, &program));
    if is_overlay {
        is_busy_or_nobody(&answer, &records, &program);
    } else {
        is_busy(&answer, &records);
    }

    let written = script.go_on();
    assert_eq!(written["moved_ns"], 0, "the write shows");
    let (answer, records) = unseen(&world, "runs", || execute(&mut prober, &program));
    if is_overlay {
        is_nobody(&answer, &records, &program);
    } else {
        is_the_other(&answer, &records, &program);
    }

    // Without the writer the file has an identity again, and it is that of its content now. Not on
    // an overlay, where it would not show that the writer had handed a descriptor on.
    script.end();
    eventually("the writer is gone", || world.daemon.ps().len() == 1);
    if is_overlay {
        let (answer, records) = unseen(&world, "runs", || execute(&mut prober, &program));
        is_nobody(&answer, &records, &program);
        return;
    }
    let (answer, records) = unseen(&world, "runs", || execute(&mut prober, &program));
    is_the_other(&answer, &records, &program);
    caller::write(&folder, "fetch", LISTED_PORT, SIZE_BYTES);
    reaches(&world, || {
        // A program that another test starts has this process's descriptors until its own exec.
        let mut answer = json!({ "errno": ETXTBSY });
        eventually("nobody has it open for writing", || {
            answer = execute(&mut prober, &program);
            answer["errno"] != ETXTBSY
        });
        assert_eq!(answer, json!({ "code": 0 }));
    });
}

#[test]
fn b10_other_sandboxes_mapping_on_ext4() {
    other_sandboxes_mapping_gains_nothing(Kind::Ext4);
}

#[test]
fn b10_other_sandboxes_mapping_on_xfs() {
    other_sandboxes_mapping_gains_nothing(Kind::Xfs);
}

#[test]
fn b10_other_sandboxes_mapping_on_btrfs() {
    other_sandboxes_mapping_gains_nothing(Kind::Btrfs);
}

#[test]
fn b10_other_sandboxes_mapping_on_tmpfs() {
    other_sandboxes_mapping_gains_nothing(Kind::Tmpfs);
}

#[test]
fn b10_other_sandboxes_mapping_on_overlay() {
    other_sandboxes_mapping_gains_nothing(Kind::Overlay);
}

#[test]
fn b10_written_and_unmapped_while_the_exec_is_under_way() {
    let world = World::start();
    let disk = FileSystem::mount(world.daemon.scratch(), Kind::Tmpfs, "disk").unwrap();
    let (folder, program) = program(&disk);
    let policy = policy(WRITE_AND_EXECUTE, &folder, &entry());
    let mut prober = world.prober("before", &policy);
    reaches(&world, || {
        assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    });
    let before = contacts(&world, LISTED_PORT);
    let arguments = [
        program.to_str().unwrap(),
        &caller::port_at().to_string(),
        &byte(LISTED_PORT),
        &byte(OTHER_PORT),
        &TRIES.to_string(),
        &LONGEST_US.to_string(),
    ];
    let mut script = Script::start(&world, "race", &policy, RACE, &arguments);
    let outcomes = script.value();
    script.end();
    println!("{outcomes}");
    assert_eq!(tries(&outcomes, &["code 1", "code 200"]), TRIES);
    no_content_was_taken_for_another(&world, "race", SIZE_BYTES);
    assert_eq!(contacts(&world, LISTED_PORT), before);
    let refused = outcomes["code 1"].as_u64().unwrap_or(0);
    eventually("every refusal is told, and no more", || {
        told_in_all(&world.denials("race", 0)) == refused
    });
}
