//! A daemon of another build takes sandboxes over: programs are replaced under them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use aya::{
    Btf, EbpfLoader, Pod,
    maps::{Array, HashMap, Map, MapData},
    programs::{
        BtfTracePoint,
        links::{FdLink, PinnedLink},
    },
};
use clawd_common::record::{HookValue, Meta, PROGRAM_NAME_BYTES};
use clawd_tests::{Address, Daemon, ebpf_object, other_build};
use serde_json::{Value, json};

use super::watched::{Watched, signals};
use crate::support::{CURL_ENTRY, PYTHON_ENTRY, World, direct_with, group, tcp, text};

const SMALL: &str = "http://192.0.2.10/small";
/// What the build under test answers for other protocols (`EPROTONOSUPPORT`), and the other one
/// (`ESOCKTNOSUPPORT`).
const OWN_ERRNO: i32 = 93;
const OTHER_ERRNO: i32 = 94;
/// Hooks whose links take another program; those at tracepoints are made anew.
const CGROUP_HOOKS: [&str; 7] = [
    "sock_create",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "egress",
    "ingress",
];

fn curl() -> Value {
    json!({ "do": "run", "argv": ["curl", "-sS", SMALL] })
}

/// A sandbox `box` that tries all the time what it may and what it may not, and executes curl.
fn watch(world: &World) -> Watched {
    let endpoints = "{ host: 192.0.2.10, ports: [80, 7000] }";
    let binaries = format!("{PYTHON_ENTRY}, {CURL_ENTRY}");
    let trees = format!("[/usr, {}]", signals(world).display());
    let policy = direct_with(&trees, "[]", &group("g", endpoints, &binaries));
    let mut prober = world.prober("box", &policy);
    assert_eq!(prober.ask(&curl())["ok"]["code"], 0);
    Watched::start(world, prober, &[json!([curl(), [0]])])
}

/// A pin, as the daemon sees it: bpffs may be mounted for it alone.
fn pin(daemon: &Daemon, name: &str) -> PathBuf {
    let process = daemon
        .pid()
        .map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let pins = daemon.paths().bpffs.display();
    PathBuf::from(format!("/proc/{process}/root{pins}/{name}"))
}

/// The number of a hook's link, and of the program behind it.
fn link(daemon: &Daemon, hook: &str) -> (u32, u32) {
    let pinned = PinnedLink::from_pin(pin(daemon, &format!("link_{hook}"))).expect("a link");
    let info = FdLink::from(pinned).info().expect("a link");
    (info.id(), info.program_id())
}

fn map(daemon: &Daemon, name: &str) -> Map {
    let data = MapData::from_pin(pin(daemon, &format!("map_{name}"))).expect("a map");
    Map::from_map_data(data).expect("a map")
}

/// Changes what the pins say of themselves.
fn change_meta(daemon: &Daemon, change: impl FnOnce(&mut Meta)) {
    let mut array: Array<_, Meta> = map(daemon, "META").try_into().expect("an array");
    let mut meta = array.get(&0, 0).expect("an entry");
    change(&mut meta);
    array.set(0, meta, 0).expect("an entry");
}

/// What a process in `box` meets that makes a raw socket: which build's program judges there.
fn errno_of_a_raw_socket(world: &World) -> i32 {
    let cgroup = world.daemon.paths().cgroup_parent.join("box/cgroup.procs");
    let script = "import socket\ntry:\n    socket.socket(2, 3, 1)\nexcept OSError as error:\n    print(error.errno)";
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > $1 && exec /usr/bin/python3 -I -c \"$2\""]);
    command.arg("sh").arg(cgroup).arg(script);
    let output = world.daemon.place().output(command).expect("sh");
    let printed = text(&output.stdout);
    printed
        .trim()
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Every hook is attached, by the program that the daemon put there, and nothing lies beside.
#[track_caller]
fn whole(world: &World, errno: i32) {
    let status = world.daemon.status();
    let hooks = status["hooks"].as_array().expect("hooks");
    assert_eq!(hooks.len(), CGROUP_HOOKS.len() + 3, "{status}");
    let problems = status["problems"].as_array().expect("problems");
    let of_hooks = |problem: &&Value| problem.as_str().is_some_and(|text| text.contains("hook"));
    assert_eq!(problems.iter().filter(of_hooks).count(), 0, "{problems:?}");
    assert_eq!(left_beside(&world.daemon), Vec::<String>::new());
    assert_eq!(errno_of_a_raw_socket(world), errno);
    let ps = world.daemon.ps();
    assert_eq!((ps.len(), &ps[0]["name"]), (1, &json!("box")), "{ps:?}");
}

