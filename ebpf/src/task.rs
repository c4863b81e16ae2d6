//! Who is asking: the current task's sandbox and process.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, generated::bpf_get_current_ancestor_cgroup_id,
};
use clawd_common::record::{ProcessKey, SandboxValue};

use crate::{
    kread::{member, offset},
    maps::SANDBOX,
};

/// Depth of a sandbox's cgroup below the root; set by the loader.
#[unsafe(no_mangle)]
static SANDBOX_CGROUP_LEVEL: u32 = 0;

/// The sandbox that the current task is in.
#[inline(always)]
pub fn current_sandbox() -> Option<&'static SandboxValue> {
    // SAFETY: initialised, aligned, never written by the program.
    let level = unsafe { core::ptr::read_volatile(&raw const SANDBOX_CGROUP_LEVEL) };
    // SAFETY: takes any level; answers 0 where the task has no such ancestor.
    let cgroup_id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
    // SAFETY: the value is only read; an update replaces the element and frees it after RCU.
    unsafe { SANDBOX.get(cgroup_id) }
}

/// The current process and thread.
///
/// # Errors
/// The helper's errno where the task cannot be read.
#[inline(always)]
pub fn current_process() -> Result<(ProcessKey, u32), i32> {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    let leader: u64 = member(task, offset!(task_group_leader))?;
    let start_boottime_ns = member(leader, offset!(task_start_boottime))?;
    let process = ProcessKey {
        tgid: (pid_tgid >> 32) as u32,
        reserved: 0,
        start_boottime_ns,
    };
    Ok((process, pid_tgid as u32))
}
