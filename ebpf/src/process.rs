//! Exec, fork and exit: who each process of a sandbox is.
//!
//! A tracepoint sees every process of the host; tasks outside sandboxes return at once. While a daemon
//! of another build puts its programs in place, each tracepoint has two, which both see an event: what
//! the first has done the second leaves so, or does again with the same outcome.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_task, bpf_ktime_get_boot_ns, generated::bpf_probe_read_kernel_str},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use clawd_common::{
    ended::{EndedKey, EndedValue},
    event::{Event, EventKind},
    record::{
        ChainKey, Executed, FileKey, LeasedKey, PATH_BYTES, ProcessKey, ProcessValue, SandboxValue,
    },
    verdict::{Action, NO_GRANT, Reason},
};

use crate::{
    emit::{self, Count},
    kread::{file_key, member, offset},
    maps::{ADOPTED, CHAIN, ENDED, EPOCH, EXECUTED, IDENTITY, LEASED, PROCESS, SCRATCH, UNSEEN},
    task::{current_process, current_sandbox, executes},
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
    let before = executes(process, sandbox.sandbox_id);
    let exec_number = exec_number();
    if let Some(before) = &before
        && exec_number != 0
        && before.exec_number == exec_number
    {
        return 0;
    }
    let parent_chain = match &before {
        Some(before) => before.chain_before_next(),
        None => 0,
    };
    let file = match member(ctx.arg::<u64>(2), offset!(binprm_file)).and_then(file_key) {
        Ok(file) => file,
        Err(_) => FileKey::ZERO,
    };
    let key = LeasedKey {
        file,
        tgid: process.tgid,
        reserved: 0,
    };
    let file_id = file_id(&key);
    let mut value = record(file, file_id, process, parent_chain);
    value.sandbox_id = sandbox.sandbox_id;
    value.exec_number = exec_number;
    store(process.tgid, &value);
    finish_lease(&key);
    if file_id == 0 {
        name_unseen(ctx.arg::<u64>(2), &file);
    }
    report(&value, process, tid, sandbox);
    0
}

/// What the process executes from now on. A step that the exec gate did not publish before gives no
/// chain.
#[inline(always)]
fn record(file: FileKey, file_id: u32, process: ProcessKey, parent_chain: u32) -> ProcessValue {
    let mut chain = 0;
    if file_id != 0 {
        let key = ChainKey {
            parent: parent_chain,
            file_id,
        };
        // SAFETY: the value is only read.
        if let Some(known) = unsafe { CHAIN.get(key) } {
            chain = *known;
        }
    }
    ProcessValue {
        start_boottime_ns: process.start_boottime_ns,
        exec_boottime_ns: now_ns(),
        exec_number: 0,
        file,
        sandbox_id: 0,
        file_id,
        chain,
        parent_chain,
    }
}

/// Which exec of the current task this is; 0 where it cannot be read. Every exec raises it, before its
/// new image is there (`begin_new_exec` in fs/exec.c, v6.1), and a child begins with its parent's.
#[inline(always)]
fn exec_number() -> u64 {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    member(task, offset!(task_self_exec_id)).unwrap_or_default()
}

