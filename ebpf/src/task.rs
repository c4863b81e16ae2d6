//! Who is asking: the current task's sandbox and process.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, generated::bpf_get_current_ancestor_cgroup_id,
};
use clawd_common::record::{ProcessKey, ProcessValue, SandboxValue};

use crate::{
    kread::{is_inode, member, offset},
    maps::{ADOPTED, PROCESS, SANDBOX},
};

/// Depth of a sandbox's cgroup below the root; set by the loader.
#[unsafe(no_mangle)]
static SANDBOX_CGROUP_LEVEL: u32 = 0;

/// Depth of a sandbox's cgroup below the root.
#[inline(always)]
pub fn sandbox_level() -> u32 {
    // SAFETY: initialised, aligned, never written by the program.
    unsafe { core::ptr::read_volatile(&raw const SANDBOX_CGROUP_LEVEL) }
}

/// The sandbox that the current task is in.
#[inline(always)]
pub fn current_sandbox() -> Option<&'static SandboxValue> {
    // SAFETY: takes any level; answers 0 where the task has no such ancestor.
    let cgroup_id = unsafe { bpf_get_current_ancestor_cgroup_id(sandbox_level() as i32) };
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

/// What `process` executes, with its chain as it is known now; `None` where it was not seen to
/// execute anything in this sandbox.
#[inline(always)]
pub fn executes(process: ProcessKey, sandbox_id: u32) -> Option<ProcessValue> {
    // SAFETY: the value is only read, and copied.
    let mut value = *unsafe { PROCESS.get(process.tgid) }?;
    if value.start_boottime_ns != process.start_boottime_ns || value.sandbox_id != sandbox_id {
        return None;
    }
    if value.chain == 0 {
        // SAFETY: the value is only read.
        if let Some(adopted) = unsafe { ADOPTED.get(process.tgid) }
            && adopted.exec_boottime_ns == value.exec_boottime_ns
        {
            value.chain = adopted.chain;
            value.file_id = adopted.file_id;
        }
    }
    Some(value)
}

/// Whether the current task's `mm->exe_file`, which `prctl(PR_SET_MM)` can replace, is the file that
/// it was seen to execute.
#[inline(always)]
pub fn runs_what_it_executed(value: &ProcessValue) -> bool {
    match exe_file() {
        Ok(file) => matches!(is_inode(file, &value.file), Ok(true)),
        Err(_) => false,
    }
}

#[inline(always)]
fn exe_file() -> Result<u64, i32> {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    let mm: u64 = member(task, offset!(task_mm))?;
    member(mm, offset!(mm_exe_file))
}
