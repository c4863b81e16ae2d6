//! B4: a dynamic loader runs a listed program's code; the loader has no identity to lend.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clawd_tests::sha256_of_file;
use serde_json::json;

use super::{Allowed, NOT_CONNECTED, Ran, SMALL, SMALL_CONTENT, Who};
use crate::support::{CURL_ENTRY, World};

const SCRIPT: &str = include_str!("../../../escapes/b04_loader.py");
const CURL: &str = "/usr/bin/curl";

/// The loader under the name that programs ask for it by.
fn loader() -> PathBuf {
    let names = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let found = names
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    found.expect("a dynamic loader")
}

fn run(world: &World, name: &str, allowed: &Allowed<'_>, argv: &[&str]) -> Ran {
    Ran::script(
        world,
        name,
        &allowed.policy(),
        SCRIPT,
        &json!({ "argv": argv }),
    )
}

/// `loader` runs curl, which connects to nobody although `entries` list what they can of it.
#[track_caller]
fn is_refused(world: &World, name: &str, loader: &Path, entries: &[&str]) -> Ran {
    let folder = world.daemon.scratch().path("programs");
    let allowed = Allowed {
        read_execute: &[&folder],
        binaries: entries,
        ..Allowed::default()
    };
    let argv = [loader.to_str().unwrap(), CURL, "-sS", SMALL];
    let ran = run(world, name, &allowed, &argv);
    assert_eq!(
        ran.step("run")["code"],
        NOT_CONNECTED,
        "{name}: {:?}",
        ran.steps
    );
    ran.reached_nobody();
    let shown = loader.canonicalize().unwrap();
    ran.denied("no_identity", &who(&ran, &shown), 80);
    ran.executed("no_identity_loader", &who(&ran, &shown));
    ran
}

/// Its content is told where the gate knows it already; a loader by name is not hashed.
fn who<'a>(ran: &Ran, shown: &'a Path) -> Who<'a> {
    let exe = shown.to_str().unwrap();
    match ran
        .denials()
        .iter()
        .all(|denial| denial["sha256"].is_null())
    {
        true => Who::unhashed(exe),
        false => Who::by_python(exe),
    }
}

#[test]
fn loader_lends_no_identity() {
    let world = World::start();
    let loader = loader();
    let folder = world.daemon.scratch().folder("programs", 0o755).unwrap();
    let copy = folder.join("tool");
    fs::copy(&loader, &copy).unwrap();
    let path = |path: &Path| format!("{{ path: {} }}", path.display());
    let sha256 = format!("{{ sha256: {} }}", sha256_of_file(&loader).unwrap());
    let real = loader.canonicalize().unwrap();
    let glob = format!("{{ path: \"{}/*\" }}", real.parent().unwrap().display());
    let everything = "{ path: \"/**\" }";

    let direct = Allowed {
        read_execute: &[&folder],
        binaries: &[CURL_ENTRY],
        ..Allowed::default()
    };
    let ran = run(&world, "good", &direct, &[CURL, "-sS", SMALL]);
    assert_eq!(ran.step("run")["out"], SMALL_CONTENT, "{:?}", ran.steps);
    ran.reached(&world, 80, 1);
    ran.undisputed();
    ran.executed("identified", &Who::by_python(CURL));

    is_refused(&world, "unlisted", &loader, &[CURL_ENTRY]);
    is_refused(&world, "by-path", &loader, &[CURL_ENTRY, &path(&loader)]);
    is_refused(&world, "by-real-path", &real, &[CURL_ENTRY, &path(&real)]);
    is_refused(&world, "by-sha256", &loader, &[CURL_ENTRY, &sha256]);
    is_refused(&world, "by-glob", &loader, &[CURL_ENTRY, &glob]);
    is_refused(&world, "by-everything", &loader, &[everything]);
    is_refused(&world, "copy-by-path", &copy, &[CURL_ENTRY, &path(&copy)]);
    is_refused(&world, "copy-by-sha256", &copy, &[CURL_ENTRY, &sha256]);
    is_refused(&world, "copy-by-everything", &copy, &[everything]);
}