/// The number of the file's content, 0 for none: for all who execute it, or for this one exec.
#[inline(always)]
fn file_id(key: &LeasedKey) -> u32 {
    // SAFETY: the value is only read.
    if let Some(file_id) = unsafe { IDENTITY.get(key.file) } {
        return *file_id;
    }
    // SAFETY: as above.
    let Some(leased) = (unsafe { LEASED.get(key) }) else {
        return 0;
    };
    // A lease that nobody holds any more says nothing of the file.
    match EPOCH.get(0) {
        Some(epoch) if *epoch == leased.epoch && now_ns() < leased.until_boottime_ns => {
            leased.file_id
        }
        _ => 0,
    }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Uses up the exec's entry of `LEASED` and tells the exec gate that the exec is over.
#[inline(always)]
fn finish_lease(key: &LeasedKey) {
    // SAFETY: the value is only read, before the entry is removed.
    let Some(lease) = (unsafe { LEASED.get(key) }).map(|leased| leased.lease) else {
        return;
    };
    let _absent = LEASED.remove(key);
    if let Some(mut entry) = EXECUTED.reserve::<Executed>(0) {
        entry.write(Executed {
            tgid: key.tgid,
            lease,
        });
        entry.submit(0);
    }
}

/// Keeps the path that the exec named, for reports.
#[inline(always)]
fn name_unseen(bprm: u64, file: &FileKey) {
    let Ok(name) = member::<u64>(bprm, offset!(binprm_interp)) else {
        return;
    };
    let Some(seen) = SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own value; a tracepoint program is not interrupted by itself.
    let seen = unsafe { &mut *seen };
    seen.sha256 = [0; 32];
    seen.reason_raw = Reason::NotHashed as u32;
    // SAFETY: the helper takes any address: it checks it and fails, it never faults.
    let copied = unsafe {
        bpf_probe_read_kernel_str(
            seen.path.as_mut_ptr().cast(),
            PATH_BYTES as u32,
            name as *const core::ffi::c_void,
        )
    };
    // With its terminating NUL.
    seen.path_len_bytes = if copied > 0 { copied as u32 - 1 } else { 0 };
    let _known_already = UNSEEN.insert(file, seen, u64::from(BPF_NOEXIST));
}

#[inline(always)]
fn report(value: &ProcessValue, process: ProcessKey, tid: u32, sandbox: &SandboxValue) {
    let reason = if value.chain != 0 {
        Reason::Identified
    } else if value.file_id != 0 {
        Reason::ChainUnknown
    } else {
        Reason::NotHashed
    };
    let mut event = Event::ZERO;
    event.process = process;
    event.tid = tid;
    event.file = value.file;
    event.file_id = value.file_id;
    event.chain = value.chain;
    event.parent_chain = value.parent_chain;
    event.sandbox_id = sandbox.sandbox_id;
    event.policy_id = sandbox.policy_id;
    event.kind_raw = EventKind::Exec as u8;
    event.action_raw = Action::Allowed.to_raw();
    event.reason_raw = reason.to_raw();
    event.grant_index = NO_GRANT;
    emit::granted(&mut event);
}

/// `sched_process_fork(parent, child)`: runs in the parent, before the child does.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let Some(sandbox) = current_sandbox() else {
        return 0;
    };
    let _result = fork(ctx.arg::<u64>(1), sandbox);
    0
}

/// Copies the current process's record to `child`, unless that is a thread of it.
#[inline(always)]
fn fork(child: u64, sandbox: &SandboxValue) -> Result<(), i32> {
    let tgid: u32 = member(child, offset!(task_tgid))?;
    if tgid != member::<u32>(child, offset!(task_pid))? {
        return Ok(());
    }
    let start_boottime_ns = member(child, offset!(task_start_boottime))?;
    let (process, _tid) = current_process()?;
    if let Some(mut value) = executes(process, sandbox.sandbox_id) {
        value.start_boottime_ns = start_boottime_ns;
        store(tgid, &value);
    }
    Ok(())
}

/// `sched_process_exit(task, ...)`: runs for every thread; the last one forgets the process.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let Some(sandbox) = current_sandbox() else {
        return 0;
    };
    let _result = exit(ctx.arg::<u64>(0), sandbox);
    0
}

#[inline(always)]
fn exit(task: u64, sandbox: &SandboxValue) -> Result<(), i32> {
    let signal: u64 = member(task, offset!(task_signal))?;
    if member::<u32>(signal, offset!(signal_live))? == 0 {
        let (process, _tid) = current_process()?;
        let _untold = tell_end(task, process, sandbox);
        let _absent = PROCESS.remove(process.tgid);
        let _absent = ADOPTED.remove(process.tgid);
    }
    Ok(())
}

/// Keeps what the process was, under the number that its own sandbox knows it by.
#[inline(always)]
fn tell_end(task: u64, process: ProcessKey, sandbox: &SandboxValue) -> Result<(), i32> {
    /// `struct upid`: the number, and its namespace.
    const UPID_BYTES: u32 = 16;
    /// `MAX_PID_NS_LEVEL`, include/linux/pid_namespace.h.
    const LEVEL_MAX: u32 = 32;
    let Some(value) = executes(process, sandbox.sandbox_id) else {
        return Ok(());
    };
    let leader: u64 = member(task, offset!(task_group_leader))?;
    let pid: u64 = member(leader, offset!(task_thread_pid))?;
    let level: u32 = member(pid, offset!(pid_level))?;
    if level > LEVEL_MAX {
        return Ok(());
    }
    let key = EndedKey {
        sandbox_id: sandbox.sandbox_id,
        inside_tgid: member(pid, offset!(pid_numbers) + level * UPID_BYTES)?,
    };
    let value = EndedValue {
        tgid: process.tgid,
        reserved: 0,
        process: value,
    };
    let _full = ENDED.insert(key, value, 0);
    Ok(())
}

/// Stores a record. Where there is no room the old one goes too: a process that executed something
/// else must not keep what it was granted before.
#[inline(always)]
fn store(tgid: u32, value: &ProcessValue) {
    if PROCESS.insert(tgid, value, 0).is_err() {
        let _absent = PROCESS.remove(tgid);
        emit::count(value.sandbox_id, Count::ProcessUnrecorded);
    }
}
