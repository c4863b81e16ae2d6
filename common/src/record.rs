//! Keys and values of the maps that hold who is who: sandboxes, processes, sockets, files.

use crate::{abi::assert_layout, addr::Addr};

/// [`SandboxValue::flags`]: loopback is the sandbox's own (a network namespace of its own), free.
pub const SANDBOX_OWN_LOOPBACK: u32 = 1;

/// Value of map `SANDBOX`, keyed by the id of the sandbox's cgroup (u64).
///
/// Replacing a value is the atomic switch from one policy to another.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandboxValue {
    /// From 1; 0 is no sandbox.
    pub sandbox_id: u32,
    /// Under which the sandbox's rules are stored; from 1, never reused.
    pub policy_id: u32,
    /// `SANDBOX_*` bits.
    pub flags: u32,
    /// Where `IN_FORCE` has `policy_id` too, below [`IN_FORCE_SLOTS`]; 0 where it has none.
    pub slot: u32,
}
impl SandboxValue {
    /// No sandbox.
    pub const ZERO: Self = Self {
        sandbox_id: 0,
        policy_id: 0,
        flags: 0,
        slot: 0,
    };
}
assert_layout!(SandboxValue, size 16, align 4, { sandbox_id @ 0, policy_id @ 4, flags @ 8, slot @ 12 });

/// Entries of map `IN_FORCE`, an array of policy ids (u32): what `SANDBOX` says of a sandbox's policy,
/// found without a hash. 0 where nothing is to be taken from it, and `SANDBOX` must be asked. It holds
/// an id only while `SANDBOX` does, and ids are not given twice, so that an entry that is another
/// sandbox's by now matches nothing that was decided before.
pub const IN_FORCE_SLOTS: u32 = 8192;

/// A process, named so that a reused pid is another process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
    /// `group_leader->start_boottime`, in nanoseconds since boot.
    pub start_boottime_ns: u64,
}
impl ProcessKey {
    /// No process.
    pub const ZERO: Self = Self {
        tgid: 0,
        reserved: 0,
        start_boottime_ns: 0,
    };
}
assert_layout!(ProcessKey, size 16, align 8, { tgid @ 0, reserved @ 4, start_boottime_ns @ 8 });

/// A file's content at one time, as the kernel's inode tells it.
///
/// Computed only in the kernel (at exec, and for a descriptor by the `file_key` program), because
/// `statx` shows other numbers than the inode on btrfs, tmpfs and overlay.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// `i_ino`.
    pub ino: u64,
    /// `i_size`, in bytes.
    pub size_bytes: u64,
    /// Change time, whole seconds.
    pub ctime_sec: i64,
    /// Change time, nanoseconds (bits 0 to 29; bit 31 is a flag of the kernel's from 6.13 on).
    pub ctime_nsec: u32,
    /// `i_sb->s_dev`.
    pub dev: u32,
    /// `i_generation`.
    pub generation: u32,
    /// `i_sb->s_magic`, low 32 bits; 0 where the file system was mounted in a user namespace, whose
    /// owner says what is in it.
    pub fs_magic: u32,
}
impl FileKey {
    /// No file.
    pub const ZERO: Self = Self {
        ino: 0,
        size_bytes: 0,
        ctime_sec: 0,
        ctime_nsec: 0,
        dev: 0,
        generation: 0,
        fs_magic: 0,
    };
}
assert_layout!(FileKey, size 40, align 8, {
    ino @ 0, size_bytes @ 8, ctime_sec @ 16, ctime_nsec @ 24, dev @ 28, generation @ 32, fs_magic @ 36
});

