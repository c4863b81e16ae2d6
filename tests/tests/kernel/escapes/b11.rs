//! B11, B5: a library that the sandbox wrote, loaded into a program that is listed.

use std::{fs, path::Path};

use clawd_tests::{Address, Scratch};

use super::{Allowed, SMALL, SMALL_CONTENT};
use crate::support::{CURL_ENTRY, World, code, text};

/// A library of the system's; the sandbox copies it to where it may write.
fn library() -> std::path::PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("libraries").flatten();
    let mut found = folders.map(|folder| folder.path().join("libm.so.6"));
    found.find(|path| path.exists()).expect("a library")
}

fn policy(scratch: &Scratch, work: &str) -> (String, std::path::PathBuf) {
    let folder = scratch.folder(work, 0o777).expect("a folder");
    let trees: [&Path; 1] = [&folder];
    let allowed = Allowed {
        read_write: &trees,
        binaries: &[CURL_ENTRY],
        ..Allowed::default()
    };
    (allowed.policy(), folder)
}

#[test]
fn b11_library_that_was_written_is_not_loaded_into_a_listed_program() {
    let world = World::start();
    let (policy, folder) = policy(world.daemon.scratch(), "work");
    let script = format!(
        "cp {} {folder}/l.so && chmod +x {folder}/l.so && for variable in LD_PRELOAD LD_AUDIT; do \
         env $variable={folder}/l.so curl -sS {SMALL}; done",
        library().display(),
        folder = folder.display(),
    );
    let before = world.internet.contacts().len();
    let output = world.daemon.run(&policy, &["sh", "-c", &script]);
    let said = text(&output.stderr);
    // The dynamic loader says so and goes on: what curl does is curl's own.
    assert_eq!(
        said.matches("failed to map segment").count(),
        2,
        "{output:?}"
    );
    assert_eq!(text(&output.stdout), SMALL_CONTENT.repeat(2), "{output:?}");
    assert_eq!(code(&output), 0);
    let contacts = world.internet.contacts();
    assert_eq!(contacts.len(), before + 2);
    assert!(
        contacts
            .iter()
            .all(|contact| contact.local.ip().to_string() == Address::A)
    );
    // In its own place, which is read-only, the same library is loaded without a word.
    let script = format!("env LD_PRELOAD={} curl -sS {SMALL}", library().display());
    let output = world.daemon.run(&policy, &["sh", "-c", &script]);
    assert_eq!(
        (text(&output.stdout).as_str(), text(&output.stderr).as_str()),
        (SMALL_CONTENT, "")
    );
}
