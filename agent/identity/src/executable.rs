//! What kind of file an exec is about, told from its bytes as the kernel tells it.
//!
//! The bytes are an attacker's: every length is checked, and at most 64 KiB are kept. Where the
//! kernel would refuse the file the answer is [`Kind::Other`]. Formats that an administrator
//! registered (`binfmt_misc`) are not known here.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// What the kernel takes a file for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text that names its interpreter after `#!`.
    Script {
        /// As written; the kernel walks it from the working directory of the task.
        interpreter: PathBuf,
    },
    /// A program of this machine.
    Elf {
        /// The dynamic loader that it asks for (`PT_INTERP`), as written.
        interpreter: Option<PathBuf>,
    },
    /// Anything else, malformed ELF files and scripts among them.
    Other,
}

/// What the kernel reads of a file to choose its format (`BINPRM_BUF_SIZE`,
/// `include/uapi/linux/binfmts.h`, since v5.1).
const HEAD_BYTES: usize = 256;

/// Largest table of program headers that the kernel reads (`fs/binfmt_elf.c`, `load_elf_phdrs`,
/// v6.12).
const PROGRAM_HEADERS_BYTES_MAX: usize = 65_536;

/// Shortest and longest `PT_INTERP`, with its NUL: `PATH_MAX` (`fs/binfmt_elf.c`,
/// `load_elf_binary`, v6.12).
const INTERPRETER_BYTES: std::ops::RangeInclusive<u64> = 2..=4_096;

const ET_EXEC: u64 = 2;
const ET_DYN: u64 = 3;
const PT_INTERP: u64 = 3;

