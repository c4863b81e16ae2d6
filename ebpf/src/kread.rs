//! Reads members of kernel structures at offsets that the loader took from the kernel's BTF.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use clawd_common::record::{FileKey, Offsets};

/// Set by the loader before the programs are loaded.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;

/// Bits of the change time's nanoseconds that are time: 6.13 put a flag into bit 31
/// (`I_CTIME_QUERIED`, include/linux/fs.h).
const CTIME_NSEC_MASK: u32 = 0x3fff_ffff;

/// One offset of [`OFFSETS`]. Volatile, so that LLVM does not fold in the zeros that the loader
/// replaces; one at a time, because a copy of all of them costs more than what they are used for.
macro_rules! offset {
    ($field:ident) => {{
        // SAFETY: initialised, aligned, and never written by the program.
        unsafe { core::ptr::read_volatile(&raw const $crate::kread::OFFSETS.$field) }
    }};
}
pub(crate) use offset;

/// Reads the member at `offset_bytes` of the kernel structure at `base`.
///
/// # Errors
/// The helper's errno where the address cannot be read.
#[inline(always)]
pub fn member<T: Copy>(base: u64, offset_bytes: u32) -> Result<T, i32> {
    let at = (base + u64::from(offset_bytes)) as *const T;
    // SAFETY: the helper takes any address: it checks it and fails, it never faults.
    unsafe { bpf_probe_read_kernel(at) }
}

/// The key of the file at `file`, a `struct file *`.
///
/// # Errors
/// The helper's errno where a structure cannot be read.
#[inline(always)]
pub fn file_key(file: u64) -> Result<FileKey, i32> {
    let inode: u64 = member(file, offset!(file_f_inode))?;
    let sb: u64 = member(inode, offset!(inode_i_sb))?;
    let ctime_nsec: u32 = member(inode, offset!(inode_ctime_nsec))?;
    Ok(FileKey {
        ino: member(inode, offset!(inode_i_ino))?,
        size_bytes: member(inode, offset!(inode_i_size))?,
        ctime_sec: member(inode, offset!(inode_ctime_sec))?,
        ctime_nsec: ctime_nsec & CTIME_NSEC_MASK,
        dev: member(sb, offset!(super_block_s_dev))?,
        generation: member(inode, offset!(inode_i_generation))?,
        fs_magic: magic(sb)?,
    })
}

/// The file system's magic number; 0 where another than the initial user namespace owns it.
#[inline(always)]
fn magic(sb: u64) -> Result<u32, i32> {
    let owner: u64 = member(sb, offset!(super_block_s_user_ns))?;
    let level: u32 = member(owner, offset!(user_namespace_level))?;
    if level != 0 {
        return Ok(0);
    }
    let magic: u64 = member(sb, offset!(super_block_s_magic))?;
    Ok(magic as u32)
}

/// Whether the file at `file` is the inode of `key`, whatever became of its size and times.
///
/// # Errors
/// As [`file_key`].
#[inline(always)]
pub fn is_inode(file: u64, key: &FileKey) -> Result<bool, i32> {
    let inode: u64 = member(file, offset!(file_f_inode))?;
    let sb: u64 = member(inode, offset!(inode_i_sb))?;
    let ino: u64 = member(inode, offset!(inode_i_ino))?;
    let generation: u32 = member(inode, offset!(inode_i_generation))?;
    let dev: u32 = member(sb, offset!(super_block_s_dev))?;
    Ok(ino == key.ino && generation == key.generation && dev == key.dev)
}
