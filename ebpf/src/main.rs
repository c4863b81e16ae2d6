//! The programs that decide in the kernel, attached once to the parent of all sandbox cgroups.
//!
//! | program | hook | does | maps it decides by |
//! |---|---|---|---|
//! | `sock_create` | `cgroup/sock_create` | TCP, UDP, MPTCP only; writes the socket's record | `SANDBOX` `SOCKET` |
//! | `connect4` `connect6` | `cgroup/connect*` | the verdict on a destination | `SANDBOX` `SOCKET` `PROCESS` `ADOPTED` `ADDRESS` `RULE` `MASK` |
//! | `sendmsg4` `sendmsg6` | `cgroup/sendmsg*` | the same, for datagrams with an address of their own | the same |
//! | `egress` `ingress` | `cgroup_skb/*` | every packet against what was decided for its socket | `IN_FORCE` `SOCKET`, else `SANDBOX` `UDP_PEER` `ADDRESS` `RULE` `MASK` |
//! | `process_exec` | `tp_btf/sched_process_exec` | who a process is from now on | `IDENTITY` `LEASED` `EPOCH` `CHAIN` `PROCESS` |
//! | `process_fork` | `tp_btf/sched_process_fork` | a child is who its parent is | `PROCESS` |
//! | `process_exit` | `tp_btf/sched_process_exit` | forgets a process, but for reports (`ENDED`) | `PROCESS` |
//! | `file_key` | never attached, run on a descriptor | the key that `process_exec` would compute, its mount's namespace | `FILE_KEY` |
//!
//! Hooks fetch, [`clawd_common::decide::decide`] and [`clawd_common::packet::judge`] decide, hooks emit. Whatever is not found denies.
#![no_std]
#![no_main]
// Atomic addition; the build has nightly features on for `-Z build-std` anyway.
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "AtomicU64 has no fetch_add on this target"
)]

mod as_before;
mod connect;
mod destination;
mod emit;
mod file_key;
mod kread;
mod maps;
mod packet;
mod peers;
mod process;
mod sock_create;
mod socket;
mod tables;
mod task;

/// The one of this object's two licences that the kernel must see to permit its GPL-only helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics: the verifier refuses a program with a loop that does not end.
    loop {}
}
