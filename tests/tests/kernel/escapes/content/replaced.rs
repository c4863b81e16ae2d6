//! B2 from outside: the host changes a listed program under a sandbox that runs and has executed
//! it.

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use clawd_tests::{FileSystem, Kind};
use serde_json::{Value, json};

use super::{
    EPERM, EXECUTE,
    caller::{self, LISTED_PORT, OTHER_PORT},
    denial, execute, only, policy, reaches, unseen, writable,
};
use crate::support::World;

const SIZE_BYTES: usize = 64 << 10;

/// Brings the other content to a path, with everything restored that can be.
type Change = fn(&Path);

fn renamed_over(path: &Path) {
    let folder = path.parent().unwrap();
    let new = caller::write(folder, "new", OTHER_PORT, SIZE_BYTES);
    fs::rename(new, path).unwrap();
}

fn restore_times(path: &Path, before: &fs::Metadata) {
    let times = FileTimes::new()
        .set_accessed(before.accessed().unwrap())
        .set_modified(before.modified().unwrap());
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(times).unwrap();
    let after = path.metadata().unwrap();
    let shown = |of: &fs::Metadata| (of.ino(), of.len(), of.mtime_nsec(), of.mode());
    assert_eq!(shown(before), shown(&after));
}

fn edited_in_place(path: &Path) {
    let before = path.metadata().unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let image = caller::image(OTHER_PORT, SIZE_BYTES);
    file.write_all_at(&image, 0).unwrap();
    drop(file);
    restore_times(path, &before);
}

fn inode_used_again(path: &Path) {
    let before = path.metadata().unwrap();
    let folder = path.parent().unwrap();
    fs::remove_file(path).unwrap();
    let found = (0..1000)
        .map(|number| caller::write(folder, &format!("new{number}"), OTHER_PORT, SIZE_BYTES))
        .find(|new| new.metadata().unwrap().ino() == before.ino());
    fs::rename(found.expect("the number comes again"), path).unwrap();
    restore_times(path, &before);
}

/// The listed program in a folder of its own.
fn listed(parent: &Path) -> PathBuf {
    caller::write(&writable(parent, "bin"), "fetch", LISTED_PORT, SIZE_BYTES)
}

/// Changes a program that was identified in sandbox `name` a moment ago; returns its records since.
#[track_caller]
fn is_refused_after(
    world: &World,
    name: &str,
    parent: &Path,
    entry: &str,
    change: Change,
) -> Vec<Value> {
    let program = listed(parent);
    let entry = entry.replace("PATH", program.to_str().unwrap());
    let policy = policy(EXECUTE, program.parent().unwrap(), &entry);
    let mut prober = world.prober(name, &policy);
    for _ in 0..2 {
        reaches(world, || {
            assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
        });
    }
    change(&program);
    let (answer, records) = unseen(world, name, || execute(&mut prober, &program));
    assert_eq!(answer, json!({ "code": EPERM }));
    prober.end().unwrap();
    let exec = only(&records, "exec", &program);
    assert_eq!(exec["reason"], "identified", "{exec}");
    assert_eq!(
        exec["sha256"],
        caller::digest(OTHER_PORT, SIZE_BYTES),
        "{exec}"
    );
    records
}

const CASES: [(Kind, Change); 8] = [
    (Kind::Ext4, renamed_over),
    (Kind::Ext4, edited_in_place),
    (Kind::Ext4, inode_used_again),
    (Kind::Xfs, edited_in_place),
    (Kind::Xfs, inode_used_again),
    (Kind::Btrfs, edited_in_place),
    (Kind::Tmpfs, edited_in_place),
    (Kind::Overlay, edited_in_place),
];

#[test]
fn b02_content_listed_by_its_hash_and_changed_by_the_host() {
    let world = World::start();
    for (number, (kind, change)) in CASES.into_iter().enumerate() {
        let name = format!("box{number}");
        let disk = FileSystem::mount(world.daemon.scratch(), kind, &name).unwrap();
        let entry = format!("{{ sha256: {} }}", caller::digest(LISTED_PORT, SIZE_BYTES));
        let records = is_refused_after(&world, &name, disk.path(), &entry, change);
        let program = disk.path().join("bin/fetch");
        let denial = denial(&records, "binary_not_listed", &program);
        let other = caller::digest(OTHER_PORT, SIZE_BYTES);
        assert_eq!(denial["sha256"], other, "{kind:?}: {denial}");
    }
}

#[test]
fn b02_content_listed_by_its_path_and_changed_by_the_host() {
    let pinned = caller::digest(LISTED_PORT, SIZE_BYTES);
    let found = caller::digest(OTHER_PORT, SIZE_BYTES);
    let world = World::start();
    for (number, (kind, change)) in CASES.into_iter().enumerate() {
        let name = format!("box{number}");
        let disk = FileSystem::mount(world.daemon.scratch(), kind, &name).unwrap();
        let records = is_refused_after(&world, &name, disk.path(), "{ path: PATH }", change);
        let program = disk.path().join("bin/fetch");
        let denied = denial(&records, "binary_changed", &program);
        let detected = only(&records, "binary_changed", &program);
        for record in [denied, detected] {
            assert_eq!(record["sha256"], found, "{kind:?}: {record}");
            assert_eq!(record["pinned_sha256"], pinned, "{kind:?}: {record}");
            assert!(record["rule"].is_string(), "{kind:?}: {record}");
        }
    }
}

#[test]
fn b02_forgotten_pin_is_made_anew_from_what_is_there() {
    let world = World::start();
    let program = listed(world.daemon.scratch().dir());
    let entry = format!("{{ path: {} }}", program.display());
    let policy = policy(EXECUTE, program.parent().unwrap(), &entry);
    let mut prober = world.prober("box", &policy);
    reaches(&world, || {
        assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    });
    renamed_over(&program);
    for _ in 0..2 {
        let (answer, records) = unseen(&world, "box", || execute(&mut prober, &program));
        assert_eq!(answer, json!({ "code": EPERM }));
        denial(&records, "binary_changed", &program);
    }

    let path = program.to_str().unwrap();
    let report = world.daemon.json(&["identity", "forget", path]);
    assert_eq!(report[0]["forgotten"][0]["path"], path, "{report:?}");
    let before = super::contacts(&world, OTHER_PORT);
    assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    crate::support::eventually("the server sees it", || {
        super::contacts(&world, OTHER_PORT) > before
    });
    let found = caller::digest(OTHER_PORT, SIZE_BYTES);
    let pinned: Vec<Value> = world
        .daemon
        .audit()
        .into_iter()
        .filter(|record| record["activity"] == "binary_pinned" && record["exe"] == path)
        .collect();
    assert_eq!(pinned.len(), 2, "{pinned:?}");
    assert_eq!(pinned[1]["sha256"], found, "{pinned:?}");
    let pins = world.daemon.json(&["identity", "list"]);
    assert_eq!(pins[0]["pins"][0]["sha256"], found, "{pins:?}");
}
