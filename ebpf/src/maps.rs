//! The maps, their capacity, and what a full one means.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use clawd_common::{
    decide::{AddressKey, MaskKey, MaskValue, PortKey, RuleKey, RuleValue},
    ended::{EndedKey, EndedValue},
    record::{
        AdoptedValue, ChainKey, ChangedKey, Counters, FileKey, FileValue, HookValue,
        IN_FORCE_SLOTS, LeasedKey, LeasedValue, LineageValue, Meta, OpenFile, PROGRAM_NAME_BYTES,
        ProcessValue, SandboxValue, SeenValue, SocketRecord, UdpPeerKey, UdpPeerValue,
    },
};

/// `bpf_map_flags` of 5.1 (include/uapi/linux/bpf.h): an accepted socket inherits its listener's record.
const BPF_F_CLONE: usize = 1 << 9;

/// Cgroup id -> sandbox. Full: a new sandbox is refused.
#[map]
pub static SANDBOX: HashMap<u64, SandboxValue> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Slot -> the policy of the sandbox that has it, see [`IN_FORCE_SLOTS`].
#[map]
pub static IN_FORCE: Array<u32> = Array::with_max_entries(IN_FORCE_SLOTS, 0);

/// Process -> what it executes. Full: the process has no record, so no grants, and is counted.
#[map]
pub static PROCESS: HashMap<u32, ProcessValue> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Process -> the chain that it was found to have while it ran. Full: it keeps what it has.
#[map]
pub static ADOPTED: HashMap<u32, AdoptedValue> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// File -> number of its content. Full: the file has no identity, so no grants.
#[map]
pub static IDENTITY: HashMap<FileKey, u32> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Waiting exec -> what it may take the file for. Full: it has no identity.
#[map]
pub static LEASED: HashMap<LeasedKey, LeasedValue> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Which gate's leases count (one entry); raised as soon as a gate is gone.
#[map]
pub static EPOCH: Array<u32> = Array::with_max_entries(1, 0);

/// Chain before, file -> chain after. Full: the process has no grants.
#[map]
pub static CHAIN: HashMap<ChainKey, u32> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Datagram socket, peer -> why they may talk. The oldest conversations give way, see
/// [`UdpPeerValue`].
#[map]
pub static UDP_PEER: LruHashMap<UdpPeerKey, UdpPeerValue> = LruHashMap::with_max_entries(65_536, 0);

/// Address -> address class. Full: a push is refused, the policy before stays.
#[map]
pub static ADDRESS: LpmTrie<AddressKey, u32> = LpmTrie::with_max_entries(262_144, 0);

/// Protocol and port -> port class. Full: as `ADDRESS`.
#[map]
pub static PORT: LpmTrie<PortKey, u32> = LpmTrie::with_max_entries(262_144, 0);

/// Address class, port class -> entries that may, and that may not. Full: as `ADDRESS`.
#[map]
pub static RULE: HashMap<RuleKey, RuleValue> =
    HashMap::with_max_entries(1_048_576, BPF_F_NO_PREALLOC);

/// Chain -> entries that it matches. Full: as `ADDRESS`; a new chain has no grants.
#[map]
pub static MASK: HashMap<MaskKey, MaskValue> =
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

/// Execs of files in `LEASED` that are over, for the exec gate. Full: it gives the leases back by
/// the clock.
#[map]
pub static EXECUTED: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

/// Content by number, for reports; no program reads it. Full: the file has no identity.
#[map]
pub static FILE: HashMap<u32, FileValue> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Chain -> its executables, for reports; no program reads it. Full: the process has no grants.
#[map]
pub static LINEAGE: HashMap<u32, LineageValue> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Room for one `UNSEEN` value, which is too large for a program's stack.
#[map]
pub static SCRATCH: PerCpuArray<SeenValue> = PerCpuArray::with_max_entries(1, 0);

/// What the exec gate made of a file, for reports; nothing is decided by it, old entries give way.
#[map]
pub static SEEN: LruHashMap<FileKey, SeenValue> = LruHashMap::with_max_entries(4096, 0);

/// The path that the exec of a file named which the gate saw nothing of, likewise. Apart from `SEEN`,
/// so that a sandbox cannot push out what is told of others.
#[map]
pub static UNSEEN: LruHashMap<FileKey, SeenValue> = LruHashMap::with_max_entries(4096, 0);

/// The content that was pinned where another is now, for reports, likewise.
#[map]
pub static CHANGED: LruHashMap<ChangedKey, [u8; 32]> = LruHashMap::with_max_entries(1024, 0);

/// Process of a sandbox -> what it was when it ended, for reports, likewise.
#[map]
pub static ENDED: LruHashMap<EndedKey, EndedValue> = LruHashMap::with_max_entries(4096, 0);

/// Attached program's name -> what was put there; no program reads it.
#[map]
pub static HOOK: HashMap<[u8; PROGRAM_NAME_BYTES], HookValue> =
    HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);

/// Whether user space may reuse these pins; no program reads it.
#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, 0);

/// Results of `file_key`, a slot for each caller, who reads it from its own memory: an exec waits.
#[map]
pub static FILE_KEY: Array<OpenFile> = Array::with_max_entries(64, BPF_F_MMAPABLE);

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