/// Value of map `FILE_KEY`: what program `file_key` finds out about an open file.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its content at this time.
    pub key: FileKey,
    /// Number of the mount namespace that the mount it was opened through is in, as
    /// `/proc/<pid>/ns/mnt` shows it; 0 where that mount is in none (any more).
    pub mount_namespace: u32,
    /// Zero.
    pub reserved: u32,
}
impl OpenFile {
    /// No file.
    pub const ZERO: Self = Self {
        key: FileKey::ZERO,
        mount_namespace: 0,
        reserved: 0,
    };
}
assert_layout!(OpenFile, size 48, align 8, { key @ 0, mount_namespace @ 40, reserved @ 44 });

/// Longest path kept in [`FileValue`] and [`SeenValue`], in bytes; a longer one is cut.
pub const PATH_BYTES: usize = 208;

/// Value of map `FILE`, keyed by file id (u32): for reports alone, nothing is decided by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileValue {
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Bytes of `path` in use.
    pub path_len_bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// The path under which a sandbox first executed it, in that sandbox's view; not terminated.
    pub path: [u8; PATH_BYTES],
}
impl FileValue {
    /// No file.
    pub const ZERO: Self = Self {
        sha256: [0; 32],
        path_len_bytes: 0,
        reserved: 0,
        path: [0; PATH_BYTES],
    };
}
assert_layout!(FileValue, size 248, align 4, { sha256 @ 0, path_len_bytes @ 32, reserved @ 36, path @ 40 });

/// Value of map `SEEN`, keyed by [`FileKey`]: what the exec gate made of a file when it was last
/// executed. `UNSEEN` is the same for files that the gate saw nothing of, with the path that the exec
/// named. For reports alone; the oldest entries give way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenValue {
    /// SHA-256 of the content, zeros where it was not hashed.
    pub sha256: [u8; 32],
    /// Bytes of `path` in use.
    pub path_len_bytes: u32,
    /// [`crate::verdict::Reason`] as its raw byte: why it has no identity, or `Identified`.
    pub reason_raw: u32,
    /// Its path in the sandbox's view; not terminated. In `UNSEEN`, with links as they were written.
    pub path: [u8; PATH_BYTES],
}
impl SeenValue {
    /// Nothing seen.
    pub const ZERO: Self = Self {
        sha256: [0; 32],
        path_len_bytes: 0,
        reason_raw: 0,
        path: [0; PATH_BYTES],
    };
}
assert_layout!(SeenValue, size 248, align 4, { sha256 @ 0, path_len_bytes @ 32, reason_raw @ 36, path @ 40 });

/// Key of map `CHAIN`; value: the chain (u32, from 1) of a process of chain `parent` once it has
/// executed the file. A chain is a line of executables, the latest first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainKey {
    /// The chain before the exec; 0 where there is none, [`UNKNOWN_CHAIN`] where it is not proved.
    pub parent: u32,
    /// The file that is executed.
    pub file_id: u32,
}
impl ChainKey {
    /// No chain.
    pub const ZERO: Self = Self {
        parent: 0,
        file_id: 0,
    };
}
assert_layout!(ChainKey, size 8, align 4, { parent @ 0, file_id @ 4 });

/// [`ChainKey::parent`] of what is executed behind a program without identity: something was before it,
/// and nobody knows what. No process is of this chain.
pub const UNKNOWN_CHAIN: u32 = u32::MAX;

/// Most executables of a chain, the running one included; the farthest ancestors fall off, and what
/// was granted for their sake with them.
pub const LINEAGE_MAX: usize = 31;

/// Value of map `LINEAGE`, keyed by chain (u32): for reports alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineageValue {
    /// Entries of `files` in use.
    pub count: u32,
    /// File ids, the running executable first; each once, at its latest place. 0, as the last one, for
    /// what nobody knows.
    pub files: [u32; LINEAGE_MAX],
}
impl LineageValue {
    /// An empty line.
    pub const ZERO: Self = Self {
        count: 0,
        files: [0; LINEAGE_MAX],
    };
}
assert_layout!(LineageValue, size 128, align 4, { count @ 0, files @ 4 });

