//! Which machine the figures are of.

use std::fs;

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
