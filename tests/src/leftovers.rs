//! What a run that was killed left behind.

use std::{
    fmt::Display,
    fs, io,
    path::Path,
    sync::Once,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    filesystem::unmount_below,
    mounts::{BPFFS, cgroup1_mounts, cgroup2_mount},
    scratch::{FOLDERS, PREFIX},
};

/// File of a scratch folder with the processes that were started: `<pid> <start time>` a line.
pub(crate) const PROCESSES: &str = "processes";

/// How long a killed cgroup may take to empty.
const EMPTY_DEADLINE: Duration = Duration::from_secs(60);

/// Removes what processes that do not live any more have left. Daemons and internets do it once in
/// a process when they start.
pub fn sweep() {
    let folders = entries(Path::new(FOLDERS));
    for name in folders.iter().filter(|name| is_orphan(name)) {
        kill_recorded(&Path::new(FOLDERS).join(name).join(PROCESSES));
    }
    if let Ok(mount) = cgroup2_mount() {
        for name in entries(&mount).iter().filter(|name| is_orphan(name)) {
            report(name, remove_cgroup(&mount.join(name)));
        }
    }
    for mount in cgroup1_mounts().unwrap_or_default() {
        for name in entries(&mount).iter().filter(|name| is_orphan(name)) {
            report(name, remove_cgroup_tree(&mount.join(name)));
        }
    }
    for name in entries(Path::new(BPFFS))
        .iter()
        .filter(|name| is_orphan(name))
    {
        report(name, fs::remove_dir_all(Path::new(BPFFS).join(name)));
    }
    for name in folders.iter().filter(|name| is_orphan(name)) {
        report(name, remove_folder(&Path::new(FOLDERS).join(name)));
    }
}

/// [`sweep`], the first time that it is called.
pub(crate) fn sweep_once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
}

/// Keeps the folder if anything stays mounted in it: to remove through a mount would remove what it
/// shows.
fn remove_folder(path: &Path) -> anyhow::Result<()> {
    unmount_below(path)?;
    Ok(fs::remove_dir_all(path)?)
}

fn report<E: Display>(name: &str, result: Result<(), E>) {
    match result {
        Ok(()) => eprintln!("swept away what a run before left: {name}"),
        Err(error) => eprintln!("cannot sweep away {name}: {error:#}"),
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Whether the name is of ours and the process in it is gone; a reused pid is another process.
fn is_orphan(name: &str) -> bool {
    let Some(rest) = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_prefix('-'))
    else {
        return false;
    };
    let mut numbers = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(started))) = (numbers.next(), numbers.next()) else {
        return false;
    };
    let Ok(pid) = u32::try_from(pid) else {
        return false;
    };
    start_time(pid) != Some(started)
}

/// When a process started, in clock ticks since boot; `None` where there is none.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything; field 22 is the twentieth after it.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

fn kill_recorded(file: &Path) {
    let text = fs::read_to_string(file).unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let pid = words.next().and_then(|word| word.parse::<u32>().ok());
        let started = words.next().and_then(|word| word.parse::<u64>().ok());
        if let (Some(pid), Some(started)) = (pid, started)
            && start_time(pid) == Some(started)
        {
            eprintln!("killing process {pid} of a run before");
            kill(pid, Signal::KILL);
        }
    }
}

/// Sends a signal to a process that is known to be ours.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, signal)
    {
        eprintln!("cannot signal {pid:?}: {error}");
    }
}

/// Kills everything in a cgroup, and removes it and those below.
pub(crate) fn remove_cgroup(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.kill"), "1")?;
    let deadline = Instant::now() + EMPTY_DEADLINE;
    while fs::read_to_string(path.join("cgroup.events"))?.contains("populated 1") {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    remove_cgroup_tree(path)
}

/// Removes a cgroup without processes, and those below.
pub(crate) fn remove_cgroup_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