/// Key of map `CHANGED`; value: the SHA-256 (32 bytes) that was pinned for the path which now holds
/// the file. For reports alone; the oldest entries give way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChangedKey {
    /// The policy that lists the path.
    pub policy_id: u32,
    /// The content that is there now.
    pub file_id: u32,
}
impl ChangedKey {
    /// Nothing changed.
    pub const ZERO: Self = Self {
        policy_id: 0,
        file_id: 0,
    };
}
assert_layout!(ChangedKey, size 8, align 4, { policy_id @ 0, file_id @ 4 });

/// Value of map `PROCESS`, keyed by thread group id (u32, initial pid namespace): what a process
/// executes, as seen at its exec. A child has a copy of its parent's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessValue {
    /// `group_leader->start_boottime`, in nanoseconds: a reused number is another process.
    pub start_boottime_ns: u64,
    /// When it was executed, in nanoseconds since boot: tells one exec from another.
    pub exec_boottime_ns: u64,
    /// `task_struct.self_exec_id` at that exec, which the kernel raises with each; 0 where it could
    /// not be read. A hook that is attached twice tells by it what it has recorded already.
    pub exec_number: u64,
    /// The executed file.
    pub file: FileKey,
    /// The sandbox it was in at exec or fork.
    pub sandbox_id: u32,
    /// The file's id, 0 for none.
    pub file_id: u32,
    /// Its line of executables, 0 where it is not proved: no grants.
    pub chain: u32,
    /// The chain before the exec, as [`ChainKey::parent`].
    pub parent_chain: u32,
}
impl ProcessValue {
    /// The chain before the next exec, as [`ChainKey::parent`].
    #[must_use]
    #[inline(always)]
    pub const fn chain_before_next(&self) -> u32 {
        if self.chain == 0 && self.parent_chain != 0 {
            return UNKNOWN_CHAIN;
        }
        self.chain
    }

    /// A process that executes nothing known.
    pub const ZERO: Self = Self {
        start_boottime_ns: 0,
        exec_boottime_ns: 0,
        exec_number: 0,
        file: FileKey::ZERO,
        sandbox_id: 0,
        file_id: 0,
        chain: 0,
        parent_chain: 0,
    };
}
assert_layout!(ProcessValue, size 80, align 8, {
    start_boottime_ns @ 0, exec_boottime_ns @ 8, exec_number @ 16, file @ 24, sandbox_id @ 64,
    file_id @ 68, chain @ 72, parent_chain @ 76
});

/// Value of map `ADOPTED`, keyed by thread group id (u32): the chain of a process that was
/// identified while it ran, because the exec gate was not there at its exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptedValue {
    /// [`ProcessValue::exec_boottime_ns`] of the exec that it speaks of; it says nothing of others.
    pub exec_boottime_ns: u64,
    /// From 1.
    pub chain: u32,
    /// The file's id.
    pub file_id: u32,
}
impl AdoptedValue {
    /// Nothing identified.
    pub const ZERO: Self = Self {
        exec_boottime_ns: 0,
        chain: 0,
        file_id: 0,
    };
}
assert_layout!(AdoptedValue, size 16, align 8, { exec_boottime_ns @ 0, chain @ 8, file_id @ 12 });

/// Key of map `LEASED`: an exec that waits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeasedKey {
    /// What it executes.
    pub file: FileKey,
    /// Thread group id.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}
impl LeasedKey {
    /// No exec.
    pub const ZERO: Self = Self {
        file: FileKey::ZERO,
        tgid: 0,
        reserved: 0,
    };
}
assert_layout!(LeasedKey, size 48, align 8, { file @ 0, tgid @ 40, reserved @ 44 });

