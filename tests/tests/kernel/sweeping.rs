//! The tests themselves: a run that was killed leaves nothing that the next one keeps.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use clawd_tests::{
    Address, BPFFS, FileSystem, FuseMirror, Kind, cgroup2_mount, mounts_below, sweep,
};

use crate::support::{PYTHON_ENTRY, World, direct_with, eventually, group, tcp};

/// Set for the run that will be killed.
const VICTIM: &str = "CLAWD_TESTS_VICTIM";

#[test]
fn killed_run_is_swept_away() {
    if env::var_os(VICTIM).is_some() {
        be_killed();
    }
    let mut victim = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "sweeping::killed_run_is_swept_away",
            "--nocapture",
        ])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let name = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("victim: ").map(|(_, name)| name.to_owned()));
    let name = name.expect("the other run came up");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let left = [
        Path::new(BPFFS).join(&name),
        cgroup2_mount().unwrap().join(&name),
        Path::new("/var/tmp").join(&name),
    ];
    assert!(
        left.iter().all(|path| path.exists()),
        "the run left nothing to sweep away"
    );
    let folder = &left[2];
    // An overlay has a tmpfs for its layers; and there is the mirror.
    assert_eq!(
        mounts_below(folder).unwrap().len(),
        Kind::ALL.len() + 2,
        "{:?}",
        mounts_below(folder)
    );
    assert_eq!(loop_devices(folder), 3);
    // The daemon dies with the run; only then nothing makes anything new.
    eventually("its programs are gone", || running(&name, "clawd") == 0);
    sweep();
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert_eq!(mounts_below(folder).unwrap(), Vec::<PathBuf>::new());
    eventually("its sandbox is gone", || running(&name, "") == 0);
    eventually("its loop devices are free", || loop_devices(folder) == 0);
}

/// How many loop devices have a file below `folder` beneath them, or had it before it was removed.
fn loop_devices(folder: &Path) -> usize {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .filter(|file| Path::new(file.trim()).starts_with(folder))
        .count()
}

/// How many processes name `scratch` in their arguments and `program` in their first.
fn running(scratch: &str, program: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let commands =
        processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    let matches = |command: &String| {
        command.contains(scratch)
            && command
                .split('\0')
                .next()
                .is_some_and(|first| first.ends_with(program))
    };
    commands.filter(matches).count()
}

fn be_killed() -> ! {
    let world = World::start();
    let scratch = world.daemon.scratch();
    let disks = Kind::ALL.map(|kind| FileSystem::mount(scratch, kind, kind.name()).unwrap());
    let mirror = FuseMirror::mount(scratch, disks[0].path(), "mirror").expect("bindfs");
    // The sandbox sees all of them: it must not keep them once it is gone.
    let trees: Vec<String> = disks
        .iter()
        .map(FileSystem::path)
        .chain([mirror.path()])
        .map(|path| format!(", {}", path.display()))
        .collect();
    let endpoint = "{ host: 192.0.2.10, port: 7000 }";
    let policy = direct_with(
        &format!("[/usr{}]", trees.concat()),
        "[]",
        &group("g", endpoint, PYTHON_ENTRY),
    );
    let mut prober = world.prober("box", &policy);
    world.allows(&mut prober, &tcp(Address::A, 7000));
    println!("\nvictim: {}", world.daemon.scratch().name());
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}
