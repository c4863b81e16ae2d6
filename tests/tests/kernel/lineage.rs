//! Who led to the binary that asks.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clawd_tests::{Address, PYTHON, Prober, sha256_of_file};
use serde_json::{Value, json};

use crate::{
    programs::{
        Beside, CURL, ENDPOINT, SMALL, copy, denied, fetch, fetch_is_denied, last_exec, path_entry,
        records, talking_place, trees,
    },
    support::{CURL_ENTRY, World, direct_with, eventually, group, tcp},
};

const BASH: &str = "/usr/bin/bash";
const DASH: &str = "/usr/bin/dash";
const ENV: &str = "/usr/bin/env";

/// A world with an agent of its own: Python with a content that nothing else has.
struct Scene {
    world: World,
    folder: PathBuf,
    agent: PathBuf,
}

impl Scene {
    fn set() -> Self {
        let world = World::start();
        let folder = world.daemon.scratch().folder("programs", 0o755).unwrap();
        let agent = copy(PYTHON, &folder.join("agent"), b"agent");
        Self {
            world,
            folder,
            agent,
        }
    }

    /// Reaches A with these binaries.
    fn policy(&self, binaries: &str) -> String {
        let writable = format!("[{}]", talking_place(&self.world).display());
        let groups = group("g", ENDPOINT, binaries);
        direct_with(&trees(&[&self.folder]), &writable, &groups)
    }

    /// An entry for the agent and its descendants.
    fn with_descendants(&self) -> String {
        format!("{{ path: {}, descendants: true }}", self.agent.display())
    }

    fn agent(&self, sandbox: &str, policy: &str) -> Prober {
        let agent = self.agent.to_str().unwrap();
        Prober::start_as(&self.world.daemon, sandbox, policy, agent).unwrap()
    }

    #[track_caller]
    fn push(&self, sandbox: &str, policy: &str) {
        let file = self.world.daemon.policy_file(policy);
        let push = [
            "policy",
            "push",
            "--sandbox",
            sandbox,
            file.to_str().unwrap(),
        ];
        let pushed = self.world.daemon.clawctl(push).output().unwrap();
        assert!(pushed.status.success(), "{pushed:?}");
    }
}

fn connect() -> Value {
    tcp(Address::A, 7000)
}