/// Value of map `LEASED`: a file that sandboxes may write, identified for one exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasedValue {
    /// The file's id.
    pub file_id: u32,
    /// Number of the lease; comes back in [`Executed`].
    pub lease: u32,
    /// The value of map `EPOCH` while the gate that holds the lease lives.
    pub epoch: u32,
    /// Zero.
    pub reserved: u32,
    /// When it is over, in nanoseconds since boot: sooner than the lease.
    pub until_boottime_ns: u64,
}
impl LeasedValue {
    /// No lease.
    pub const ZERO: Self = Self {
        file_id: 0,
        lease: 0,
        epoch: 0,
        reserved: 0,
        until_boottime_ns: 0,
    };
}
assert_layout!(LeasedValue, size 24, align 8, {
    file_id @ 0, lease @ 4, epoch @ 8, reserved @ 12, until_boottime_ns @ 16
});

/// Entry of ring `EXECUTED`: an exec for which `LEASED` had an entry is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Thread group id.
    pub tgid: u32,
    /// [`LeasedValue::lease`].
    pub lease: u32,
}
impl Executed {
    /// No exec.
    pub const ZERO: Self = Self { tgid: 0, lease: 0 };
}
assert_layout!(Executed, size 8, align 4, { tgid @ 0, lease @ 4 });

/// [`SocketRecord::flags`]: a hook allowed the socket to reach the peer.
pub const RECORD_JUDGED: u32 = 1;
/// [`SocketRecord::flags`]: the peer connected to the sandbox.
pub const RECORD_PASSIVE: u32 = 2;
/// [`SocketRecord::flags`]: the peer is a socket of the same sandbox.
pub const RECORD_OWN_PEER: u32 = 4;

/// A socket's record, in socket storage `SOCKET`; accepted sockets inherit it.
///
/// 64 bytes: a new size would need a new map, and a new map would lose the records of all live
/// sockets. All but `sandbox_id` and `slot` is written by whoever turned `sequence` from even to odd, and means
/// something only where `sequence` was the same even number before and after it was read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRecord {
    /// The sandbox that made the socket.
    pub sandbox_id: u32,
    /// `RECORD_*` bits.
    pub flags: u32,
    /// The process that made it, or the last one that was allowed to reach a peer with it.
    pub holder: ProcessKey,
    /// Odd while somebody writes. 64 bits, because this target exchanges no others atomically.
    pub sequence: u64,
    /// Whom the last decision was about.
    pub peer: Addr,
    /// The peer's port.
    pub peer_port: u16,
    /// [`SandboxValue::slot`] of the sandbox that made it, where `socket(2)` did; never changed, as
    /// `sandbox_id`.
    pub slot: u16,
    /// Under which policy it was decided.
    pub policy_id: u32,
    /// The line of executables that was judged.
    pub chain: u32,
}
impl SocketRecord {
    /// No record.
    pub const ZERO: Self = Self {
        sandbox_id: 0,
        flags: 0,
        holder: ProcessKey::ZERO,
        sequence: 0,
        peer: Addr::ZERO,
        peer_port: 0,
        slot: 0,
        policy_id: 0,
        chain: 0,
    };
}
assert_layout!(SocketRecord, size 64, align 8, {
    sandbox_id @ 0, flags @ 4, holder @ 8, sequence @ 24, peer @ 32, peer_port @ 52, slot @ 54,
    policy_id @ 56, chain @ 60
});

/// [`UdpPeerValue::why`]: a hook allowed a datagram to it.
pub const PEER_WENT_OUT: u32 = 1;
/// [`UdpPeerValue::why`]: it sent one that an ingress rule allows.
pub const PEER_CAME_IN: u32 = 2;
/// [`UdpPeerValue::why`]: it was a socket of the same sandbox. What goes out to it is looked at each
/// time: its place may be another's by now.
pub const PEER_OWN: u32 = 3;

/// Key of map `UDP_PEER`: a datagram socket and one of those that it talks with.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpPeerKey {
    /// `bpf_get_socket_cookie`: never used again.
    pub cookie: u64,
    /// The other side.
    pub peer: Addr,
    /// Its port.
    pub peer_port: u16,
    /// Zero.
    pub reserved: u16,
}
impl UdpPeerKey {
    /// No socket.
    pub const ZERO: Self = Self {
        cookie: 0,
        peer: Addr::ZERO,
        peer_port: 0,
        reserved: 0,
    };
}
assert_layout!(UdpPeerKey, size 32, align 8, { cookie @ 0, peer @ 8, peer_port @ 28, reserved @ 30 });

