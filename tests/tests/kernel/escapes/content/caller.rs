//! A program of a few instructions whose content tells where it connects to.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clawd_tests::{Address, TCP_ECHO, sha256};

/// Where the listed program connects to.
pub(super) const LISTED_PORT: u16 = TCP_ECHO;
/// Where the other one does. It has another content because of this, and only because of this: a
/// connection to this port is one of a content that no policy lists, whatever the log says.
pub(super) const OTHER_PORT: u16 = TCP_ECHO + 1;

/// Where the programs are loaded.
const ADDRESS: u64 = 0x40_0000;
/// Size of the ELF header and of the one program header, in bytes.
const HEADERS_BYTES: usize = 64 + 56;

/// `exit(-connect(socket(AF_INET, SOCK_STREAM, 0), what follows, 16))`
const CODE_X86_64: &[u8] = &[
    0x6a, 0x29, // push 41
    0x58, // pop rax
    0x6a, 0x02, // push 2
    0x5f, // pop rdi
    0x6a, 0x01, // push 1
    0x5e, // pop rsi
    0x31, 0xd2, // xor edx, edx
    0x0f, 0x05, // syscall
    0x89, 0xc7, // mov edi, eax
    0x48, 0x8d, 0x35, 0x11, 0x00, 0x00, 0x00, // lea rsi, [rip + 17]
    0x6a, 0x10, // push 16
    0x5a, // pop rdx
    0x6a, 0x2a, // push 42
    0x58, // pop rax
    0x0f, 0x05, // syscall
    0xf7, 0xd8, // neg eax
    0x89, 0xc7, // mov edi, eax
    0x6a, 0x3c, // push 60
    0x58, // pop rax
    0x0f, 0x05, // syscall
];

/// The same.
const CODE_AARCH64: &[u8] = &[
    0x40, 0x00, 0x80, 0xd2, // mov x0, 2
    0x21, 0x00, 0x80, 0xd2, // mov x1, 1
    0x02, 0x00, 0x80, 0xd2, // mov x2, 0
    0xc8, 0x18, 0x80, 0xd2, // mov x8, 198
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0xe1, 0x00, 0x00, 0x10, // adr x1, . + 28
    0x02, 0x02, 0x80, 0xd2, // mov x2, 16
    0x68, 0x19, 0x80, 0xd2, // mov x8, 203
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0xe0, 0x03, 0x00, 0xcb, // neg x0, x0
    0xa8, 0x0b, 0x80, 0xd2, // mov x8, 93
    0x01, 0x00, 0x00, 0xd4, // svc 0
];

/// e_machine and the code.
const fn machine() -> (u16, &'static [u8]) {
    if cfg!(target_arch = "aarch64") {
        (183, CODE_AARCH64)
    } else {
        (62, CODE_X86_64)
    }
}

/// Where in the program is the byte that [`LISTED_PORT`] and [`OTHER_PORT`] differ in: the lower
/// one of the port, in network byte order behind the address family.
pub(super) const fn port_at() -> usize {
    HEADERS_BYTES + machine().1.len() + 3
}

/// A program that connects to `port` of [`Address::A`] and exits with the errno, 0 for none. Zeros
/// that are not loaded make up its size.
pub(super) fn image(port: u16, size_bytes: usize) -> Vec<u8> {
    let (machine, code) = machine();
    let address: Ipv4Addr = Address::A.parse().unwrap();
    let mut body = code.to_vec();
    body.extend(2_u16.to_ne_bytes());
    body.extend(port.to_be_bytes());
    body.extend(address.octets());
    body.extend([0; 8]);

    let headers_bytes = u64::try_from(HEADERS_BYTES).unwrap();
    let loaded_bytes = headers_bytes + u64::try_from(body.len()).unwrap();
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    let halves = |values: &[u16]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let words = |values: &[u32]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let doubles = |values: &[u64]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    // e_type ET_EXEC, e_machine; e_version; e_entry, e_phoff, e_shoff; e_flags; e_ehsize,
    // e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    image.extend(halves(&[2, machine]));
    image.extend(words(&[1]));
    image.extend(doubles(&[ADDRESS + headers_bytes, 64, 0]));
    image.extend(words(&[0]));
    image.extend(halves(&[64, 56, 1, 0, 0, 0]));
    // p_type PT_LOAD, p_flags read and execute; p_offset, p_vaddr, p_paddr, p_filesz, p_memsz,
    // p_align.
    image.extend(words(&[1, 5]));
    image.extend(doubles(&[
        0,
        ADDRESS,
        ADDRESS,
        loaded_bytes,
        loaded_bytes,
        0x1_0000,
    ]));
    image.extend(body);
    image.resize(size_bytes, 0);
    image
}

/// The SHA-256 of the program that connects to `port`.
pub(super) fn digest(port: u16, size_bytes: usize) -> String {
    sha256(&image(port, size_bytes))
}

/// Writes the program that connects to `port`, executable for everybody; whose it is and what was
/// there before is as `fs::write` leaves it.
pub(super) fn write(folder: &Path, name: &str, port: u16, size_bytes: usize) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, image(port, size_bytes)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