/// Pins that were about to take others' place.
fn left_beside(daemon: &Daemon) -> Vec<String> {
    let names = fs::read_dir(pin(daemon, "")).expect("pins").flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("next_"))
        .collect()
}

#[test]
fn another_build_takes_over_and_no_hook_is_without_a_program() {
    let mut world = World::start();
    let other = other_build(world.daemon.scratch(), OTHER_ERRNO).unwrap();
    let watched = watch(&world);
    whole(&world, OWN_ERRNO);
    for round in 0..4 {
        let (program, errno) = if round % 2 == 0 {
            (Some(other.clone()), OTHER_ERRNO)
        } else {
            (None, OWN_ERRNO)
        };
        let before = CGROUP_HOOKS.map(|hook| link(&world.daemon, hook));
        world.daemon.kill9().unwrap();
        world.daemon.use_program(program);
        world.daemon.launch().unwrap();
        whole(&world, errno);
        for (hook, (link_id, program_id)) in CGROUP_HOOKS.iter().zip(before) {
            let now = link(&world.daemon, hook);
            assert_eq!(now.0, link_id, "{hook} was detached");
            assert_ne!(now.1, program_id, "{hook} has the program before");
        }
    }
    let took_over = |record: &&Value| {
        record["activity"] == "daemon_took_over"
            && record["message"] == "replaced another build's programs and took over 1 sandboxes"
    };
    assert_eq!(world.daemon.audit().iter().filter(took_over).count(), 4);
    let (_, mut prober) = watched.end(&world);
    world.allows(&mut prober, &tcp(Address::A, 7000));
}

/// A folder where the replacement is about to pin stops it there, as a crash does.
#[test]
fn replacement_that_was_cut_off_is_finished_by_either_build() {
    let mut world = World::start();
    let other = Some(other_build(world.daemon.scratch(), OTHER_ERRNO).unwrap());
    let watched = watch(&world);
    // Cut off after the first tracepoint, or after all hooks; finished by the build that began, or by
    // the one whose programs had run.
    let cases = [
        ("link_process_fork", other.clone()),
        ("link_process_fork", other.clone()),
        ("program_file_key", None),
        ("program_file_key", None),
    ];
    let mut runs = None;
    for (stops_at, finishes) in cases {
        let obstacle = world.daemon.paths().bpffs.join(format!("next_{stops_at}"));
        world.daemon.kill9().unwrap();
        fs::create_dir(&obstacle).unwrap();
        // From the build whose programs run to the other one.
        let begins = if runs.is_none() { &other } else { &None };
        world.daemon.use_program(begins.clone());
        let said = format!("{:#}", world.daemon.launch().unwrap_err());
        assert!(said.contains(&format!("next_{stops_at}")), "{said}");
        assert!(said.contains("every hook still has one"), "{said}");
        fs::remove_dir(&obstacle).unwrap();
        world.daemon.use_program(finishes.clone());
        world.daemon.launch().unwrap();
        let is_own = finishes.is_none();
        whole(&world, if is_own { OWN_ERRNO } else { OTHER_ERRNO });
        runs = finishes;
    }
    watched.end(&world);
}

#[test]
fn pins_of_another_abi_version_are_refused_while_sandboxes_live() {
    let mut world = World::start();
    let watched = watch(&world);
    change_meta(&world.daemon, |meta| meta.abi_version += 1);
    world.daemon.kill9().unwrap();
    let said = format!("{:#}", world.daemon.launch().unwrap_err());
    for want in ["another ABI version", "box", "stop --all"] {
        assert!(said.contains(want), "{want:?} is not in {said}");
    }
    change_meta(&world.daemon, |meta| meta.abi_version -= 1);
    world.daemon.launch().unwrap();
    whole(&world, OWN_ERRNO);
    watched.end(&world);
}