/// Value of map `UDP_PEER`. The oldest entries give way: an answer that comes later than 65,536
/// other conversations is dropped, unless its sender was the last that the socket sent to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPeerValue {
    /// Under which policy it was decided.
    pub policy_id: u32,
    /// One of `PEER_*`.
    pub why: u32,
}
impl UdpPeerValue {
    /// Nothing decided.
    pub const ZERO: Self = Self {
        policy_id: 0,
        why: 0,
    };
}
assert_layout!(UdpPeerValue, size 8, align 4, { policy_id @ 0, why @ 4 });

/// Value of map `COUNTERS`, keyed by sandbox id (u32): exact totals, whatever became of the events.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Attempts that were allowed.
    pub allowed: u64,
    /// Attempts that were denied.
    pub denied: u64,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
    /// Processes that found the `PROCESS` map full, and so have no grants.
    pub processes_unrecorded: u64,
}
impl Counters {
    /// Nothing counted.
    pub const ZERO: Self = Self {
        allowed: 0,
        denied: 0,
        events_lost: 0,
        processes_unrecorded: 0,
    };
}
assert_layout!(Counters, size 32, align 8, {
    allowed @ 0, denied @ 8, events_lost @ 16, processes_unrecorded @ 24
});

/// Value of map `META` (one entry): whether these pins are ours to reuse. Written last, so pins
/// without it are the rest of a start that did not finish.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// [`crate::ABI_VERSION`] of the daemon that made the pins; first in every version.
    pub abi_version: u32,
    /// Depth of a sandbox's cgroup below the root of the hierarchy, from 1.
    pub sandbox_cgroup_level: u32,
    /// Id of the cgroup that the programs are attached to.
    pub parent_cgroup_id: u64,
    /// SHA-256 of the eBPF object that was loaded; zeros while its programs are being replaced.
    pub object_sha256: [u8; 32],
}
impl Meta {
    /// Pins not finished.
    pub const ZERO: Self = Self {
        abi_version: 0,
        sandbox_cgroup_level: 0,
        parent_cgroup_id: 0,
        object_sha256: [0; 32],
    };
}
assert_layout!(Meta, size 48, align 8, {
    abi_version @ 0, sandbox_cgroup_level @ 4, parent_cgroup_id @ 8, object_sha256 @ 16
});

/// Longest name of a program, in bytes; a shorter one is filled up with zeros.
pub const PROGRAM_NAME_BYTES: usize = 16;

/// Value of map `HOOK`, keyed by the name of an attached program (`[u8; PROGRAM_NAME_BYTES]`): what a
/// daemon put there, so that the next one can tell whether it still is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookValue {
    /// The kernel's tag of the instructions (`bpf_prog_info.tag`), in the kernel's byte order.
    pub tag: u64,
    /// The kernel's number of the loaded program; another one after each load.
    pub program_id: u32,
    /// Zero.
    pub reserved: u32,
}
impl HookValue {
    /// No program.
    pub const ZERO: Self = Self {
        tag: 0,
        program_id: 0,
        reserved: 0,
    };
}
assert_layout!(HookValue, size 16, align 8, { tag @ 0, program_id @ 8, reserved @ 12 });

