//! B3: files without a name, or on file systems that do not vouch for content, have no identity.
//!
//! Every policy here lists curl by its content, so that the place alone makes the difference.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clawd_tests::{FileSystem, FuseMirror, Kind, Prober, sha256_of_file};
use serde_json::{Value, json};

use super::{Allowed, NOT_CONNECTED, Ran, SMALL, SMALL_CONTENT, Seen, Who};
use crate::support::{World, eventually};

const SCRIPT: &str = include_str!("../../../escapes/b03_nameless_files.py");
const BENEATH: &str = include_str!("../../../escapes/b03_beneath_overlay.py");
const CURL: &str = "/usr/bin/curl";

/// An entry for curl's content, wherever it is.
fn entry() -> String {
    format!("{{ sha256: {} }}", sha256_of_file(CURL).unwrap())
}

/// A copy of curl that root puts there.
fn copy(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join("tool");
    fs::copy(CURL, &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A folder of the test that sandboxes may write to.
fn writable(world: &World, name: &str) -> PathBuf {
    world.daemon.scratch().folder(name, 0o777).unwrap()
}

/// Has curl's content executed by way `how`, in sandbox `name`.
fn execute(world: &World, name: &str, allowed: Allowed<'_>, how: &str, path: &Path) -> Ran {
    let entry = entry();
    let allowed = Allowed {
        binaries: &[&entry],
        ..allowed
    };
    let ask = json!({
        "do": how,
        "program": CURL,
        "path": path,
        "run": ["curl", "-sS", SMALL],
    });
    Ran::script(world, name, &allowed.policy(), SCRIPT, &ask)
}

/// The copy of curl has its identity and connects.
#[track_caller]
fn is_identified(world: &World, ran: &Ran, path: &Path) {
    assert_eq!(ran.step("exec")["out"], SMALL_CONTENT, "{:?}", ran.steps);
    ran.reached(world, 80, 1);
    ran.undisputed();
    let who = Who::by_python(path.to_str().unwrap());
    ran.executed(
        "identified",
        &Who {
            content: Some(Path::new(CURL)),
            ..who
        },
    );
}

/// The program runs and connects to nobody.
#[track_caller]
fn is_nobody(ran: &Ran, reason: &str, exe: &str) {
    assert_eq!(ran.step("exec")["code"], NOT_CONNECTED, "{:?}", ran.steps);
    ran.reached_nobody();
    let who = Who::unhashed(exe);
    ran.executed(reason, &who);
    ran.denied("no_identity", &who, 80);
}

#[test]
fn file_without_a_name_has_no_identity() {
    let world = World::start();
    let folder = writable(&world, "work");
    let allowed = Allowed {
        read_write_execute: &[&folder],
        ..Allowed::default()
    };
    let path = folder.join("tool");
    let execute = |name: &str, how: &str| execute(&world, name, allowed, how, &path);
    for how in ["named", "descriptor"] {
        let ran = execute(how, how);
        is_identified(&world, &ran, &path);
        fs::remove_file(&path).unwrap();
    }
    let deleted = format!("{} (deleted)", path.display());
    let nameless = format!("{}/#", folder.display());
    for (name, how, reason, exe) in [
        // No mount of the sandbox's shows it, so the gate has no event of it.
        ("memfd", "memfd", "no_identity_not_hashed", "/dev/fd/"),
        (
            "memfd-proc",
            "memfd_proc",
            "no_identity_not_hashed",
            "/proc/self/fd/",
        ),
        (
            "tmpfile",
            "tmpfile",
            "no_identity_unlinked",
            nameless.as_str(),
        ),
        (
            "deleted",
            "deleted",
            "no_identity_unlinked",
            deleted.as_str(),
        ),
        (
            "deleted-proc",
            "deleted_proc",
            "no_identity_unlinked",
            deleted.as_str(),
        ),
    ] {
        let ran = execute(name, how);
        let told = ran.denials().first().map(|denial| denial["exe"].clone());
        let told = told.unwrap_or_default();
        let told = told.as_str().unwrap_or_default();
        assert!(told.starts_with(exe), "{how}: {told}");
        is_nobody(&ran, reason, told);
    }
    // What was refused was the place: the same content with a name still has its identity.
    is_identified(&world, &execute("again", "named"), &path);
}

#[test]
fn file_that_a_process_serves_has_no_identity() {
    let world = World::start();
    let source = world.daemon.scratch().folder("source", 0o755).unwrap();
    let direct = copy(&source);
    let mirror = FuseMirror::mount(world.daemon.scratch(), &source, "mirror").unwrap();
    let served = mirror.path().join("tool");
    let allowed = Allowed {
        read_execute: &[&source, mirror.path()],
        ..Allowed::default()
    };
    is_identified(
        &world,
        &execute(&world, "good", allowed, "there", &direct),
        &direct,
    );
    let ran = execute(&world, "served", allowed, "there", &served);
    is_nobody(&ran, "no_identity_file_system", served.to_str().unwrap());
}

/// An overlay with curl in its upper layer, in a folder that sandboxes may write to.
fn overlay(world: &World) -> (FileSystem, PathBuf, PathBuf) {
    let disk = FileSystem::mount(world.daemon.scratch(), Kind::Overlay, "disk").unwrap();
    copy(&disk.path().join("bin"));
    let shown = disk.path().join("bin/tool");
    let beneath = disk.upper().unwrap().join("bin");
    // The change beneath has a time of its own, which the overlay shows when it is read.
    thread::sleep(Duration::from_millis(20));
    // Whoever may write it must not be root; an owner of its own may.
    for path in [&beneath, &beneath.join("tool")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    (disk, shown, beneath)
}

#[test]
fn overlay_that_the_sandbox_writes_beneath_lends_no_identity() {
    for executable in [false, true] {
        let world = World::start();
        let (disk, shown, beneath) = overlay(&world);
        let reader = Allowed {
            read_execute: &[disk.path()],
            ..Allowed::default()
        };
        let trees = [beneath.as_path()];
        let mut writer = reader;
        match executable {
            true => writer.read_write_execute = &trees,
            false => writer.read_write = &trees,
        }
        // Nobody has executed it before, then somebody has, who could not write beneath it.
        for name in ["writer", "writer-again"] {
            let ran = execute(&world, name, writer, "there", &shown);
            is_nobody(
                &ran,
                "no_identity_overlay_writable",
                shown.to_str().unwrap(),
            );
            let reads = format!("{name}-gone");
            is_identified(
                &world,
                &execute(&world, &reads, reader, "there", &shown),
                &shown,
            );
        }
    }
}

#[test]
fn overlay_that_another_sandbox_writes_beneath_loses_its_identity() {
    let world = World::start();
    let (disk, shown, beneath) = overlay(&world);
    let entry = entry();
    let reader = Allowed {
        read_execute: &[disk.path()],
        binaries: &[&entry],
        ..Allowed::default()
    };
    let writer = Allowed {
        read_write: &[&beneath],
        ..reader
    };
    // It lives all the time, and the gate knows the file in it.
    let mut live = world.prober("reader", &reader.policy());
    let fetch = json!({ "do": "run", "argv": [shown, "-sS", SMALL] });
    let answer = live.ask(&fetch);
    assert_eq!(answer["ok"]["out"], SMALL_CONTENT, "{answer}");

    // Another sandbox puts other bytes into the file beneath, and nothing shows it.
    let ask = json!({ "path": beneath.join("tool"), "old": "Usage: curl", "new": "Usage: evil" });
    let mut other = world.prober("other", &writer.policy());
    let ran = Ran::script(&world, "writer", &writer.policy(), BENEATH, &ask);
    let step = ran.step("written");
    assert!(step["at"].as_u64() > Some(0), "{step}");
    assert_eq!(step["unseen"], true, "{step}");
    assert_ne!(
        sha256_of_file(&shown).unwrap(),
        sha256_of_file(CURL).unwrap()
    );
    let refuse = |live: &mut Prober| {
        let (before, denied_before) = (Seen::now(&world), world.denials("reader", 0).len());
        let answer = live.ask(&fetch);
        assert_eq!(answer["ok"]["code"], NOT_CONNECTED, "{answer}");
        assert_eq!(Seen::now(&world), before, "the internet saw it");
        let denials = world.denials("reader", 0);
        let [denial] = &denials[denied_before..] else {
            panic!("one denial: {denials:?}")
        };
        let is_its =
            |record: &Value| record["pid"] == denial["pid"] && record["activity"] == "exec";
        let exec = world.daemon.audit().into_iter().find(is_its);
        (denial.clone(), exec.expect("its exec"))
    };
    let who = Who::unhashed(shown.to_str().unwrap());
    let (denial, exec) = refuse(&mut live);
    assert_eq!(denial["reason"], "no_identity", "{denial}");
    assert_eq!(exec["reason"], "no_identity_overlay_writable", "{exec}");
    who.is_told_by(&denial);
    who.is_told_by(&exec);

    // Nobody can write there any more; but the writer may have handed a descriptor on, and beneath an
    // overlay that would not show.
    other.end().unwrap();
    eventually("the writer is gone", || world.daemon.ps().len() == 1);
    let (denial, exec) = refuse(&mut live);
    assert_eq!(denial["reason"], "no_identity", "{denial}");
    assert_eq!(exec["reason"], "no_identity_overlay_writable", "{exec}");

    // Once nobody lives who could have it, the file is what it is now.
    live.end().unwrap();
    eventually("the reader is gone", || world.daemon.ps().is_empty());
    let mut live = world.prober("reader", &reader.policy());
    let who = Who::by_python(shown.to_str().unwrap());
    let (denial, exec) = refuse(&mut live);
    assert_eq!(denial["reason"], "binary_not_listed", "{denial}");
    assert_eq!(exec["reason"], "identified", "{exec}");
    who.is_told_by(&denial);
    who.is_told_by(&exec);
}
