//! What a sandbox as a whole may use up: written into its cgroups, and read back.

pub(crate) mod controllers;
pub(crate) mod watch;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clawd_control::SandboxLimits;
use clawd_policy::ResourceLimits;

use crate::cgroup::Cgroup;
use controllers::{Controller, ControllerError};

/// Processes and threads where the policy says nothing: more than builds and browsers have, an eighth
/// of the ids that a host hands out at least, a sixteenth of the kernel's table of processes.
const PIDS_DEFAULT: u64 = 4096;
/// Memory where the policy says nothing, as a part of the host's: a sandbox alone never brings the
/// host to its knees.
const MEMORY_DEFAULT_DIVISOR: u64 = 2;
/// The span over which CPU time is counted, the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// Limits of memory are kept in pages, of 64 KiB at most.
const PAGE_BYTES_MAX: u64 = 64 << 10;

/// Why a sandbox cannot have a limit that its policy asks for.
#[derive(Debug, thiserror::Error)]
#[error(
    "limits: `process: {{ {key}: }}` of the policy cannot be held; without that key clawd's default holds"
)]
pub(crate) struct LimitError {
    key: &'static str,
    #[source]
    cause: HoldError,
}

/// Why a limit cannot be held.
#[derive(Debug, thiserror::Error)]
enum HoldError {
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error("cannot write {value} to {}: {source}", path.display())]
    Write {
        value: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} holds {found:?} after {wanted} was written", path.display())]
    Differs {
        path: PathBuf,
        found: Option<u64>,
        wanted: u64,
    },
    #[error(
        "the host has swap, and the kernel does not count it ({} is not there); boot with `swapaccount=1` or run `swapoff -a`",
        path.display()
    )]
    Swap { path: PathBuf },
    #[error("cannot make cgroup {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
}

/// One limit that a sandbox should have.
struct Wanted {
    controller: Controller,
    key: &'static str,
    value: u64,
    /// Whether the policy asks for it; else it is a default.
    is_asked: bool,
}

/// Puts a sandbox that has no process yet under its limits. A limit that the policy asks for is held,
/// or this fails; a default that cannot be held is left out, and `status` says so.
pub(crate) fn apply(cgroup: &Cgroup, asked: &ResourceLimits) -> Result<(), LimitError> {
    for wanted in wanted(asked) {
        match hold(cgroup, &wanted) {
            Ok(()) => {}
            Err(cause) if wanted.is_asked => {
                let key = wanted.key;
                return Err(LimitError { key, cause });
            }
            Err(cause) => {
                tracing::warn!(cgroup = %cgroup.path().display(), key = wanted.key, %cause, "a default limit is not held");
            }
        }
    }
    Ok(())
}

fn wanted(asked: &ResourceLimits) -> Vec<Wanted> {
    let pids = asked.pids_max.map(u64::from);
    let memory = asked.memory_max_bytes;
    let mut all = vec![
        Wanted {
            controller: Controller::Pids,
            key: "pids_max",
            value: pids.unwrap_or(PIDS_DEFAULT),
            is_asked: pids.is_some(),
        },
        Wanted {
            controller: Controller::Memory,
            key: "memory_max",
            value: memory.unwrap_or_else(memory_default),
            is_asked: memory.is_some(),
        },
    ];
    // No default: CPU time is shared out by the scheduler, and cannot be kept from others.
    all.extend(asked.cpu_max_percent.map(|percent| Wanted {
        controller: Controller::Cpu,
        key: "cpu_max",
        value: u64::from(percent) * CPU_PERIOD_US / 100,
        is_asked: true,
    }));
    all
}

fn memory_default() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit) * info.totalram / MEMORY_DEFAULT_DIVISOR
}

fn hold(cgroup: &Cgroup, wanted: &Wanted) -> Result<(), HoldError> {
    let controller = wanted.controller;
    let controllers = cgroup.controllers();
    controllers.provide(controller)?;
    let Some(dir) = cgroup.dir_of(controller) else {
        return Ok(());
    };
    if !controllers.is_unified(controller) {
        fs::create_dir_all(&dir).map_err(|source| HoldError::Make {
            path: dir.clone(),
            source,
        })?;
    }
    let value = wanted.value;
    match (controller, controllers.is_unified(controller)) {
        (Controller::Pids, _) => write(&dir.join("pids.max"), &value.to_string())?,
        (Controller::Memory, true) => {
            write(&dir.join("memory.max"), &value.to_string())?;
            write_swap(&dir.join("memory.swap.max"), 0)?;
            // The largest process goes, not the agent with all of its work.
            write(&dir.join("memory.oom.group"), "0")?;
        }
        (Controller::Memory, false) => {
            write(&dir.join("memory.limit_in_bytes"), &value.to_string())?;
            write_swap(&dir.join("memory.memsw.limit_in_bytes"), value)?;
        }
        (Controller::Cpu, true) => {
            write(&dir.join("cpu.max"), &format!("{value} {CPU_PERIOD_US}"))?;
        }
        (Controller::Cpu, false) => {
            write(&dir.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
            write(&dir.join("cpu.cfs_quota_us"), &value.to_string())?;
        }
    }
    verify(&dir, controller, controllers.is_unified(controller), value)
}

fn write(path: &Path, value: &str) -> Result<(), HoldError> {
    fs::write(path, value).map_err(|source| HoldError::Write {
        value: value.to_owned(),
        path: path.to_path_buf(),
        source,
    })
}

/// A host without swap needs no limit of it, and its kernel may have none.
fn write_swap(path: &Path, value: u64) -> Result<(), HoldError> {
    if path.exists() {
        return write(path, &value.to_string());
    }
    if rustix::system::sysinfo().totalswap == 0 {
        return Ok(());
    }
    let path = path.to_path_buf();
    Err(HoldError::Swap { path })
}

fn verify(dir: &Path, controller: Controller, unified: bool, wanted: u64) -> Result<(), HoldError> {
    let found = read_max(dir, controller, unified);
    let page = if controller == Controller::Memory {
        PAGE_BYTES_MAX
    } else {
        1
    };
    let holds = |value: u64| value <= wanted && wanted - value < page;
    if found.is_some_and(holds) {
        return Ok(());
    }
    Err(HoldError::Differs {
        path: dir.join(max_file(controller, unified)),
        found,
        wanted,
    })
}

const fn max_file(controller: Controller, unified: bool) -> &'static str {
    match (controller, unified) {
        (Controller::Pids, _) => "pids.max",
        (Controller::Memory, true) => "memory.max",
        (Controller::Memory, false) => "memory.limit_in_bytes",
        (Controller::Cpu, true) => "cpu.max",
        (Controller::Cpu, false) => "cpu.cfs_quota_us",
    }
}

