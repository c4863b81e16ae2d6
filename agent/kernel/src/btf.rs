//! Offsets of kernel structure members, from the running kernel's BTF.
//!
//! Rust has no CO-RE relocations, so the programs take their offsets from a table that is filled at
//! load. The format is that of Documentation/bpf/btf.rst (v6.12). Readers on the registry are under
//! the LGPL or keep members to themselves; this one reads what is needed, in one pass, and keeps
//! nothing of the file.

use std::{collections::HashMap, fs, io, path::Path};

use clawd_common::record::Offsets;

/// Why an offset is not known. Nothing was loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The file could not be read.
    #[error("the file cannot be read; this kernel may be built without CONFIG_DEBUG_INFO_BTF")]
    Read(#[source] io::Error),
    /// Not BTF, or cut off.
    #[error("not valid BTF at byte {at}")]
    Format {
        /// Where reading stopped.
        at: usize,
    },
    /// The kernel has no such structure.
    #[error("the kernel has no `struct {name}`")]
    NoStruct {
        /// Its name.
        name: &'static str,
    },
    /// The structure has no such member.
    #[error("the kernel's `struct {of}` has no member `{member}`")]
    NoMember {
        /// The structure.
        of: &'static str,
        /// The member.
        member: &'static str,
    },
}

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Deepest nesting of anonymous members that is followed; kernel structures have three.
const MAX_NESTING: u32 = 8;

/// One struct or union as it lies in the type section.
#[derive(Clone, Copy)]
struct Composite {
    /// Byte of the first member.
    members_at: usize,
    /// How many members.
    count: usize,
    /// Whether member offsets carry a bit-field size in their upper byte.
    kind_flag: bool,
}

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    by_name: HashMap<&'a str, u32>,
    by_id: HashMap<u32, Composite>,
}

/// Reads every offset that the programs need from the BTF file at `path`.
///
/// # Errors
/// [`BtfError`], naming the structure or member that is missing.
pub fn read_offsets(path: &Path) -> Result<Offsets, BtfError> {
    let bytes = fs::read(path).map_err(BtfError::Read)?;
    offsets(&Btf::parse(&bytes)?)
}

fn offsets(btf: &Btf<'_>) -> Result<Offsets, BtfError> {
    let (inode_ctime_sec, inode_ctime_nsec) = change_time(btf)?;
    Ok(Offsets {
        task_group_leader: btf.member("task_struct", "group_leader")?,
        task_start_boottime: btf.member("task_struct", "start_boottime")?,
        task_pid: btf.member("task_struct", "pid")?,
        task_tgid: btf.member("task_struct", "tgid")?,
        task_signal: btf.member("task_struct", "signal")?,
        task_files: btf.member("task_struct", "files")?,
        signal_live: btf.member("signal_struct", "live")?,
        files_fdt: btf.member("files_struct", "fdt")?,
        fdtable_max_fds: btf.member("fdtable", "max_fds")?,
        fdtable_fd: btf.member("fdtable", "fd")?,
        binprm_file: btf.member("linux_binprm", "file")?,
        file_f_inode: btf.member("file", "f_inode")?,
        inode_i_ino: btf.member("inode", "i_ino")?,
        inode_i_size: btf.member("inode", "i_size")?,
        inode_i_generation: btf.member("inode", "i_generation")?,
        inode_i_sb: btf.member("inode", "i_sb")?,
        inode_ctime_sec,
        inode_ctime_nsec,
        super_block_s_dev: btf.member("super_block", "s_dev")?,
        super_block_s_magic: btf.member("super_block", "s_magic")?,
        super_block_s_user_ns: btf.member("super_block", "s_user_ns")?,
        user_namespace_level: btf.member("user_namespace", "level")?,
        task_mm: btf.member("task_struct", "mm")?,
        mm_exe_file: btf.member("mm_struct", "exe_file")?,
        binprm_interp: btf.member("linux_binprm", "interp")?,
        file_f_path_mnt: btf.member("file", "f_path")? + btf.member("path", "mnt")?,
        vfsmount_mnt_ns: mount_namespace(btf)?,
        mnt_namespace_inum: btf.member("mnt_namespace", "ns")? + btf.member("ns_common", "inum")?,
        task_thread_pid: btf.member("task_struct", "thread_pid")?,
        pid_level: btf.member("pid", "level")?,
        pid_numbers: btf.member("pid", "numbers")?,
        task_self_exec_id: btf.member("task_struct", "self_exec_id")?,
    })
}