/// Offsets of kernel structure members, in bytes, read from the running kernel's BTF at load.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offsets {
    /// `task_struct.group_leader`.
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`.
    pub task_start_boottime: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `task_struct.files`.
    pub task_files: u32,
    /// `signal_struct.live`.
    pub signal_live: u32,
    /// `files_struct.fdt`.
    pub files_fdt: u32,
    /// `fdtable.max_fds`.
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`.
    pub fdtable_fd: u32,
    /// `linux_binprm.file`.
    pub binprm_file: u32,
    /// `file.f_inode`.
    pub file_f_inode: u32,
    /// `inode.i_ino`.
    pub inode_i_ino: u32,
    /// `inode.i_size`.
    pub inode_i_size: u32,
    /// `inode.i_generation`.
    pub inode_i_generation: u32,
    /// `inode.i_sb`.
    pub inode_i_sb: u32,
    /// Seconds of the change time: `i_ctime_sec` (6.11+), or in `__i_ctime` (6.6+) or `i_ctime`.
    pub inode_ctime_sec: u32,
    /// Nanoseconds of the change time, likewise.
    pub inode_ctime_nsec: u32,
    /// `super_block.s_dev`.
    pub super_block_s_dev: u32,
    /// `super_block.s_magic`.
    pub super_block_s_magic: u32,
    /// `super_block.s_user_ns`.
    pub super_block_s_user_ns: u32,
    /// `user_namespace.level`.
    pub user_namespace_level: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `mm_struct.exe_file`.
    pub mm_exe_file: u32,
    /// `linux_binprm.interp`.
    pub binprm_interp: u32,
    /// `file.f_path.mnt`.
    pub file_f_path_mnt: u32,
    /// `mount.mnt_ns`, from the `mount.mnt` that a file points to.
    pub vfsmount_mnt_ns: u32,
    /// `mnt_namespace.ns.inum`.
    pub mnt_namespace_inum: u32,
    /// `task_struct.thread_pid`.
    pub task_thread_pid: u32,
    /// `pid.level`.
    pub pid_level: u32,
    /// `pid.numbers`.
    pub pid_numbers: u32,
    /// `task_struct.self_exec_id`.
    pub task_self_exec_id: u32,
}
impl Offsets {
    /// Not read yet.
    pub const ZERO: Self = Self {
        task_group_leader: 0,
        task_start_boottime: 0,
        task_pid: 0,
        task_tgid: 0,
        task_signal: 0,
        task_files: 0,
        signal_live: 0,
        files_fdt: 0,
        fdtable_max_fds: 0,
        fdtable_fd: 0,
        binprm_file: 0,
        file_f_inode: 0,
        inode_i_ino: 0,
        inode_i_size: 0,
        inode_i_generation: 0,
        inode_i_sb: 0,
        inode_ctime_sec: 0,
        inode_ctime_nsec: 0,
        super_block_s_dev: 0,
        super_block_s_magic: 0,
        super_block_s_user_ns: 0,
        user_namespace_level: 0,
        task_mm: 0,
        mm_exe_file: 0,
        binprm_interp: 0,
        file_f_path_mnt: 0,
        vfsmount_mnt_ns: 0,
        mnt_namespace_inum: 0,
        task_thread_pid: 0,
        pid_level: 0,
        pid_numbers: 0,
        task_self_exec_id: 0,
    };
}
assert_layout!(Offsets, size 128, align 4, {
    task_group_leader @ 0, task_start_boottime @ 4, task_pid @ 8, task_tgid @ 12, task_signal @ 16,
    task_files @ 20, signal_live @ 24, files_fdt @ 28, fdtable_max_fds @ 32, fdtable_fd @ 36,
    binprm_file @ 40, file_f_inode @ 44, inode_i_ino @ 48, inode_i_size @ 52,
    inode_i_generation @ 56, inode_i_sb @ 60, inode_ctime_sec @ 64, inode_ctime_nsec @ 68,
    super_block_s_dev @ 72, super_block_s_magic @ 76, super_block_s_user_ns @ 80,
    user_namespace_level @ 84, task_mm @ 88, mm_exe_file @ 92, binprm_interp @ 96,
    file_f_path_mnt @ 100, vfsmount_mnt_ns @ 104, mnt_namespace_inum @ 108,
    task_thread_pid @ 112, pid_level @ 116, pid_numbers @ 120,
    task_self_exec_id @ 124
});