/// The limit that a cgroup has; `None` for none.
fn read_max(dir: &Path, controller: Controller, unified: bool) -> Option<u64> {
    // What version 1 shows for "no limit": the largest number of bytes in whole pages.
    const UNLIMITED: u64 = i64::MAX.unsigned_abs() - PAGE_BYTES_MAX;
    // `max` and -1 are no numbers here.
    let value = number(&dir.join(max_file(controller, unified)))?;
    (value < UNLIMITED).then_some(value)
}

/// The number that a control file begins with.
fn number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The limits of a sandbox as its cgroups hold them now.
pub(crate) fn read(cgroup: &Cgroup, of_processes: &clawd_sandbox::ProcessLimits) -> SandboxLimits {
    let controllers = cgroup.controllers();
    let max = |controller: Controller| {
        let dir = cgroup.dir_of(controller)?;
        read_max(&dir, controller, controllers.is_unified(controller))
    };
    let now = |controller: Controller, file: &str| {
        let dir = cgroup.dir_of(controller)?;
        number(&dir.join(file))
    };
    let memory_now = if controllers.is_unified(Controller::Memory) {
        "memory.current"
    } else {
        "memory.usage_in_bytes"
    };
    let hits = watch::hits(cgroup);
    SandboxLimits {
        pids_max: max(Controller::Pids),
        pids: now(Controller::Pids, "pids.current"),
        pids_refused: hits.pids,
        memory_max_bytes: max(Controller::Memory),
        memory_bytes: now(Controller::Memory, memory_now),
        memory_killed: hits.memory,
        cpu_max_percent: max(Controller::Cpu).map(|quota_us| quota_us * 100 / CPU_PERIOD_US),
        nofile_max: of_processes.nofile_max,
        fsize_max_bytes: of_processes.fsize_max_bytes,
    }
}

/// A sentence for each default limit that a sandbox has not.
pub(crate) fn problems(sandbox: &str, limits: &SandboxLimits) -> Vec<String> {
    let missing = |what: &str, key: &str| {
        format!(
            "{sandbox}: no limit of {what} is in force, so it can use up the host's; a policy with \
             `process: {{ {key}: }}` says what is missing"
        )
    };
    let pids = limits.pids_max.is_none();
    let memory = limits.memory_max_bytes.is_none();
    let pids = pids.then(|| missing("processes", "pids_max"));
    let memory = memory.then(|| missing("memory", "memory_max"));
    pids.into_iter().chain(memory).collect()
}

#[cfg(test)]
mod tests {
    use clawd_control::SandboxLimits;
    use clawd_policy::ResourceLimits;

    use super::{Controller, PIDS_DEFAULT, problems, wanted};

    #[test]
    fn wanted_defaults_are_no_demands_and_cpu_has_none() {
        let all = wanted(&ResourceLimits::default());
        let [pids, memory] = all.as_slice() else {
            panic!("two defaults")
        };
        assert_eq!((pids.value, pids.is_asked), (PIDS_DEFAULT, false));
        assert!(memory.value > 64 << 20 && !memory.is_asked);
        let all = wanted(&ResourceLimits {
            cpu_max_percent: Some(150),
            pids_max: Some(7),
            ..ResourceLimits::default()
        });
        assert!(all[0].is_asked && all[0].value == 7);
        assert_eq!(
            (all[2].controller, all[2].value),
            (Controller::Cpu, 150_000)
        );
    }

    #[test]
    fn problems_name_what_no_cgroup_holds() {
        let mut limits = SandboxLimits {
            pids_max: Some(1),
            memory_max_bytes: None,
            ..SandboxLimits::default()
        };
        let told = problems("box", &limits);
        assert!(told.len() == 1 && told[0].starts_with("box: no limit of memory"));
        limits.memory_max_bytes = Some(1);
        assert!(problems("box", &limits).is_empty());
    }
}
