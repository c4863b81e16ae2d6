//! B2 in a sandbox's own folder: other names for a listed program, other programs under its name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clawd_tests::{FileSystem, Kind, sha256_of_file};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::json;

use super::{
    EPERM, EXECUTE, Script, WRITE_AND_EXECUTE,
    caller::{self, LISTED_PORT, OTHER_PORT},
    denial, execute, only, policy, reaches, unseen, writable,
};
use crate::support::{World, code};

const SOURCE: &str = include_str!("../../../../escapes/b02_same_name.py");
const SIZE_BYTES: usize = 64 << 10;

/// A folder with the listed program, pinned by its path, and the other one.
struct Folder {
    root: PathBuf,
    fetch: PathBuf,
    other: PathBuf,
}

impl Folder {
    /// Makes one in `parent`. The path is pinned by a sandbox that cannot write it.
    #[track_caller]
    fn new(world: &World, parent: &Path, name: &str) -> Self {
        let root = writable(parent, name);
        let folder = Self {
            fetch: caller::write(&root, "fetch", LISTED_PORT, SIZE_BYTES),
            other: caller::write(&root, "other", OTHER_PORT, SIZE_BYTES),
            root,
        };
        let first = folder.policy(EXECUTE);
        reaches(world, || {
            let output = world.daemon.run(&first, &[&folder.fetch]);
            assert_eq!(code(&output), 0, "{output:?}");
        });
        folder
    }

    /// A policy that lists the path.
    fn policy(&self, list: &str) -> String {
        policy(
            list,
            &self.root,
            &format!("{{ path: {} }}", self.fetch.display()),
        )
    }

    /// Starts `trick`, and sees the listed program connect before it is played.
    #[track_caller]
    fn before(&self, world: &World, trick: &str) -> Script {
        let policy = self.policy(WRITE_AND_EXECUTE);
        let arguments = [trick, self.root.to_str().unwrap()];
        let mut script = Script::start(world, &name(trick), &policy, SOURCE, &arguments);
        reaches(world, || {
            assert_eq!(script.value(), json!({ "code": 0 }), "{trick}")
        });
        script
    }
}

/// A sandbox's name for a trick.
fn name(trick: &str) -> String {
    trick.replace('_', "-")
}

/// The trick gives the listed content another name: it connects all the same.
#[track_caller]
fn keeps_identity(world: &World, trick: &str) {
    let folder = Folder::new(world, world.daemon.scratch().dir(), trick);
    let mut script = folder.before(world, trick);
    reaches(world, || {
        assert_eq!(script.go_on(), json!({ "code": 0 }), "{trick}")
    });
    script.end();
    assert_eq!(world.denials(&name(trick), 0).len(), 0, "{trick}");
}

/// The trick gives the other content the listed name: it does not connect, and is told of as what
/// it is. `executed` is the file that is executed in the end.
#[track_caller]
fn loses_identity(world: &World, parent: &Path, trick: &str, executed: &str) {
    let folder = Folder::new(world, parent, trick);
    let mut script = folder.before(world, trick);
    let (answer, records) = unseen(world, &name(trick), || script.go_on());
    script.end();
    assert_eq!(answer, json!({ "code": EPERM }), "{trick}");
    let program = folder.root.join(executed);
    let reason = match trick {
        "executed" => "binary_not_listed",
        _ => "binary_changed",
    };
    let denial = denial(&records, reason, &program);
    let other = caller::digest(OTHER_PORT, SIZE_BYTES);
    assert_eq!(denial["sha256"], other, "{trick}: {denial}");
    assert_eq!(sha256_of_file(&program).unwrap(), other, "{trick}");
    if reason == "binary_changed" {
        let pinned = caller::digest(LISTED_PORT, SIZE_BYTES);
        assert_eq!(denial["pinned_sha256"], pinned, "{trick}: {denial}");
    }
    let exec = only(&records, "exec", &program);
    assert_eq!(exec["reason"], "identified", "{trick}: {exec}");
    assert_eq!(exec["sha256"], other, "{trick}: {exec}");
}

#[test]
fn b02_listed_content_keeps_its_identity_under_every_name() {
    let world = World::start();
    for trick in ["copied", "hard_linked", "linked", "moved"] {
        keeps_identity(&world, trick);
    }
}

#[test]
fn b02_other_content_gains_nothing_by_a_listed_name() {
    let world = World::start();
    let parent = world.daemon.scratch().dir();
    loses_identity(&world, parent, "executed", "other");
    loses_identity(&world, parent, "copied_over", "fetch");
    loses_identity(&world, parent, "hard_linked_over", "fetch");
    loses_identity(&world, parent, "linked_over", "other");
    loses_identity(&world, parent, "renamed_over", "fetch");
}

#[test]
fn b02_same_size_edited_in_place_with_its_times_restored() {
    let world = World::start();
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Tmpfs] {
        let disk = FileSystem::mount(world.daemon.scratch(), kind, kind.name()).unwrap();
        loses_identity(&world, disk.path(), "edited", "fetch");
    }
}

/// Only these use an inode number again soon.
#[test]
fn b02_inode_number_used_again() {
    let world = World::start();
    for kind in [Kind::Ext4, Kind::Xfs] {
        let disk = FileSystem::mount(world.daemon.scratch(), kind, kind.name()).unwrap();
        loses_identity(&world, disk.path(), "inode_reused", "fetch");
    }
}

/// A file of the host that is bound over another.
struct Bound(PathBuf);

impl Bound {
    fn new(file: &Path, over: &Path) -> Self {
        mount_bind(file, over).unwrap();
        Self(over.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

#[test]
fn b02_bind_mounts_show_their_content() {
    let world = World::start();
    for (number, list) in [EXECUTE, WRITE_AND_EXECUTE].into_iter().enumerate() {
        let folder = Folder::new(&world, world.daemon.scratch().dir(), list);
        let place = folder.root.join("place");
        fs::write(&place, "").unwrap();
        let listed = caller::write(&folder.root, "listed", LISTED_PORT, SIZE_BYTES);
        let _elsewhere = Bound::new(&listed, &place);
        let _over = Bound::new(&folder.other, &folder.fetch);

        let sandbox = format!("box{number}");
        let mut prober = world.prober(&sandbox, &folder.policy(list));
        reaches(&world, || {
            assert_eq!(execute(&mut prober, &place), json!({ "code": 0 }), "{list}");
        });
        let (answer, records) = unseen(&world, &sandbox, || execute(&mut prober, &folder.fetch));
        assert_eq!(answer, json!({ "code": EPERM }), "{list}");
        let denial = denial(&records, "binary_changed", &folder.fetch);
        let other = caller::digest(OTHER_PORT, SIZE_BYTES);
        assert_eq!(denial["sha256"], other, "{denial}");
        drop(prober);
    }
}
