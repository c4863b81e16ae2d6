//! Which machine the figures are of, with what else it may do meanwhile.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, bail};

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
    match real_time() {
        Ok(()) => "scheduling real-time, inside and outside".to_owned(),
        Err(error) => format!("scheduling ordinary, so other work on the machine shows: {error:#}"),
    }
}

fn real_time() -> anyhow::Result<()> {
    let mut command = Command::new("chrt");
    command.args(["--rr", "--pid", "1", &std::process::id().to_string()]);
    let output = command.output().context("cannot start chrt")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
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