/// Tells what kind of file `read_at` reads, a function like `FileExt::read_at`.
///
/// # Errors
/// Those of `read_at`; it is asked again after an interruption.
pub fn kind(read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> io::Result<Kind> {
    let mut head = [0; HEAD_BYTES];
    let len = fill(&read_at, &mut head, 0)?;
    if head.starts_with(b"#!") {
        return Ok(match script_interpreter(&head) {
            Some(name) => Kind::Script {
                interpreter: path(name),
            },
            None => Kind::Other,
        });
    }
    let read = head.get(..len).unwrap_or_default();
    for layout in LAYOUTS {
        if let Some(interpreter) = elf_interpreter(&read_at, read, layout)? {
            return Ok(Kind::Elf { interpreter });
        }
    }
    Ok(Kind::Other)
}

/// Whether a file of this name is a dynamic loader, of glibc or musl: one that executes what its
/// arguments name, so that its own content tells nothing of what runs.
///
/// A loader under another name is not known by this.
#[must_use]
pub fn is_loader_name(path: &Path) -> bool {
    let Some(name) = path.file_name().map(std::ffi::OsStr::as_bytes) else {
        return false;
    };
    let library = |rest: &[u8]| rest.windows(3).any(|part| part == b".so");
    name.starts_with(b"ld.so")
        || name.starts_with(b"ld64.so")
        || name.strip_prefix(b"ld-linux").is_some_and(library)
        || name.strip_prefix(b"ld-musl-").is_some_and(library)
        || (name.starts_with(b"ld-") && name.ends_with(b".so"))
}

// === scripts ===

/// The interpreter on a `#!` line, as `load_script` finds it (`fs/binfmt_script.c`, v6.12): `head`
/// is padded with NULs, and a name that may be cut off is none.
fn script_interpreter(head: &[u8; HEAD_BYTES]) -> Option<&[u8]> {
    let line = head.get(2..)?;
    let newline = line.iter().position(|byte| *byte == b'\n');
    let line = line.get(..newline.unwrap_or(line.len()))?;
    let start = line.iter().position(|byte| !is_blank(*byte))?;
    let rest = line.get(start..)?;
    let name_end = rest.iter().position(|byte| is_blank(*byte) || *byte == 0);
    let name = match name_end {
        Some(end) => rest.get(..end)?,
        None if newline.is_some() => rest,
        None => return None,
    };
    (!name.is_empty()).then_some(name)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

// === ELF ===

/// Where the two sizes of ELF keep what is needed, little-endian, offsets and lengths in bytes.
struct Layout {
    /// `e_machine` of what the kernel loads in this layout. It looks at this, and neither at
    /// `EI_CLASS` nor at `EI_DATA` (`elf_check_arch`).
    machines: &'static [u64],
    /// `e_phoff`.
    table_offset: Field,
    /// `e_phentsize`.
    entry_len: Field,
    /// `e_phnum`.
    entries: Field,
    /// Size of the ELF header.
    header_len: usize,
    /// Size of one program header: the only `e_phentsize` that the kernel takes.
    program_header_len: usize,
    /// `p_offset` in a program header.
    interpreter_offset: Field,
    /// `p_filesz` in a program header.
    interpreter_len: Field,
}

/// An integer's first byte and its length, 8 at most.
type Field = (usize, usize);

const TYPE: Field = (16, 2);
const MACHINE: Field = (18, 2);
const PROGRAM_HEADER_TYPE: Field = (0, 4);

/// In the order in which the kernel tries them: its own format, then that of `compat_binfmt_elf.c`,
/// in which x86_64 also loads its own machine number (x32).
const LAYOUTS: &[Layout] = &[
    Layout {
        machines: if cfg!(target_arch = "x86_64") {
            &[62]
        } else if cfg!(target_arch = "aarch64") {
            &[183]
        } else {
            &[]
        },
        table_offset: (32, 8),
        entry_len: (54, 2),
        entries: (56, 2),
        header_len: 64,
        program_header_len: 56,
        interpreter_offset: (8, 8),
        interpreter_len: (32, 8),
    },
    Layout {
        machines: if cfg!(target_arch = "x86_64") {
            &[3, 6, 62]
        } else if cfg!(target_arch = "aarch64") {
            &[40]
        } else {
            &[]
        },
        table_offset: (28, 4),
        entry_len: (42, 2),
        entries: (44, 2),
        header_len: 52,
        program_header_len: 32,
        interpreter_offset: (4, 4),
        interpreter_len: (16, 4),
    },
];

/// The first `PT_INTERP` of an ELF file that begins with `head`: the outer `None` where the kernel
/// would not load it in this layout, the inner one where it has no interpreter.
fn elf_interpreter(
    read_at: &impl Fn(&mut [u8], u64) -> io::Result<usize>,
    head: &[u8],
    layout: &Layout,
) -> io::Result<Option<Option<PathBuf>>> {
    let Some(table) = program_headers_place(head, layout) else {
        return Ok(None);
    };
    let mut bytes = vec![0; table.len];
    if fill(read_at, &mut bytes, table.offset)? < bytes.len() {
        return Ok(None);
    }
    let mut headers = bytes.chunks_exact(layout.program_header_len);
    let found = headers.find(|header| integer(header, PROGRAM_HEADER_TYPE) == Some(PT_INTERP));
    let Some(header) = found else {
        return Ok(Some(None));
    };
    let place = integer(header, layout.interpreter_offset)
        .zip(integer(header, layout.interpreter_len).filter(|len| INTERPRETER_BYTES.contains(len)));
    let Some((offset, len)) = place else {
        return Ok(None);
    };
    let mut name = vec![0; usize::try_from(len).unwrap_or_default()];
    let is_whole = fill(read_at, &mut name, offset)? == name.len();
    if !is_whole || name.last() != Some(&0) {
        return Ok(None);
    }
    // The kernel opens what a C string ends with its first NUL.
    let end = name.iter().position(|byte| *byte == 0).unwrap_or_default();
    let name = name.get(..end).unwrap_or_default();
    // An empty name is one that it cannot open.
    Ok((!name.is_empty()).then(|| Some(path(name))))
}

/// Where the program headers are, in bytes of the file.
struct Table {
    offset: u64,
    len: usize,
}

fn program_headers_place(head: &[u8], layout: &Layout) -> Option<Table> {
    let header = head.get(..layout.header_len)?;
    let is_program = header.starts_with(b"\x7fELF")
        && matches!(integer(header, TYPE)?, ET_EXEC | ET_DYN)
        && layout.machines.contains(&integer(header, MACHINE)?)
        && integer(header, layout.entry_len)? == u64::try_from(layout.program_header_len).ok()?;
    let entries = usize::try_from(integer(header, layout.entries)?).ok()?;
    let len = entries.checked_mul(layout.program_header_len)?;
    (is_program && (1..=PROGRAM_HEADERS_BYTES_MAX).contains(&len)).then_some(Table {
        offset: integer(header, layout.table_offset)?,
        len,
    })
}

fn integer(bytes: &[u8], (at, len): Field) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    let value = bytes.iter().rev();
    Some(value.fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

// === reading ===

/// Reads until `buffer` is full or the file ends; how many bytes that were.
fn fill(
    read_at: &impl Fn(&mut [u8], u64) -> io::Result<usize>,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    loop {
        let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) else {
            return Ok(buffer.len());
        };
        let at = u64::try_from(done).ok();
        // No file reaches that far; the system call would refuse the offset instead of reading
        // nothing.
        let Some(at) = at.and_then(|done| offset.checked_add(done)) else {
            return Ok(done);
        };
        if i64::try_from(at).is_err() {
            return Ok(done);
        }
        match read_at(rest, at) {
            Ok(0) => return Ok(done),
            Ok(read) => done = done.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests;
