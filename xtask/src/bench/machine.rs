//! Which machine the figures are of, with what else it may do meanwhile.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};

/// Whether [`go_first`] has done what it says.
static GOES_FIRST: AtomicBool = AtomicBool::new(false);

/// Lines for the head of a report: the kernel, then the processors. Nothing in them changes from run
/// to run on one machine.
pub(crate) fn lines() -> [String; 2] {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let cpus = read("/proc/cpuinfo");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    [
        format!("kernel {} {}", release.trim(), std::env::consts::ARCH),
        format!("cpu {} x {count}", model(&cpus)),
    ]
}

/// Has this process, and everything that it starts from now on, go before all ordinary work of the
/// machine; what is measured inside and outside alike. Returns a line for the head of a report.
pub(crate) fn go_first() -> String {
    match real_time(std::process::id()) {
        Ok(()) => {
            GOES_FIRST.store(true, Ordering::Relaxed);
            "scheduling real-time, inside and outside; the exec gate ordinary".to_owned()
        }
        Err(error) => format!("scheduling ordinary, so other work on the machine shows: {error:#}"),
    }
}

fn real_time(pid: u32) -> anyhow::Result<()> {
    let mut command = Command::new("chrt");
    command.args(["--all-tasks", "--rr", "--pid", "1", &pid.to_string()]);
    run(&mut command)
}

/// Does `work` with these processes, and this one, scheduled as usual: more of them than there are
/// processors would keep the exec gate, which has no priority, from ever answering.
///
/// # Errors
/// Those of `work`, or `chrt` failed.
pub(crate) fn as_usual<T>(
    pids: &[u32],
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if !GOES_FIRST.load(Ordering::Relaxed) {
        return work();
    }
    let all = || pids.iter().copied().chain([std::process::id()]);
    all().try_for_each(go_as_usual)?;
    let done = work();
    let restored = all().try_for_each(real_time);
    let done = done?;
    restored.map(|()| done)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("cannot start chrt")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Has a process be scheduled as if nothing had gone first, with all its threads.
///
/// # Errors
/// `chrt` failed.
pub(crate) fn go_as_usual(pid: u32) -> anyhow::Result<()> {
    let mut command = Command::new("chrt");
    command.args(["--all-tasks", "--other", "--pid", "0", &pid.to_string()]);
    run(&mut command)
}

/// The processors' name, where the kernel tells one.
fn model(cpuinfo: &str) -> &str {
    let named = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim())
    });
    named.unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_is_found_or_unknown() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: Fast 1\nflags\t: a:b\n"),
            "Fast 1"
        );
        assert_eq!(model("processor\t: 0\nBogoMIPS\t: 50.00\n"), "unknown");
    }

    #[test]
    fn lines_name_the_kernel() {
        let [kernel, cpu] = lines();
        assert!(
            kernel.starts_with("kernel ") && kernel.len() > "kernel  x".len(),
            "{kernel}"
        );
        assert!(cpu.starts_with("cpu "), "{cpu}");
    }
}
