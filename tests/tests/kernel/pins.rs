//! Which content a listed path stands for.

mod links;

use std::{
    fs::{self, File, FileTimes},
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
};

use clawd_tests::{Address, Prober, sha256_of_file};
use serde_json::{Value, json};

use crate::{
    programs::{
        CURL, ENDPOINT, copy, fetch, fetch_is_denied, path_entry, records, replace, sha256_entry,
        trees,
    },
    support::{World, code, direct_with, group, tcp, text},
};

/// The rule of the policies here.
const RULE: &str = "network_policies.g.binaries[0]";

/// A command that ends well after clawctl has told of its policy.
const IDLE: [&str; 2] = ["sleep", "0.5"];

/// A folder of programs that only the host may write.
fn folder(world: &World) -> PathBuf {
    world.daemon.scratch().folder("programs", 0o755).unwrap()
}

/// Executes from `folder` and reaches A with these binaries.
fn policy(folder: &Path, binaries: &[String]) -> String {
    let groups = group("g", ENDPOINT, &binaries.join(", "));
    direct_with(&trees(&[folder]), "[]", &groups)
}

fn sha256(path: &Path) -> String {
    sha256_of_file(path).unwrap()
}

/// Path and content of each pin, and what else was found there.
fn pins(world: &World) -> Vec<Value> {
    let pins = world.daemon.pins().into_iter();
    pins.map(|pin| json!([pin["path"], pin["sha256"], pin["found_sha256"]]))
        .collect()
}

/// A fetch that is refused because the file is not what was pinned.
#[track_caller]
fn is_changed(
    world: &World,
    (sandbox, prober): (&str, &mut Prober),
    (executed, file): (&Path, &Path),
    pinned: &str,
) {
    let seen = fetch_is_denied(world, (sandbox, prober), executed, "binary_changed");
    assert_eq!(seen["exe"], json!(file), "{seen}");
    assert_eq!(seen["sha256"], sha256(file), "{seen}");
    assert_eq!(seen["pinned_sha256"], pinned, "{seen}");
    assert_eq!(seen["rule"], RULE, "{seen}");
}

#[track_caller]
fn forget(world: &World, paths: &[&Path]) {
    let mut forget = world.daemon.clawctl(["identity", "forget"]);
    let forgot = forget.args(paths).output().unwrap();
    assert_eq!(code(&forgot), 0, "{forgot:?}");
}

#[test]
fn listed_path_stands_for_its_first_content_until_that_is_forgotten() {
    let mut world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"first");
    let first = sha256(&tool);
    let mut prober = world.prober("box", &policy(&folder, &[path_entry(&tool)]));
    let pinned = records(&world, None, "binary_pinned");
    assert_eq!(pinned.len(), 1, "{pinned:?}");
    assert_eq!(
        json!([pinned[0]["sandbox"], pinned[0]["exe"], pinned[0]["sha256"]]),
        json!(["box", tool, first])
    );
    assert_eq!(fetch(&mut prober, &tool), 0);

    // Neither the end of clawd in order nor its death forgets anything.
    for kills in [false, true, true] {
        match kills {
            true => world.daemon.kill9().unwrap(),
            false => assert!(world.daemon.terminate().unwrap().success()),
        }
        world.daemon.launch().unwrap();
        assert_eq!(pins(&world), [json!([tool, first, null])]);
        assert_eq!(fetch(&mut prober, &tool), 0);
    }
    assert_eq!(records(&world, None, "binary_pinned").len(), 1);

    replace(CURL, &tool, b"second");
    let second = sha256(&tool);
    is_changed(&world, ("box", &mut prober), (&tool, &tool), &first);
    assert_eq!(pins(&world), [json!([tool, first, second])]);
    let list = world.daemon.clawctl(["identity", "list"]).output().unwrap();
    let line = text(&list.stdout).lines().last().unwrap().to_owned();
    assert!(
        line.starts_with(tool.to_str().unwrap()) && line.ends_with(" changed"),
        "{line}"
    );
    let changed = records(&world, Some("box"), "binary_changed");
    assert_eq!(changed.len(), 1, "{changed:?}");
    let changed = &changed[0];
    assert_eq!(
        json!([
            changed["exe"],
            changed["sha256"],
            changed["pinned_sha256"],
            changed["rule"]
        ]),
        json!([tool, second, first, RULE])
    );
    // Nor does a restart get used to it.
    world.daemon.restart().unwrap();
    is_changed(&world, ("box", &mut prober), (&tool, &tool), &first);

    forget(&world, &[&tool]);
    let forgotten = records(&world, None, "pin_forgotten");
    assert_eq!(forgotten.len(), 1, "{forgotten:?}");
    assert_eq!(forgotten[0]["sha256"], first, "{forgotten:?}");
    assert_eq!(pins(&world), Vec::<Value>::new());
    assert_eq!(fetch(&mut prober, &tool), 0);
    assert_eq!(pins(&world), [json!([tool, second, null])]);
    assert_eq!(records(&world, None, "binary_pinned").len(), 2);
}