fn note_program(daemon: &Daemon, hook: &str, change: impl FnOnce(&mut HookValue)) {
    let mut key = [0; PROGRAM_NAME_BYTES];
    key[..hook.len()].copy_from_slice(hook.as_bytes());
    let mut table: HashMap<_, [u8; PROGRAM_NAME_BYTES], HookValue> =
        map(daemon, "HOOK").try_into().expect("a table");
    let mut value = table.get(&key, 0).expect("an entry");
    change(&mut value);
    table.insert(key, value, 0).expect("an entry");
}

#[test]
fn program_that_clawd_did_not_put_there_shows_and_is_replaced() {
    let mut world = World::start();
    let watched = watch(&world);
    let changes: [fn(&mut HookValue); 2] = [|value| value.program_id += 1, |value| value.tag ^= 1];
    for change in changes {
        note_program(&world.daemon, "connect6", change);
        let status = world.daemon.status();
        let problems = status["problems"].to_string();
        assert!(
            problems.contains("hook connect6 has another program"),
            "{problems}"
        );
        let before = link(&world.daemon, "connect6");
        world.daemon.restart().unwrap();
        whole(&world, OWN_ERRNO);
        assert_ne!(link(&world.daemon, "connect6").1, before.1);
    }
    watched.end(&world);
}

fn attach_once_more(daemon: &Daemon) -> aya::Ebpf {
    fn set<'a, T: Pod>(loader: &mut EbpfLoader<'a>, name: &'a str, value: &'a T) {
        loader.override_global(name, value, true);
    }
    let btf = Btf::from_sys_fs().expect("BTF");
    let offsets = clawd_kernel::read_offsets(Path::new("/sys/kernel/btf/vmlinux")).unwrap();
    let meta: Array<_, Meta> = map(daemon, "META").try_into().expect("an array");
    let level = meta.get(&0, 0).expect("an entry").sandbox_cgroup_level;
    let names: Vec<String> = fs::read_dir(pin(daemon, ""))
        .expect("pins")
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("map_").map(str::to_owned)
        })
        .collect();
    let object = ebpf_object().unwrap();
    let mut loader = EbpfLoader::new();
    for name in &names {
        loader.map_pin_path(name, pin(daemon, &format!("map_{name}")));
    }
    set(&mut loader, "OFFSETS", &offsets);
    set(&mut loader, "SANDBOX_CGROUP_LEVEL", &level);
    let mut ebpf = loader.btf(Some(&btf)).load(&object).expect("the object");
    for what in ["exec", "fork", "exit"] {
        let program = ebpf
            .program_mut(&format!("process_{what}"))
            .expect("a program");
        let program: &mut BtfTracePoint = program.try_into().expect("a tracepoint");
        program
            .load(&format!("sched_process_{what}"), &btf)
            .unwrap();
        program.attach().unwrap();
    }
    ebpf
}

#[test]
fn events_that_two_programs_see_are_handled_once() {
    let world = World::start();
    let endpoints = "{ host: 192.0.2.10, ports: [80, 7000] }";
    // As a descendant of Python alone: the line of executables must be right.
    let binaries = "{ path: /usr/bin/python3, descendants: true }";
    let mut prober = world.prober(
        "box",
        &direct_with("[/usr]", "[]", &group("g", endpoints, binaries)),
    );
    let both = attach_once_more(&world.daemon);
    let before = world.daemon.audit().len();
    for _ in 0..5 {
        let answer = prober.ask(&json!({ "do": "run", "argv": ["sh", "-c", format!("curl -sS {SMALL}; exec curl -sS {SMALL}")] }));
        assert_eq!(answer["ok"]["out"], "small file\nsmall file\n", "{answer}");
    }
    let audit = world.daemon.audit();
    let execs = |program: &str| {
        let of = |record: &&Value| {
            record["activity"] == "exec"
                && record["exe"]
                    .as_str()
                    .is_some_and(|exe| exe.ends_with(program))
        };
        audit[before..].iter().filter(of).count()
    };
    assert_eq!((execs("/dash"), execs("/curl")), (5, 10));
    drop(both);
    world.allows(&mut prober, &tcp(Address::A, 7000));
}