/// From the `struct vfsmount` that a file points to, which is a member of its `struct mount`, to that
/// one's namespace.
fn mount_namespace(btf: &Btf<'_>) -> Result<u32, BtfError> {
    let namespace = btf.member("mount", "mnt_ns")?;
    let missing = BtfError::NoMember {
        of: "mount",
        member: "mnt_ns` behind `mnt",
    };
    namespace
        .checked_sub(btf.member("mount", "mnt")?)
        .ok_or(missing)
}

/// The change time: two members from 6.11 on, a `timespec64` named `__i_ctime` from 6.6 on, and
/// `i_ctime` before.
fn change_time(btf: &Btf<'_>) -> Result<(u32, u32), BtfError> {
    if let Ok(seconds) = btf.member("inode", "i_ctime_sec") {
        return Ok((seconds, btf.member("inode", "i_ctime_nsec")?));
    }
    let base = btf
        .member("inode", "__i_ctime")
        .or_else(|_before_6_6| btf.member("inode", "i_ctime"))?;
    let seconds = btf.member("timespec64", "tv_sec")?;
    let nanoseconds = btf.member("timespec64", "tv_nsec")?;
    Ok((base + seconds, base + nanoseconds))
}

impl<'a> Btf<'a> {
    /// Indexes the structs and unions of a BTF file.
    fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let header = |at: usize| word(bytes, at).ok_or(BtfError::Format { at });
        if header(0)? & 0xffff != u32::from(MAGIC) {
            return Err(BtfError::Format { at: 0 });
        }
        let base = header(4)? as usize;
        let section = |offset_at: usize| -> Result<&'a [u8], BtfError> {
            let from = base.saturating_add(header(offset_at)? as usize);
            let len = header(offset_at + 4)? as usize;
            bytes
                .get(from..from.saturating_add(len))
                .ok_or(BtfError::Format { at: from })
        };
        let mut btf = Self {
            types: section(8)?,
            strings: section(16)?,
            by_name: HashMap::new(),
            by_id: HashMap::new(),
        };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        let mut id = 1_u32;
        while at < self.types.len() {
            let field =
                |offset: usize| word(self.types, at + offset).ok_or(BtfError::Format { at });
            let (name_at, info) = (field(0)?, field(4)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let body = body_len_bytes(kind, count).ok_or(BtfError::Format { at })?;
            if kind == KIND_STRUCT || kind == KIND_UNION {
                let composite = Composite {
                    members_at: at + 12,
                    count,
                    kind_flag: info >> 31 == 1,
                };
                self.by_id.insert(id, composite);
                if kind == KIND_STRUCT && name_at != 0 {
                    let name = self.string(name_at).ok_or(BtfError::Format { at })?;
                    // The first of a name is the kernel's own: modules have files of their own.
                    self.by_name.entry(name).or_insert(id);
                }
            }
            at += 12 + body;
            id += 1;
        }
        Ok(())
    }

    fn string(&self, at: u32) -> Option<&'a str> {
        let rest = self.strings.get(at as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }

    /// Offset in bytes of `member` of `struct of`, anonymous members included.
    fn member(&self, of: &'static str, member: &'static str) -> Result<u32, BtfError> {
        let id = self
            .by_name
            .get(of)
            .ok_or(BtfError::NoStruct { name: of })?;
        let bits = self
            .find(*id, member, MAX_NESTING)
            .ok_or(BtfError::NoMember { of, member })?;
        Ok(bits / 8)
    }

    /// Offset in bits of `member` in the struct or union `id`.
    fn find(&self, id: u32, member: &str, nesting: u32) -> Option<u32> {
        let composite = self.by_id.get(&id)?;
        for index in 0..composite.count {
            let at = composite.members_at + 12 * index;
            let (name_at, type_id, offset) = (
                word(self.types, at)?,
                word(self.types, at + 4)?,
                word(self.types, at + 8)?,
            );
            let offset = if composite.kind_flag {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            if name_at != 0 {
                if self.string(name_at)? == member {
                    return Some(offset);
                }
            } else if nesting > 0
                && let Some(inner) = self.find(type_id, member, nesting - 1)
            {
                return Some(offset + inner);
            }
        }
        None
    }
}