#[test]
fn content_that_comes_back_is_granted_again() {
    let world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"first");
    let first = sha256(&tool);
    let mut prober = world.prober("box", &policy(&folder, &[path_entry(&tool)]));
    for _ in 0..2 {
        assert_eq!(fetch(&mut prober, &tool), 0);
        replace(CURL, &tool, b"other");
        is_changed(&world, ("box", &mut prober), (&tool, &tool), &first);
        replace(CURL, &tool, b"first");
    }
    assert_eq!(fetch(&mut prober, &tool), 0);
}

#[test]
fn same_inode_with_the_same_size_and_times_is_still_seen_to_change() {
    let world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"first");
    let first = sha256(&tool);
    let mut prober = world.prober("box", &policy(&folder, &[path_entry(&tool)]));
    assert_eq!(fetch(&mut prober, &tool), 0);
    let before = fs::metadata(&tool).unwrap();
    let mut file = File::options().write(true).open(&tool).unwrap();
    file.seek(std::io::SeekFrom::End(-5)).unwrap();
    file.write_all(b"FIRST").unwrap();
    let times = FileTimes::new()
        .set_accessed(before.accessed().unwrap())
        .set_modified(before.modified().unwrap());
    file.set_times(times).unwrap();
    drop(file);
    assert_eq!(fs::metadata(&tool).unwrap().len(), before.len());
    is_changed(&world, ("box", &mut prober), (&tool, &tool), &first);
}

#[test]
fn file_that_changed_while_no_daemon_was_there_is_refused() {
    let mut world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"first");
    let first = sha256(&tool);
    let policy = policy(&folder, &[path_entry(&tool)]);
    let mut prober = world.prober("box", &policy);
    assert_eq!(fetch(&mut prober, &tool), 0);
    world.daemon.kill9().unwrap();
    replace(CURL, &tool, b"second");
    world.daemon.launch().unwrap();
    is_changed(&world, ("box", &mut prober), (&tool, &tool), &first);
    // A sandbox that starts now says so at once.
    let mut later = world.daemon.run_command(&policy, Some("later"), &IDLE);
    let said = text(&later.output().unwrap().stderr);
    assert!(
        said.contains("has changed and is granted nothing"),
        "{said}"
    );
    assert!(
        said.contains(&first) && said.contains(&sha256(&tool)),
        "{said}"
    );
}

#[test]
fn pattern_pins_each_match_at_its_first_exec() {
    let world = World::start();
    let folder = folder(&world);
    fs::create_dir(folder.join("tool-folder")).unwrap();
    let early = copy(CURL, &folder.join("tool-1"), b"1");
    let mut prober = world.prober(
        "box",
        &policy(&folder, &[path_entry(folder.join("tool-*"))]),
    );
    assert_eq!(pins(&world), Vec::<Value>::new());
    let late = copy(CURL, &folder.join("tool-2"), b"2");
    let others = [folder.join("tools"), folder.join("tool-folder/tool-3")];
    for other in &others {
        copy(CURL, other, other.as_os_str().as_encoded_bytes());
        fetch_is_denied(&world, ("box", &mut prober), other, "binary_not_listed");
    }
    assert_eq!(fetch(&mut prober, &late), 0);
    assert_eq!(fetch(&mut prober, &early), 0);
    let both = [
        json!([early, sha256(&early), null]),
        json!([late, sha256(&late), null]),
    ];
    assert_eq!(pins(&world), both);
    let second = sha256(&late);
    replace(CURL, &late, b"changed");
    is_changed(&world, ("box", &mut prober), (&late, &late), &second);
    assert_eq!(fetch(&mut prober, &early), 0);
}

#[test]
fn content_is_listed_wherever_it_lies() {
    let world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"listed");
    let listed = sha256(&tool);
    let copied = copy(CURL, &folder.join("copied"), b"listed");
    let linked = folder.join("linked");
    fs::hard_link(&tool, &linked).unwrap();
    let entries = [sha256_entry(&listed)];
    let mut prober = world.prober("box", &policy(&folder, &entries));
    for program in [&tool, &copied, &linked] {
        assert_eq!(fetch(&mut prober, program), 0);
    }
    replace(CURL, &tool, b"another");
    let denial = fetch_is_denied(&world, ("box", &mut prober), &tool, "binary_not_listed");
    assert_eq!(denial["sha256"], sha256(&tool), "{denial}");
    assert_eq!(pins(&world), Vec::<Value>::new());
}

#[test]
fn policies_that_list_the_same_path_share_its_pin() {
    let world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"first");
    let first = sha256(&tool);
    let policy = policy(&folder, &[path_entry(&tool)]);
    let mut early = world.prober("early", &policy);
    assert_eq!(fetch(&mut early, &tool), 0);
    replace(CURL, &tool, b"second");
    let mut late = world.prober("late", &policy);
    is_changed(&world, ("late", &mut late), (&tool, &tool), &first);
    is_changed(&world, ("early", &mut early), (&tool, &tool), &first);
    assert_eq!(world.daemon.pins().len(), 1);
    assert_eq!(world.daemon.pins()[0]["sandbox"], "early");
    forget(&world, &[&tool]);
    assert_eq!(fetch(&mut late, &tool), 0);
    assert_eq!(fetch(&mut early, &tool), 0);
    assert_eq!(world.daemon.pins()[0]["sandbox"], "late");
}

