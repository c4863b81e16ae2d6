//! Keys and values of the maps that hold who is who: sandboxes, processes, sockets, files.

use crate::abi::assert_layout;

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
    /// Zero.
    pub reserved: u32,
}
impl SandboxValue {
    /// No sandbox.
    pub const ZERO: Self = Self {
        sandbox_id: 0,
        policy_id: 0,
        flags: 0,
        reserved: 0,
    };
}
assert_layout!(SandboxValue, size 16, align 4, { sandbox_id @ 0, policy_id @ 4, flags @ 8, reserved @ 12 });

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
    /// `i_sb->s_magic`, low 32 bits.
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

/// Longest path kept with an identity, in bytes; a longer one is cut.
pub const IDENTITY_PATH_BYTES: usize = 216;

/// Value of map `IDENTITY`, keyed by [`FileKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityValue {
    /// From 1; 0 is no identity.
    pub file_id: u32,
    /// Bytes of `path` in use.
    pub path_len_bytes: u32,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// The path under which a sandbox first executed it, in that sandbox's view; not terminated.
    pub path: [u8; IDENTITY_PATH_BYTES],
}
impl IdentityValue {
    /// No identity.
    pub const ZERO: Self = Self {
        file_id: 0,
        path_len_bytes: 0,
        sha256: [0; 32],
        path: [0; IDENTITY_PATH_BYTES],
    };
}
assert_layout!(IdentityValue, size 256, align 4, { file_id @ 0, path_len_bytes @ 4, sha256 @ 8, path @ 40 });

/// Value of map `PROCESS`, keyed by [`ProcessKey`]: what a process executes, as seen at its exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessValue {
    /// [`IdentityValue::file_id`], or 0: no grants.
    pub file_id: u32,
    /// The sandbox it was in at exec or fork.
    pub sandbox_id: u32,
    /// The executed file.
    pub file: FileKey,
}
impl ProcessValue {
    /// A process that executes nothing known.
    pub const ZERO: Self = Self {
        file_id: 0,
        sandbox_id: 0,
        file: FileKey::ZERO,
    };
}
assert_layout!(ProcessValue, size 48, align 8, { file_id @ 0, sandbox_id @ 4, file @ 8 });

/// A socket's record, in socket storage `SOCKET`; accepted sockets inherit it.
///
/// 64 bytes with room to spare: a new layout would need a new map, and a new map would lose the
/// records of all live sockets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRecord {
    /// The sandbox that made the socket.
    pub sandbox_id: u32,
    /// Zero.
    pub reserved0: u32,
    /// The process that made it.
    pub creator: ProcessKey,
    /// Zero.
    pub reserved1: [u64; 5],
}
impl SocketRecord {
    /// No record.
    pub const ZERO: Self = Self {
        sandbox_id: 0,
        reserved0: 0,
        creator: ProcessKey::ZERO,
        reserved1: [0; 5],
    };
}
assert_layout!(SocketRecord, size 64, align 8, { sandbox_id @ 0, reserved0 @ 4, creator @ 8, reserved1 @ 24 });

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
    /// SHA-256 of the eBPF object that was loaded.
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
    };
}
assert_layout!(Offsets, size 80, align 4, {
    task_group_leader @ 0, task_start_boottime @ 4, task_pid @ 8, task_tgid @ 12, task_signal @ 16,
    task_files @ 20, signal_live @ 24, files_fdt @ 28, fdtable_max_fds @ 32, fdtable_fd @ 36,
    binprm_file @ 40, file_f_inode @ 44, inode_i_ino @ 48, inode_i_size @ 52,
    inode_i_generation @ 56, inode_i_sb @ 60, inode_ctime_sec @ 64, inode_ctime_nsec @ 68,
    super_block_s_dev @ 72, super_block_s_magic @ 76
});