/// Bytes behind the 12 of every type, by kind; `None` for a kind of a newer format.
const fn body_len_bytes(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // void, pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        0 | 2 | 7..=12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // struct, union; data section; 64-bit enumeration
        KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count,
        // enumeration; function prototype
        6 | 13 => 8 * count,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{Btf, BtfError, offsets, read_offsets};

    const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

    #[test]
    fn offsets_of_the_running_kernel_are_found_and_distinct() {
        let path = Path::new(VMLINUX);
        assert!(
            path.exists(),
            "this kernel has no BTF, so no test of the kernel side can run"
        );
        let found = read_offsets(path).expect("every member is there");
        assert_ne!(found.task_pid, found.task_tgid);
        assert_ne!(found.inode_ctime_sec, found.inode_ctime_nsec);
        assert_ne!(found.task_group_leader, 0);
        assert_ne!(found.task_start_boottime, 0);
        assert_ne!(found.vfsmount_mnt_ns, 0);
    }

    #[test]
    fn btf_missing_file_says_what_the_kernel_lacks() {
        let error = read_offsets(Path::new("/nonexistent/vmlinux")).expect_err("no file");
        assert!(matches!(error, BtfError::Read(_)));
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"));
    }

    /// A header, the given types and strings.
    fn file(types: &[u8], strings: &[u8]) -> Vec<u8> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small");
        let mut bytes = Vec::new();
        for word in [0x0001_eb9f, 24, 0, len(types), len(types), len(strings)] {
            bytes.extend_from_slice(&u32::to_ne_bytes(word));
        }
        bytes.extend_from_slice(types);
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn btf_without_the_struct_names_it() {
        let bytes = file(&[], b"\0");
        let btf = Btf::parse(&bytes).expect("empty BTF");
        assert!(matches!(
            offsets(&btf),
            Err(BtfError::NoStruct {
                name: "inode" | "task_struct"
            })
        ));
    }

    #[test]
    fn btf_anonymous_member_is_descended_into() {
        // struct inode { int a; union { int deep; }; }: ids 1 and 2, the union at bit 32.
        let words: &[u32] = &[
            1,
            4 << 24 | 2,
            8,
            7,
            9,
            0,
            0,
            2,
            32, // struct `inode`
            0,
            5 << 24 | 1,
            4,
            9,
            9,
            0, // anonymous union with `deep`
        ];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let bytes = file(&types, b"\0inode\0a\0deep\0");
        let btf = Btf::parse(&bytes).expect("valid");
        assert_eq!(btf.member("inode", "deep").expect("found"), 4);
        assert_eq!(btf.member("inode", "a").expect("found"), 0);
        assert!(matches!(
            btf.member("inode", "b"),
            Err(BtfError::NoMember { member: "b", .. })
        ));
    }

    proptest! {
        #[test]
        fn btf_any_bytes_end_without_a_panic(types in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = file(&types, b"\0inode\0");
            if let Ok(btf) = Btf::parse(&bytes) {
                let _error = offsets(&btf).expect_err("no such structures");
            }
        }
    }
}