#[test]
fn pins_that_cannot_be_read_stop_the_start_and_forget_nothing() {
    let mut world = World::start();
    let folder = folder(&world);
    let tool = copy(CURL, &folder.join("tool"), b"first");
    let entries = [path_entry(&tool), crate::support::PYTHON_ENTRY.to_owned()];
    let mut prober = world.prober("box", &policy(&folder, &entries));
    assert_eq!(fetch(&mut prober, &tool), 0);
    let before = pins(&world);
    world.daemon.kill9().unwrap();
    let file = world.daemon.paths().state_dir.join("pins.json");
    let good = fs::read_to_string(&file).unwrap();
    let newer = good.replace("\"version\": 1", "\"version\": 2");
    let more = good.replacen("\"path\"", "\"more\": 1, \"path\"", 1);
    for bad in ["", "{", "[]", &good[..good.len() / 2], &newer, &more] {
        assert_ne!(bad, good);
        fs::write(&file, bad).unwrap();
        let error = world.daemon.launch().unwrap_err().to_string();
        let told = format!("cannot read {}", file.display());
        assert!(
            error.contains(&told) && error.contains("mend it"),
            "{bad:?}: {error}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), bad);
        // Meanwhile what was in force is in force.
        world.allows(&mut prober, &tcp(Address::A, 7000));
        assert_eq!(prober.ask(&tcp(Address::B, 7000))["errno"], 1);
    }
    fs::write(&file, &good).unwrap();
    world.daemon.launch().unwrap();
    assert_eq!(pins(&world), before);
    assert_eq!(fetch(&mut prober, &tool), 0);
}

#[test]
fn what_a_sandbox_may_write_is_never_pinned() {
    let world = World::start();
    let folder = world.daemon.scratch().folder("writable", 0o777).unwrap();
    let tool = copy(CURL, &folder.join("tool"), b"tool");
    let listed = copy(CURL, &folder.join("listed"), b"listed");
    let entries = [
        path_entry(&tool),
        path_entry(folder.join("t*")),
        sha256_entry(&sha256(&listed)),
    ];
    let groups = group("g", ENDPOINT, &entries.join(", "));
    let keys = format!("read_write: [], read_write_execute: [{}]", folder.display());
    let policy = direct_with("[/usr]", "[]", &groups).replace("read_write: []", &keys);
    let said = text(&world.daemon.run(&policy, &IDLE).stderr);
    assert!(
        said.contains("a sandbox may write it, or a link on the way to it, so it is not pinned"),
        "{said}"
    );
    let mut prober = world.prober("box", &policy);
    for _ in 0..2 {
        let denial = fetch_is_denied(&world, ("box", &mut prober), &tool, "binary_not_listed");
        assert_eq!(denial["sha256"], sha256(&tool), "{denial}");
        assert_eq!(fetch(&mut prober, &listed), 0);
        assert_eq!(pins(&world), Vec::<Value>::new());
    }
    assert_eq!(records(&world, None, "binary_pinned"), Vec::<Value>::new());
}

#[test]
fn forgetting_what_is_not_pinned_fails_and_all_forgets_all() {
    let world = World::start();
    let folder = folder(&world);
    let [one, two] = ["one", "two"].map(|name| copy(CURL, &folder.join(name), name.as_bytes()));
    let prober = world.prober(
        "box",
        &policy(&folder, &[path_entry(&one), path_entry(&two)]),
    );
    assert_eq!(pins(&world).len(), 2);
    let mut wrong = world.daemon.clawctl(["identity", "forget"]);
    let wrong = wrong.args([Path::new("/nowhere"), &one]).output().unwrap();
    assert_eq!(code(&wrong), 1, "{wrong:?}");
    assert!(
        text(&wrong.stderr).contains("/nowhere is not pinned"),
        "{wrong:?}"
    );
    assert_eq!(pins(&world), [json!([two, sha256(&two), null])]);
    let all = world
        .daemon
        .clawctl(["identity", "forget", "--all"])
        .output()
        .unwrap();
    assert_eq!(code(&all), 0, "{all:?}");
    assert_eq!(pins(&world), Vec::<Value>::new());
    drop(prober);
}

#[test]
fn warnings_reach_the_caller_of_a_command_that_ends_at_once() {
    let world = World::start();
    let folder = folder(&world);
    let policy = policy(&folder, &[path_entry(folder.join("absent"))]);
    for _ in 0..20 {
        let output = world.daemon.run(&policy, &["true"]);
        let said = text(&output.stderr);
        assert!(
            said.contains("no such file in the sandbox's view"),
            "{said}"
        );
    }
}