/// Has the agent run a script with bash, which starts a process for each program but the last.
fn bash(prober: &mut Prober, script: &str) -> String {
    let answer = prober.ask(&json!({ "do": "run", "argv": ["bash", "-c", script] }));
    let out = answer["ok"]["out"].as_str();
    out.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// What a record should tell: these programs, nearest first.
fn lineage(programs: &[&Path]) -> Value {
    let told = programs
        .iter()
        .map(|path| json!({ "exe": path, "sha256": sha256_of_file(path).unwrap() }));
    told.collect()
}

fn fetching() -> String {
    format!("curl -sS {SMALL} 2>/dev/null; echo $?")
}

#[test]
fn only_the_calling_binary_counts_unless_descendants_are_listed() {
    let scene = Scene::set();
    let world = &scene.world;
    let mut prober = scene.agent("own", &scene.policy(&path_entry(&scene.agent)));
    assert_eq!(prober.ask(&connect())["ok"], "ping");
    let attempt = || bash(&mut prober, &fetching());
    let (out, denial) = denied(world, "own", "binary_not_listed", attempt);
    assert_eq!(out, "7\n");
    assert_eq!(denial["exe"], CURL, "{denial}");
    assert_eq!(denial["sha256"], sha256_of_file(CURL).unwrap(), "{denial}");
    assert_eq!(
        denial["lineage"],
        lineage(&[Path::new(BASH), &scene.agent]),
        "{denial}"
    );

    let mut prober = scene.agent("all", &scene.policy(&scene.with_descendants()));
    assert_eq!(prober.ask(&connect())["ok"], "ping");
    assert_eq!(bash(&mut prober, &fetching()), "small file\n0\n");
    assert_eq!(world.internet.contacts_at(Address::A, 80).len(), 1);
    assert_eq!(world.denials("all", 0), Vec::<Value>::new());
    let allowed = records(world, Some("all"), "connect");
    let of_curl = allowed
        .iter()
        .rfind(|record| record["exe"] == CURL)
        .unwrap();
    assert_eq!(of_curl["action"], "allowed", "{of_curl}");
    assert_eq!(of_curl["reason"], "rule", "{of_curl}");
    assert_eq!(
        of_curl["lineage"],
        lineage(&[Path::new(BASH), &scene.agent]),
        "{of_curl}"
    );

    // The same programs without the agent before them.
    let mut prober = world.prober("none", &scene.policy(&scene.with_descendants()));
    let (out, denial) = denied(world, "none", "binary_not_listed", || {
        bash(&mut prober, &fetching())
    });
    assert_eq!(out, "7\n");
    let python = fs::canonicalize(PYTHON).unwrap();
    assert_eq!(
        denial["lineage"],
        lineage(&[Path::new(BASH), &python]),
        "{denial}"
    );
}

#[test]
fn lineage_outlives_parents_and_holds_each_program_once() {
    let scene = Scene::set();
    let world = &scene.world;
    let mut prober = scene.agent("box", &scene.policy(&scene.with_descendants()));
    let [bash_path, dash, env] = [BASH, DASH, ENV].map(Path::new);
    let agent = scene.agent.as_path();
    let cases: [(String, Vec<&Path>); 4] = [
        // One process that executes one program after the other.
        (
            format!("exec dash -c 'exec env curl -sS {SMALL}'"),
            vec![env, dash, bash_path, agent],
        ),
        // A program that comes again moves to its latest place.
        (
            format!("dash -c 'bash -c \"dash -c \\\"curl -sS {SMALL}; :\\\"; :\"; :'; :"),
            vec![dash, bash_path, agent],
        ),
        // A fork without exec adds nothing.
        (
            format!("( ( curl -sS {SMALL}; : ); : )"),
            vec![bash_path, agent],
        ),
        // Whoever ran before in another process was no ancestor.
        (
            format!("env true; dash -c :; curl -sS {SMALL}; :"),
            vec![bash_path, agent],
        ),
    ];
    for (script, want) in cases {
        assert_eq!(bash(&mut prober, &script), "small file\n", "{script}");
        let exec = last_exec(world, "box", Path::new(CURL));
        assert_eq!(exec["lineage"], lineage(&want), "{script}: {exec}");
    }
    // Forked twice, and its parents gone.
    let out = talking_place(world).join("out");
    let script = format!(
        "(sh -c 'sleep 0.3; curl -sS {SMALL} >{}; :' >/dev/null 2>&1 &) &",
        out.display()
    );
    assert_eq!(bash(&mut prober, &script), "");
    eventually("the orphan has fetched", || {
        fs::read_to_string(&out).is_ok_and(|text| text == "small file\n")
    });
    let exec = last_exec(world, "box", Path::new(CURL));
    assert_eq!(
        exec["lineage"],
        lineage(&[dash, bash_path, agent]),
        "{exec}"
    );
    assert_eq!(world.denials("box", 0), Vec::<Value>::new());
}

#[test]
fn pushed_policy_judges_the_lineage_of_programs_that_run() {
    let scene = Scene::set();
    let world = &scene.world;
    let child = copy(PYTHON, &scene.folder.join("child"), b"child");
    let of_lineage = scene.policy(&scene.with_descendants());
    let nothing = scene.policy(CURL_ENTRY);
    let own = scene.policy(&format!("{CURL_ENTRY}, {}", path_entry(&child)));
    let mut prober = scene.agent("box", &nothing);
    let mut running = Beside::start(world, &mut prober, &child);
    for (policy, is_allowed) in [(&of_lineage, true), (&nothing, false), (&own, true)] {
        let attempt = || running.ask(&connect());
        let (answer, denial) = denied(world, "box", "binary_not_listed", attempt);
        assert_eq!(answer["name"], "EPERM", "{answer}");
        // The shell that started it is in between; its parent has ended.
        assert_eq!(
            denial["lineage"],
            lineage(&[Path::new(DASH), &scene.agent]),
            "{denial}"
        );
        for (policy, is_allowed) in [(policy, is_allowed), (&nothing, false)] {
            scene.push("box", policy);
            let answer = running.ask(&connect());
            assert_eq!(answer["ok"] == "ping", is_allowed, "{answer}");
        }
    }

    // From one policy that grants by lineage to one that grants by itself, and back: never a gap.
    scene.push("box", &of_lineage);
    let until = talking_place(world).join("end");
    running.tell(&json!({ "do": "loop", "until": until, "ask": connect() }));
    for policy in [&own, &of_lineage, &own, &of_lineage, &own] {
        thread::sleep(Duration::from_millis(100));
        scene.push("box", policy);
    }
    File::create(&until).unwrap();
    let looped = running.hear();
    assert_eq!(looped["ok"]["outcomes"], json!(["ok"]), "{looped}");
}

#[test]
fn same_lines_have_other_grants_under_another_policy() {
    let scene = Scene::set();
    let world = &scene.world;
    let mut by_lineage = scene.agent("lineage", &scene.policy(&scene.with_descendants()));
    let mut by_itself = scene.agent("itself", &scene.policy(CURL_ENTRY));
    let mut by_nobody = scene.agent("nobody", &scene.policy(&path_entry(BASH)));
    for _ in 0..3 {
        assert_eq!(bash(&mut by_lineage, &fetching()), "small file\n0\n");
        assert_eq!(bash(&mut by_itself, &fetching()), "small file\n0\n");
        let attempt = || bash(&mut by_nobody, &fetching());
        let (out, _) = denied(world, "nobody", "binary_not_listed", attempt);
        assert_eq!(out, "7\n");
        // The agent itself is listed in the first alone.
        assert_eq!(by_lineage.ask(&connect())["ok"], "ping");
        let (answer, denial) = denied(world, "itself", "binary_not_listed", || {
            by_itself.ask(&connect())
        });
        assert_eq!(answer["name"], "EPERM", "{answer}");
        assert_eq!(denial["lineage"], json!([]), "{denial}");
    }
}

#[test]
fn line_ends_where_a_program_has_no_identity() {
    let scene = Scene::set();
    let world = &scene.world;
    // Too large to be hashed, so nobody knows what it is.
    let unknown = copy(DASH, &scene.folder.join("unknown"), b"");
    let file = File::options().write(true).open(&unknown).unwrap();
    file.set_len((1 << 30) + 1).unwrap();
    drop(file);
    let mut prober = scene.agent("box", &scene.policy(&scene.with_descendants()));
    assert_eq!(fetch(&mut prober, CURL), 0);
    let script = fetching();
    let ask = json!({ "do": "run", "argv": [unknown, "-c", script] });
    let (answer, denial) = denied(world, "box", "binary_not_listed", || prober.ask(&ask));
    assert_eq!(answer["ok"]["out"], "7\n", "{answer}");
    assert_eq!(denial["exe"], CURL, "{denial}");
    assert_eq!(denial["lineage"], json!([]), "{denial}");
    let exec = last_exec(world, "box", &unknown);
    assert_eq!(exec["reason"], "no_identity_too_large", "{exec}");
    // Not even what follows later: the agent again, behind it.
    let again = format!(
        "{} -I -c 'import socket; socket.create_connection((\"192.0.2.10\", 7000))' 2>/dev/null; echo $?",
        scene.agent.display()
    );
    let ask = json!({ "do": "run", "argv": [unknown, "-c", again] });
    let answer = prober.ask(&ask);
    assert_eq!(
        answer["ok"]["out"], "0\n",
        "the agent itself is listed: {answer}"
    );
    let exec = last_exec(world, "box", &scene.agent);
    assert_eq!(exec["lineage"], json!([]), "{exec}");
    // The agent has lost nothing by it.
    assert_eq!(bash(&mut prober, &script), "small file\n0\n");
    let mut other = world.prober("other", &scene.policy(&path_entry(&scene.agent)));
    fetch_is_denied(
        world,
        ("other", &mut other),
        Path::new(CURL),
        "binary_not_listed",
    );
}
