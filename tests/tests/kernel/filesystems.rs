//! A binary is the same to the gate and to the kernel on every file system that carries identities.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use clawd_tests::{Address, FileSystem, FuseMirror, Kind, sha256_of_file};
use serde_json::Value;

use crate::support::{Denial, World, code, direct_with, group, text};

const ENDPOINT: &str = "{ host: 192.0.2.10, port: 80 }";
const SMALL: &str = "http://192.0.2.10/small";

/// Copies curl to `folder`, with `more` at its end.
fn curl(folder: &Path, name: &str, more: &[u8]) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    fs::copy("/usr/bin/curl", &path).unwrap();
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(more).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Writes other bytes into the inode of a program that was identified a moment ago, where its path is
/// pinned: refused with both hashes, until an operator has the pin forgotten.
#[track_caller]
fn is_another_once_rewritten(world: &World, listed: &Path) {
    let was = sha256_of_file(listed).unwrap();
    let mut file = File::options().append(true).open(listed).unwrap();
    file.write_all(b"y").unwrap();
    drop(file);
    let is = sha256_of_file(listed).unwrap();
    let before = world.internet.traffic().unwrap();
    let output = fetch(world, "rewritten", listed, listed);
    assert_eq!(code(&output), 7, "{output:?}");
    assert_eq!(world.internet.traffic().unwrap(), before);
    let denials = world.denials("rewritten", 0);
    let [denial] = denials.as_slice() else {
        panic!("one denial: {denials:?}")
    };
    assert_eq!(denial["reason"], "binary_changed", "{denial}");
    assert_eq!(denial["exe"], listed.display().to_string(), "{denial}");
    assert_eq!(denial["sha256"], is, "{denial}");
    assert_eq!(denial["pinned_sha256"], was, "{denial}");
    let record = exec(world, "rewritten", listed);
    assert_eq!(record["reason"], "identified", "{record}");
    assert_eq!(record["sha256"], is, "{record}");

    let path = listed.to_str().unwrap();
    let report = world.daemon.json(&["identity", "forget", path]);
    assert_eq!(report[0]["forgotten"][0]["sha256"], was, "{report:?}");
    is_fetched(world, "forgotten", listed);
}

/// Has `program` fetch a file in sandbox `name`, where `listed` may and its folder is executable.
fn fetch(world: &World, name: &str, listed: &Path, program: &Path) -> Output {
    let trees = format!("[/usr, {}]", listed.parent().unwrap().display());
    let entry = format!("{{ path: {} }}", listed.display());
    let policy = direct_with(&trees, "[]", &group("g", ENDPOINT, &entry));
    let argv = [program.to_str().unwrap(), "-sS", SMALL];
    let mut command = world.daemon.run_command(&policy, Some(name), &argv);
    command.output().unwrap()
}

/// The one exec record of `program` in sandbox `name`.
fn exec(world: &World, name: &str, program: &Path) -> Value {
    let is_its = |record: &Value| {
        record["sandbox"] == name
            && record["activity"] == "exec"
            && record["exe"] == program.display().to_string()
    };
    let records: Vec<Value> = world.daemon.audit().into_iter().filter(is_its).collect();
    let [record] = records.as_slice() else {
        panic!("one exec of {program:?}: {records:?}")
    };
    record.clone()
}

#[track_caller]
fn is_fetched(world: &World, name: &str, program: &Path) {
    let seen_before = world.internet.contacts_at(Address::A, 80).len();
    let output = fetch(world, name, program, program);
    assert_eq!(text(&output.stdout), "small file\n", "{output:?}");
    let record = exec(world, name, program);
    assert_eq!(record["reason"], "identified", "{record}");
    assert_eq!(
        record["sha256"],
        sha256_of_file(program).unwrap(),
        "{record}"
    );
    assert_eq!(world.denials(name, 0), Vec::<Value>::new());
    let seen = world.internet.contacts_at(Address::A, 80).len();
    assert_eq!(seen, seen_before + 1, "{output:?}");
}

#[track_caller]
fn is_refused(world: &World, name: &str, listed: &Path, program: &Path) {
    let want = Denial {
        exe: program,
        ..Denial::tcp("binary_not_listed", Address::A, 80)
    };
    let output = world.refused(name, &want, || fetch(world, name, listed, program));
    assert_eq!(code(&output), 7, "{output:?}");
    let record = exec(world, name, program);
    assert_eq!(record["reason"], "identified", "{record}");
}

fn carries_identities(kind: Kind) {
    let world = World::start();
    let disk = FileSystem::mount(world.daemon.scratch(), kind, "disk").unwrap();
    let folder = disk.path().join("bin");
    let listed = curl(&folder, "fetch", b"");
    let other = curl(&folder, "other", b"x");
    is_fetched(&world, "listed", &listed);
    is_refused(&world, "unlisted", &listed, &other);
    is_another_once_rewritten(&world, &listed);
}

#[test]
fn ext4_carries_identities() {
    carries_identities(Kind::Ext4);
}

#[test]
fn xfs_carries_identities() {
    carries_identities(Kind::Xfs);
}

#[test]
fn btrfs_carries_identities() {
    carries_identities(Kind::Btrfs);
}

#[test]
fn tmpfs_carries_identities() {
    carries_identities(Kind::Tmpfs);
}

#[test]
fn overlay_carries_identities() {
    carries_identities(Kind::Overlay);
}

#[test]
fn lower_layer_of_an_overlay_carries_identities() {
    let world = World::start();
    let disk = FileSystem::mount(world.daemon.scratch(), Kind::Overlay, "disk").unwrap();
    let lower = disk.lower().unwrap().join("bin");
    curl(&lower, "fetch", b"");
    curl(&lower, "other", b"x");
    let listed = disk.path().join("bin/fetch");
    let other = disk.path().join("bin/other");
    is_fetched(&world, "listed", &listed);
    is_refused(&world, "unlisted", &listed, &other);
    assert!(!disk.upper().unwrap().join("bin").exists());

    // Now its content is copied up: the file is another inode below, the same one above.
    is_another_once_rewritten(&world, &listed);
    assert!(disk.upper().unwrap().join("bin/fetch").exists());
}

#[test]
fn fuse_carries_no_identity() {
    let world = World::start();
    let source = world.daemon.scratch().folder("source", 0o755).unwrap();
    curl(&source, "fetch", b"");
    let mirror = FuseMirror::mount(world.daemon.scratch(), &source, "mirror").unwrap();
    let program = mirror.path().join("fetch");
    let before = world.internet.traffic().unwrap();
    let output = fetch(&world, "box", &program, &program);
    assert_eq!(code(&output), 7, "{output:?}");
    assert_eq!(world.internet.traffic().unwrap(), before);
    assert_eq!(world.internet.contacts(), Vec::new());

    let record = exec(&world, "box", &program);
    assert_eq!(record["reason"], "no_identity_file_system", "{record}");
    assert_eq!(record["sha256"], Value::Null, "{record}");
    let denials = world.denials("box", 0);
    let [denial] = denials.as_slice() else {
        panic!("one denial: {denials:?}")
    };
    assert_eq!(denial["reason"], "no_identity", "{denial}");
    assert_eq!(denial["exe"], program.display().to_string(), "{denial}");
    assert_eq!(denial["dst_ip"], Address::A, "{denial}");
}
