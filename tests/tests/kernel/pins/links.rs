//! Listed paths that are links.

use std::{fs, os::unix::fs::symlink, thread, time::Duration};

use serde_json::json;

use super::{IDLE, folder, is_changed, pins, policy, sha256};
use crate::{
    programs::{CURL, SMALL, copy, fetch, fetch_is_denied, path_entry},
    support::{World, text},
};

#[test]
fn link_is_followed_as_the_sandbox_sees_it_and_pinned_by_its_own_name() {
    let world = World::start();
    let folder = folder(&world);
    let hidden = world.daemon.scratch().folder("hidden", 0o755).unwrap();
    let [one, two] = ["one", "two"].map(|name| copy(CURL, &folder.join(name), name.as_bytes()));
    let [link, outside] = ["link", "outside"].map(|name| folder.join(name));
    symlink("one", &link).unwrap();
    symlink(copy(CURL, &hidden.join("tool"), b"hidden"), &outside).unwrap();
    let policy = policy(&folder, &[path_entry(&link), path_entry(&outside)]);
    let said = text(&world.daemon.run(&policy, &IDLE).stderr);
    let warning = format!("{}: no such file in the sandbox's view", outside.display());
    assert!(said.contains(&warning), "{said}");
    assert_eq!(pins(&world), [json!([link, sha256(&one), null])]);

    let mut prober = world.prober("box", &policy);
    assert_eq!(fetch(&mut prober, &link), 0);
    // The content counts, whatever name it is called by.
    assert_eq!(fetch(&mut prober, &one), 0);
    let ask = json!({ "do": "run", "argv": [outside, "-sS", SMALL] });
    assert_eq!(prober.ask(&ask)["name"], "ENOENT");

    fs::remove_file(&link).unwrap();
    symlink("two", &link).unwrap();
    let first = sha256(&one);
    is_changed(&world, ("box", &mut prober), (&link, &two), &first);
    assert_eq!(pins(&world), [json!([link, first, sha256(&two)])]);
    fs::remove_file(&link).unwrap();
    symlink("one", &link).unwrap();
    assert_eq!(fetch(&mut prober, &link), 0);
}

#[test]
fn link_to_a_program_that_was_executed_by_its_own_name_is_judged_like_any_other() {
    let world = World::start();
    let folder = folder(&world);
    let [one, two] = ["one", "two"].map(|name| copy(CURL, &folder.join(name), name.as_bytes()));
    let [link, late] = ["link", "late"].map(|name| folder.join(name));
    symlink("one", &link).unwrap();
    let policy = policy(&folder, &[path_entry(&link), path_entry(&late)]);
    let mut prober = world.prober("box", &policy);
    let first = sha256(&one);
    assert_eq!(fetch(&mut prober, &link), 0);
    fetch_is_denied(&world, ("box", &mut prober), &two, "binary_not_listed");
    fs::remove_file(&link).unwrap();
    symlink("two", &link).unwrap();
    // Where links lead is looked at once a second for a program that was executed before.
    thread::sleep(Duration::from_millis(1100));
    is_changed(&world, ("box", &mut prober), (&link, &two), &first);
    // A listed link that was not there yet pins what it leads to at its first use.
    symlink("two", &late).unwrap();
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(fetch(&mut prober, &late), 0);
}
