//! A probe's attempts on files, written as `operation:path` or `operation:path:other`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
};

/// Does each attempt and prints its errno, or `ok`.
pub(crate) fn attempts(arguments: impl Iterator<Item = String>) {
    for attempt in arguments {
        let mut parts = attempt.split(':');
        let mut next = || parts.next().unwrap_or_default();
        let (operation, path, other) = (next(), next(), next());
        let told = match attempted(operation, path, other) {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(-1)),
        };
        println!("{attempt} {told}");
    }
}

fn attempted(operation: &str, path: &str, other: &str) -> io::Result<()> {
    match operation {
        "read" => fs::read(path).map(drop),
        "list" => fs::read_dir(path).map(drop),
        "readlink" => fs::read_link(path).map(drop),
        "stat" => fs::symlink_metadata(path).map(drop),
        "write" => OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"written inside")),
        "append" => OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"written inside")),
        "create" => fs::write(path, "made inside"),
        "mkdir" => fs::create_dir(path),
        "unlink" => fs::remove_file(path),
        "rmdir" => fs::remove_dir(path),
        "rename" => fs::rename(path, other),
        "link" => fs::hard_link(path, other),
        "symlink" => std::os::unix::fs::symlink(other, path),
        "chmod" => fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)),
        _ => panic!("no operation {operation}"),
    }
}
