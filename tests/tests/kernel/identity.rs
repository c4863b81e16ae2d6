//! Which binary it is that asks.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use clawd_tests::Address;
use serde_json::json;

use crate::support::{
    CURL_ENTRY, Denial, PYTHON_ENTRY, World, direct, direct_with, group, tcp, text,
};

const ENDPOINT: &str = "{ host: 192.0.2.10, ports: [80, 7000] }";
const SMALL: &str = "http://192.0.2.10/small";

/// A script of one `#!` line and `body`, in a folder that policies of the test may execute.
fn script(world: &World, interpreter: &str, body: &str) -> (String, String) {
    let folder = world.daemon.scratch().folder("programs", 0o755).unwrap();
    let path = folder.join("script");
    fs::write(&path, format!("#!{interpreter}\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (
        path.display().to_string(),
        format!("[/usr, {}]", folder.display()),
    )
}

const CONNECT: &str = "import socket
socket.create_connection(('192.0.2.10', 7000), 10).sendall(b'x')
print('connected')";

#[test]
fn script_is_judged_as_its_interpreter() {
    let world = World::start();
    let (path, trees) = script(&world, "/usr/bin/python3 -I", CONNECT);
    let policy = direct_with(&trees, "[]", &group("g", ENDPOINT, PYTHON_ENTRY));
    let output = world.daemon.run(&policy, &[&path]);
    assert_eq!(text(&output.stdout), "connected\n", "{output:?}");

    // To list the script is to list nothing: no process ever executes its bytes.
    let entry = format!("{{ path: {path} }}");
    let policy = direct_with(&trees, "[]", &group("g", ENDPOINT, &entry));
    let want = Denial::tcp("binary_not_listed", Address::A, 7000);
    let output = world.refused("box", &want, || {
        world
            .daemon
            .run_command(&policy, Some("box"), &[&path])
            .output()
            .unwrap()
    });
    assert!(
        text(&output.stderr).contains("PermissionError: [Errno 1]"),
        "{output:?}"
    );
}

#[test]
fn child_of_a_listed_shell_is_judged_by_itself() {
    let world = World::start();
    let policy = direct(&group("g", ENDPOINT, "{ path: /usr/bin/dash }"));
    let want = Denial {
        exe: Path::new("/usr/bin/curl"),
        ..Denial::tcp("binary_not_listed", Address::A, 80)
    };
    let command = format!("curl -sSv {SMALL}; echo $?");
    let output = world.refused("box", &want, || {
        world
            .daemon
            .run_command(&policy, Some("box"), &["dash", "-c", &command])
            .output()
            .unwrap()
    });
    assert_eq!(text(&output.stdout), "7\n", "{output:?}");
}

#[test]
fn child_of_an_unlisted_program_is_judged_by_itself() {
    let world = World::start();
    let policy = direct(&group("g", ENDPOINT, CURL_ENTRY));
    let mut prober = world.prober("box", &policy);
    let answer = prober.ask(&json!({ "do": "run", "argv": ["curl", "-sS", SMALL] }));
    assert_eq!(answer["ok"]["out"], "small file\n", "{answer}");
    let want = Denial::tcp("binary_not_listed", Address::A, 7000);
    world.refuses(&mut prober, "box", &tcp(Address::A, 7000), &want);
}

#[test]
fn copy_made_in_a_writable_folder_cannot_be_executed() {
    let world = World::start();
    let folder = world.daemon.scratch().folder("writable", 0o777).unwrap();
    let writable = format!("[{}]", folder.display());
    let policy = direct_with("[/usr]", &writable, &group("g", ENDPOINT, CURL_ENTRY));
    let mut prober = world.prober("box", &policy);
    for place in [
        folder.to_str().unwrap(),
        "/tmp",
        "/home/sandbox",
        "/dev/shm",
    ] {
        let path = format!("{place}/curl");
        let answer = prober.ask(&json!({ "do": "write", "path": path, "from": "/usr/bin/curl" }));
        assert_eq!(answer["ok"], "written", "{answer}");
        let answer = prober.ask(&json!({ "do": "run", "argv": [path, "-sS", SMALL] }));
        assert_eq!(answer["name"], "EACCES", "{place}: {answer}");
    }
    assert!(world.internet.contacts().is_empty());
}

#[test]
fn fork_and_thread_keep_the_identity() {
    let world = World::start();
    let mut prober = world.prober("box", &direct(&group("g", ENDPOINT, PYTHON_ENTRY)));
    for how in ["fork", "thread"] {
        for _ in 0..5 {
            let answer = prober.ask(&json!({ "do": how, "ask": tcp(Address::A, 7000) }));
            assert_eq!(answer["ok"]["ok"], "ping", "{how}: {answer}");
            let answer = prober.ask(&json!({ "do": how, "ask": tcp(Address::B, 7000) }));
            assert_eq!(answer["ok"]["errno"], 1, "{how}: {answer}");
        }
    }
    assert!(world.internet.contacts_at(Address::B, 7000).is_empty());
    assert_eq!(world.denials("box", 0).len(), 10);
}

#[test]
fn first_connect_after_an_exec_is_never_refused_for_want_of_a_hash() {
    const COPIES: usize = 200;
    let world = World::start();
    let folder = world.daemon.scratch().folder("programs", 0o755).unwrap();
    let curl = fs::read("/usr/bin/curl").unwrap();
    let mut entries = Vec::new();
    for number in 0..COPIES {
        // Each has a hash of its own, so each is hashed while its exec waits.
        let path = folder.join(format!("curl{number}"));
        let mut bytes = curl.clone();
        bytes.extend(number.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        entries.push(format!("{{ path: {} }}", path.display()));
    }
    let trees = format!("[/usr, {}]", folder.display());
    let policy = direct_with(&trees, "[]", &group("g", ENDPOINT, &entries.join(", ")));
    let command = format!(
        "for program in {}/*; do $program -sS {SMALL} || echo failed; done",
        folder.display()
    );
    let output = world
        .daemon
        .run_command(&policy, Some("box"), &["sh", "-c", &command])
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert_eq!(
        said.matches("small file\n").count(),
        COPIES,
        "{said}{}",
        text(&output.stderr)
    );
    assert_eq!(world.denials("box", 0), Vec::<serde_json::Value>::new());
    assert_eq!(world.internet.contacts_at(Address::A, 80).len(), COPIES);
}
