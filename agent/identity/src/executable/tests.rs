//! Files as the kernel would take them, and as it would not.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Kind, is_loader_name, kind};

fn kind_of(bytes: &[u8]) -> Kind {
    let read_at = |buffer: &mut [u8], offset: u64| {
        // The system call refuses such an offset, where the end of the file is meant.
        assert!(i64::try_from(offset).is_ok());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    };
    kind(read_at).expect("reads")
}

fn script(interpreter: &str) -> Kind {
    Kind::Script {
        interpreter: PathBuf::from(interpreter),
    }
}

fn elf(interpreter: Option<&str>) -> Kind {
    Kind::Elf {
        interpreter: interpreter.map(PathBuf::from),
    }
}

const NATIVE: u16 = if cfg!(target_arch = "aarch64") {
    183
} else {
    62
};
const NARROW: u16 = if cfg!(target_arch = "aarch64") { 40 } else { 3 };

/// An ELF file of 64 bits with these program headers: (type, offset, length).
fn wide(headers: &[(u32, u64, u64)]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(3_u16.to_le_bytes());
    file.extend(NATIVE.to_le_bytes());
    file.extend([0; 12]);
    file.extend(64_u64.to_le_bytes());
    file.resize(54, 0);
    file.extend(56_u16.to_le_bytes());
    file.extend(u16::try_from(headers.len()).expect("few").to_le_bytes());
    file.resize(64, 0);
    for (kind, offset, len) in headers {
        file.extend(kind.to_le_bytes());
        file.extend([0; 4]);
        file.extend(offset.to_le_bytes());
        file.extend([0; 16]);
        file.extend(len.to_le_bytes());
        file.extend([0; 16]);
    }
    file
}

fn narrow(headers: &[(u32, u32, u32)]) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2_u16.to_le_bytes());
    file.extend(NARROW.to_le_bytes());
    file.extend([0; 8]);
    file.extend(52_u32.to_le_bytes());
    file.resize(42, 0);
    file.extend(32_u16.to_le_bytes());
    file.extend(u16::try_from(headers.len()).expect("few").to_le_bytes());
    file.resize(52, 0);
    for (kind, offset, len) in headers {
        file.extend(kind.to_le_bytes());
        file.extend(offset.to_le_bytes());
        file.extend([0; 8]);
        file.extend(len.to_le_bytes());
        file.extend([0; 12]);
    }
    file
}

fn wide_with(name: &[u8]) -> Vec<u8> {
    let len = u64::try_from(name.len()).expect("short");
    let mut file = wide(&[(1, 0, 64), (3, 64 + 2 * 56, len)]);
    file.extend(name);
    file
}

#[test]
fn kind_of_a_script_is_its_interpreter() {
    for (text, interpreter) in [
        ("#!/bin/sh\n", "/bin/sh"),
        ("#! \t/bin/sh \t\necho", "/bin/sh"),
        ("#!/usr/bin/env python3\n", "/usr/bin/env"),
        ("#!/bin/sh\t-e\n", "/bin/sh"),
        // No newline: the padding ends the name.
        ("#!/bin/sh", "/bin/sh"),
        ("#!sh\n", "sh"),
        ("#!/bin/a\rb\n", "/bin/a\rb"),
        ("#!/bin/sh\0x\n", "/bin/sh"),
    ] {
        assert_eq!(kind_of(text.as_bytes()), script(interpreter), "{text:?}");
    }
}

#[test]
fn kind_of_a_script_without_a_whole_interpreter_is_other() {
    let blank = format!("#!{}", " ".repeat(300));
    let cut = format!("#!/{}\n", "a".repeat(253));
    let cut_by_newline_too_late = format!("#!/{} x\n", "a".repeat(253));
    for text in [
        "#!",
        "#!\n",
        "#! \t \n",
        "#!\0/bin/sh\n",
        &blank,
        &cut,
        &cut_by_newline_too_late,
    ] {
        assert_eq!(kind_of(text.as_bytes()), Kind::Other, "{text:?}");
    }
    // The blank at the last byte that the kernel reads proves that the name is whole.
    let whole = format!("#!/{} x\n", "a".repeat(252));
    assert_eq!(kind_of(whole.as_bytes()), script(&whole[2..255]));
}

#[test]
fn kind_of_an_elf_file_is_its_first_loader() {
    assert_eq!(kind_of(&wide(&[(1, 0, 64)])), elf(None));
    assert_eq!(
        kind_of(&wide_with(b"/lib/ld.so\0")),
        elf(Some("/lib/ld.so"))
    );
    assert_eq!(kind_of(&wide_with(b"/a\0/b\0")), elf(Some("/a")));
    let mut two = wide(&[(3, 64 + 2 * 56, 3), (3, 64 + 2 * 56 + 3, 3)]);
    two.extend(b"/a\0/b\0");
    assert_eq!(kind_of(&two), elf(Some("/a")));
    let mut small = narrow(&[(6, 0, 0), (3, 52 + 2 * 32, 4)]);
    small.extend(b"/ab\0");
    assert_eq!(kind_of(&small), elf(Some("/ab")));
    assert_eq!(kind_of(&narrow(&[(1, 0, 52)])), elf(None));
}

#[test]
fn kind_of_an_elf_file_ignores_its_class_as_the_kernel_does() {
    let mut file = wide_with(b"/lib/ld.so\0");
    file[4] = 1;
    assert_eq!(kind_of(&file), elf(Some("/lib/ld.so")));
}

