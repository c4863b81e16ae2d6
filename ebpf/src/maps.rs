//! The maps, their capacity, and what a full one means.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    macros::map,
    maps::{Array, HashMap, LpmTrie, RingBuf},
};
use clawd_common::{
    decide::{AddressKey, GrantMask, MaskKey, RuleKey},
    record::{
        Counters, FileKey, IdentityValue, Meta, ProcessKey, ProcessValue, SandboxValue,
        SocketRecord,
    },
};

/// `bpf_map_flags` of 5.1 (include/uapi/linux/bpf.h): an accepted socket inherits its listener's record.
const BPF_F_CLONE: usize = 1 << 9;

/// Cgroup id -> sandbox. Full: a new sandbox is refused.
#[map]
pub static SANDBOX: HashMap<u64, SandboxValue> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Process -> what it executes. Full: the process has no record, so no grants, and is counted.
#[map]
pub static PROCESS: HashMap<ProcessKey, ProcessValue> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// File -> identity. Full: the file has no identity, so no grants.
#[map]
pub static IDENTITY: HashMap<FileKey, IdentityValue> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Address -> address class. Full: a push is refused, the policy before stays.
#[map]
pub static ADDRESS: LpmTrie<AddressKey, u32> = LpmTrie::with_max_entries(262_144, 0);

/// Address class, protocol, port -> entries that may. Full: as `ADDRESS`.
#[map]
pub static RULE: HashMap<RuleKey, GrantMask> =
    HashMap::with_max_entries(1_048_576, BPF_F_NO_PREALLOC);

/// Identity -> entries that it matches. Full: as `ADDRESS`; for a new file, it has no grants.
#[map]
pub static MASK: HashMap<MaskKey, GrantMask> =
    HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Sandbox -> exact totals. Full: a new sandbox is refused.
#[map]
pub static COUNTERS: HashMap<u32, Counters> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Denials. Full: the event is lost, and counted. Apart from `GRANTED`, so that a flood of allowed
/// attempts cannot hide a denial.
#[map]
pub static DENIED: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Allowed attempts and execs. Full: the event is lost, and counted.
#[map]
pub static GRANTED: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Whether user space may reuse these pins; no program reads it.
#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, 0);

/// Results of `file_key`, a slot for each caller.
#[map]
pub static FILE_KEY: Array<FileKey> = Array::with_max_entries(64, 0);

/// Definition of a socket storage map; `aya_ebpf::btf_maps::SkStorage` has no room for
/// `BPF_F_CLONE`, and takes its socket from `connect` and `sendmsg` contexts only.
#[repr(C)]
pub struct SocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketRecord,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize | BPF_F_CLONE],
}

// SAFETY: the pointers are only types for the loader (BTF map definitions) and are never followed.
unsafe impl Sync for SocketStorage {}

impl SocketStorage {
    /// The map's address, which the loader relocates to the map itself.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut core::ffi::c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Socket -> its record. No limit but memory; without memory the socket is refused.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".maps")]
pub static SOCKET: SocketStorage = SocketStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};
