//! Real sandboxes on this kernel. Needs root and cgroup v2.
//!
//! Without the usual harness, because this very file is also the sandbox's init (as clawd's own
//! program is) and the probe that runs inside.
#![forbid(unsafe_code)]

mod cases;
mod files;
mod kept;
mod life;
mod mounts;
mod own;
mod probe;
mod rig;
mod syscalls;
mod who;

use std::{
    panic::catch_unwind,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

type Case = (&'static str, fn());

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(clawd_sandbox::INIT_ARGUMENT) => clawd_sandbox::init::main(),
        Some("probe") => probe::run(arguments),
        Some("spawner") => life::spawner(arguments),
        Some("show-mounts") => mounts::show(arguments),
        Some("--list") => {
            cases::ALL
                .iter()
                .for_each(|(name, _)| println!("{name}: test"));
            ExitCode::SUCCESS
        }
        filter => run(filter
            .filter(|argument| !argument.starts_with('-'))
            .unwrap_or("")),
    }
}

fn run(filter: &str) -> ExitCode {
    let chosen: Vec<Case> = cases::ALL
        .iter()
        .filter(|(name, _)| name.contains(filter))
        .copied()
        .collect();
    // The strictest mask that a daemon may run under; no sandbox may inherit it.
    clawd_sys::rustix::process::umask(0o077.into());
    let failed = Mutex::new(Vec::new());
    let queue = Mutex::new(chosen.clone());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((name, case)) = next else { break };
                    let outcome = if catch_unwind(case).is_ok() {
                        "ok"
                    } else {
                        "FAILED"
                    };
                    println!("test {name} ... {outcome}");
                    if outcome != "ok" {
                        failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(name);
                    }
                }
            });
        }
    });
    // Counted after all others: they open descriptors and start processes of their own.
    if "spawns_in_a_row_leak_nothing".contains(filter) && catch_unwind(life::leak).is_err() {
        failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push("spawns_in_a_row_leak_nothing");
    }
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "\ntest result: {} run, {} failed {failed:?}",
        chosen.len() + 1,
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
