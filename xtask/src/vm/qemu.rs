//! One virtual machine: its start, its output, its end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::kernel::Kernel;
use crate::process;

/// What the machine prints, with the exit code of its tests, when all have run.
const SENTINEL: &str = "CLAWD-VM-EXIT ";

/// Emulated, the tests take some minutes; a machine that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// How much of the kernel's log is shown when a machine dies.
const LOG_LINE_COUNT: usize = 40;

/// A CPU that QEMU emulates without its `max`, which has features that 6.1 trips over when emulated;
/// less what this one has and no emulation does.
const CPU: &str = "Haswell-v4,-pcid,-x2apic,-tsc-deadline,-invpcid,-spec-ctrl";

/// `cgroup_no_v1` gives every controller to cgroup v2; a kernel that stumbles ends the machine.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 cgroup_no_v1=all panic=-1 oops=panic mitigations=off random.trust_cpu=on";

/// Ends the machine however its supervisor ends.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Boots `kernel` with `initrd`, hands over each line that its tests print, and returns their exit
/// code. The kernel's own log goes to `console.log` in `directory`.
///
/// # Errors
/// QEMU cannot be started; the machine died or hung before its tests had ended.
pub(super) fn run(
    kernel: &Kernel,
    initrd: &Path,
    directory: &Path,
    mut on_line: impl FnMut(&str),
) -> anyhow::Result<i32> {
    let console = directory.join("console.log");
    let complaints = directory.join("qemu.log");
    let (mut machine, stdout) = start(kernel, initrd, &console, &complaints)?;
    let lines = read_lines(stdout);
    let deadline = Instant::now() + TIMEOUT;
    let problem = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match exit_code_in(&line) {
                Some(exit_code) => return Ok(exit_code),
                None => on_line(&line),
            },
            Err(RecvTimeoutError::Timeout) => {
                break format!("not done after {} minutes", TIMEOUT.as_secs() / 60);
            }
            Err(RecvTimeoutError::Disconnected) => {
                break format!("ended too soon ({})", machine.0.wait()?);
            }
        }
    };
    drop(machine);
    bail!(
        "{problem}; its last words:\n{}{}",
        last_lines(&console),
        last_lines(&complaints)
    );
}

fn start(
    kernel: &Kernel,
    initrd: &Path,
    console: &Path,
    complaints: &Path,
) -> anyhow::Result<(Machine, ChildStdout)> {
    let console_device = format!("file:{}", console.display());
    // setpriv: should this program be killed, the machine goes with it.
    let mut command = process::command("setpriv", &["--pdeathsig=KILL", "qemu-system-x86_64"]);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-monitor",
            "none",
        ])
        .args([
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=single",
            "-cpu",
            CPU,
            "-smp",
            "2",
            "-m",
            "3072",
        ])
        .args([
            "-serial",
            &console_device,
            "-serial",
            "stdio",
            "-append",
            COMMAND_LINE,
        ])
        .arg("-kernel")
        .arg(&kernel.vmlinuz)
        .arg("-initrd")
        .arg(initrd)
        .stdout(Stdio::piped())
        .stderr(
            File::create(complaints)
                .with_context(|| format!("cannot write {}", complaints.display()))?,
        );
    let mut child = command
        .spawn()
        .context("cannot start QEMU through setpriv")?;
    let stdout = child.stdout.take();
    let machine = Machine(child);
    Ok((machine, stdout.context("QEMU has no standard output")?))
}

/// Lines arrive until the machine closes its output.
fn read_lines(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            if sender
                .send(String::from_utf8_lossy(&line).trim_end().to_owned())
                .is_err()
            {
                return;
            }
            line.clear();
        }
    });
    receiver
}

fn exit_code_in(line: &str) -> Option<i32> {
    line.strip_prefix(SENTINEL)?.parse().ok()
}

fn last_lines(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LOG_LINE_COUNT);
    lines
        .iter()
        .skip(skipped)
        .map(|line| format!("  {}\n", line.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_is_read_from_the_sentinel_alone() {
        assert_eq!(exit_code_in("CLAWD-VM-EXIT 101"), Some(101));
        assert_eq!(exit_code_in("test a ... CLAWD-VM-EXIT 0"), None);
        assert_eq!(exit_code_in("CLAWD-VM-EXIT "), None);
    }

    #[test]
    fn sentinel_is_what_the_machine_prints() {
        assert!(include_str!("start.sh").contains(&format!("echo \"{SENTINEL}$code\"")));
    }

    #[test]
    fn lines_lose_the_carriage_return_of_the_serial_port() {
        let lines: Vec<String> = read_lines(&b"one\r\ntwo"[..]).iter().collect();
        assert_eq!(lines, ["one", "two"]);
    }
}
