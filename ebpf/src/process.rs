//! Exec, fork and exit: who each process of a sandbox is.
//!
//! A tracepoint sees every process of the host; tasks outside sandboxes return at once.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use clawd_common::{
    event::{Event, EventKind},
    record::{FileKey, ProcessKey, ProcessValue},
    verdict::{Action, NO_GRANT, Reason},
};

use crate::{
    emit::{self, Count},
    kread::{file_key, member, offset},
    maps::{IDENTITY, PROCESS},
    task::{current_process, current_sandbox},
};

/// `sched_process_exec(task, old_pid, bprm)`: after the new image is in place, before its first
/// instruction.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let Some(sandbox) = current_sandbox() else {
        return 0;
    };
    let Ok((process, tid)) = current_process() else {
        return 0;
    };
    let bprm = ctx.arg::<u64>(2);
    let file = member(bprm, offset!(binprm_file))
        .and_then(file_key)
        .unwrap_or(FileKey::ZERO);
    // SAFETY: the value is only read; the gate adds entries and never changes one in place.
    let (file_id, reason) = match unsafe { IDENTITY.get(file) } {
        Some(identity) => (identity.file_id, Reason::Identified),
        None => (0, Reason::NotHashed),
    };
    store(
        process,
        ProcessValue {
            file_id,
            sandbox_id: sandbox.sandbox_id,
            file,
        },
    );

    let mut event = Event::ZERO;
    event.process = process;
    event.tid = tid;
    event.file = file;
    event.file_id = file_id;
    event.sandbox_id = sandbox.sandbox_id;
    event.policy_id = sandbox.policy_id;
    event.kind_raw = EventKind::Exec as u8;
    event.action_raw = Action::Allowed.to_raw();
    event.reason_raw = reason.to_raw();
    event.grant_index = NO_GRANT;
    emit::granted(&mut event);
    0
}

/// `sched_process_fork(parent, child)`: runs in the parent, before the child does.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    if current_sandbox().is_none() {
        return 0;
    }
    let _result = fork(ctx.arg::<u64>(1));
    0
}

/// Copies the current process's record to `child`, unless that is a thread of it.
#[inline(always)]
fn fork(child: u64) -> Result<(), i32> {
    let tgid: u32 = member(child, offset!(task_tgid))?;
    if tgid != member::<u32>(child, offset!(task_pid))? {
        return Ok(());
    }
    let start_boottime_ns = member(child, offset!(task_start_boottime))?;
    let (process, _tid) = current_process()?;
    // SAFETY: the value is only read, and copied before it is stored again.
    if let Some(parent) = unsafe { PROCESS.get(process) } {
        store(
            ProcessKey {
                tgid,
                reserved: 0,
                start_boottime_ns,
            },
            *parent,
        );
    }
    Ok(())
}

/// `sched_process_exit(task, ...)`: runs for every thread; the last one forgets the process.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    if current_sandbox().is_none() {
        return 0;
    }
    let _result = exit(ctx.arg::<u64>(0));
    0
}

#[inline(always)]
fn exit(task: u64) -> Result<(), i32> {
    let signal: u64 = member(task, offset!(task_signal))?;
    if member::<u32>(signal, offset!(signal_live))? == 0 {
        let (process, _tid) = current_process()?;
        let _absent = PROCESS.remove(process);
    }
    Ok(())
}

/// Stores a record. Where there is no room the old one goes too: a process that executed something
/// else must not keep what it was granted before.
#[inline(always)]
fn store(process: ProcessKey, value: ProcessValue) {
    if PROCESS.insert(process, value, 0).is_err() {
        let _absent = PROCESS.remove(process);
        emit::count(value.sandbox_id, Count::ProcessUnrecorded);
    }
}