#[test]
fn kind_of_an_elf_file_that_the_kernel_refuses_is_other() {
    let good = wide_with(b"/lib/ld.so\0");
    assert_ne!(kind_of(&good), Kind::Other);
    // Type, machine, size of a program header, their number.
    for at in [16, 18, 54, 57] {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        assert_eq!(kind_of(&bad), Kind::Other, "byte {at}");
    }
    let many = wide(&vec![(1, 0, 0); 1_171]);
    assert_eq!(kind_of(&many), Kind::Other);
    assert_eq!(kind_of(&wide(&vec![(1, 0, 0); 1_170])), elf(None));
    assert_eq!(kind_of(&wide(&[])), Kind::Other);
    let end = good.len();
    for len in (0..64).chain([100, 64 + 56, end - 12, end - 1]) {
        assert_eq!(kind_of(&good[..len]), Kind::Other, "{len} bytes");
    }
}

#[test]
fn kind_of_an_elf_file_with_a_wrong_loader_is_other() {
    for name in [&b"\0"[..], b"/lib/ld.so", b"/a\0b", b"\0\0", b"x"] {
        assert_eq!(kind_of(&wide_with(name)), Kind::Other, "{name:?}");
    }
    let longest = [&[b'a'; 4_095][..], b"\0"].concat();
    assert_ne!(kind_of(&wide_with(&longest)), Kind::Other);
    let longer = [&[b'a'; 4_096][..], b"\0"].concat();
    assert_eq!(kind_of(&wide_with(&longer)), Kind::Other);
    for offset in [u64::MAX, u64::MAX - 3, 1 << 63, 1 << 62] {
        assert_eq!(kind_of(&wide(&[(3, offset, 4)])), Kind::Other);
    }
    let mut far = wide(&[(1, 0, 0)]);
    far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(kind_of(&far), Kind::Other);
}

#[test]
fn kind_of_programs_here_is_what_they_are() {
    let this = File::open(std::env::current_exe().expect("known")).expect("opens");
    let found = kind(|buffer, offset| this.read_at(buffer, offset)).expect("reads");
    let Kind::Elf {
        interpreter: Some(loader),
    } = found
    else {
        panic!("{found:?}");
    };
    assert!(loader.exists() && is_loader_name(&loader), "{loader:?}");
    let loader = File::open(loader).expect("opens");
    let found = kind(|buffer, offset| loader.read_at(buffer, offset)).expect("reads");
    assert_eq!(found, elf(None));
}

/// The reference is the kernel: a script's interpreter prints its own name.
#[test]
fn kind_of_a_script_agrees_with_the_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = folder.path().join("echo");
    fs::copy("/bin/echo", &echo).expect("copied");
    let echo = echo.display();
    let filler = "-".repeat(300);
    for (index, text) in [
        format!("#!{echo}\n"),
        format!("#!  {echo}  \n"),
        format!("#!{echo}"),
        format!("#!\t{echo}\t{filler}\n"),
        format!("#!{echo}{filler}\n"),
        format!("#!{echo}\0\n"),
        format!("#!{echo}\0x"),
        "#!\n".to_owned(),
        "#!\0\n".to_owned(),
        format!("#!{}{echo}\n", " ".repeat(300)),
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path().join(format!("script{index}"));
        let mut file = File::create(&path).expect("created");
        file.write_all(text.as_bytes()).expect("written");
        let permissions = fs::Permissions::from_mode(0o755);
        file.set_permissions(permissions).expect("executable");
        drop(file);
        // Another test's child may have the file open for writing for a moment.
        let run = loop {
            match Command::new(&path).output() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                run => break run,
            }
        };
        let expected = match run {
            Ok(_) => script(&echo.to_string()),
            Err(_) => Kind::Other,
        };
        assert_eq!(kind_of(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn kind_asks_again_after_interruptions_and_short_reads() {
    let bytes = wide_with(b"/lib/ld.so\0");
    let calls = Cell::new(0);
    let read_at = |buffer: &mut [u8], offset: u64| {
        calls.set(calls.get() + 1);
        if calls.get() % 2 == 0 {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        let start = usize::try_from(offset).expect("small");
        let byte = bytes.get(start);
        Ok(byte.map_or(0, |byte| {
            buffer[0] = *byte;
            1
        }))
    };
    assert_eq!(kind(read_at).expect("reads"), elf(Some("/lib/ld.so")));
}

#[test]
fn kind_passes_on_what_failed() {
    let failed = kind(|_, _| Err(io::Error::from_raw_os_error(5))).expect_err("fails");
    assert_eq!(failed.raw_os_error(), Some(5));
}

#[test]
fn is_loader_name_knows_glibc_and_musl() {
    for name in [
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/ld-linux-aarch64.so.1",
        "/lib/ld-linux.so.2",
        "/lib/ld-musl-x86_64.so.1",
        "/lib/ld-2.31.so",
        "/usr/bin/ld.so",
        "/lib64/ld64.so.2",
        "ld.so.1",
    ] {
        assert!(is_loader_name(Path::new(name)), "{name}");
    }
    for name in [
        "/usr/bin/ld",
        "/lib/libc.so.6",
        "/ld.so/x",
        "/usr/bin/ld-wrapper",
        "/usr/bin/ld-wrapper.sox",
        "/",
        "/lib/ld.so/..",
        "",
    ] {
        assert!(!is_loader_name(Path::new(name)), "{name}");
    }
}
