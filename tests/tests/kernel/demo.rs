//! What a first demonstration shows.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use clawd_tests::{Address, sha256_of_file};

use crate::support::{
    CURL_ENTRY, Denial, PYTHON_ENTRY, World, code, direct, direct_with, group, tcp, text,
};

const SMALL: &str = "http://192.0.2.10/small";

fn curl_policy() -> String {
    direct(&group(
        "server",
        "{ host: 192.0.2.10, port: 80 }",
        CURL_ENTRY,
    ))
}

#[test]
fn curl_to_the_listed_address_reaches_it() {
    let world = World::start();
    let output = world
        .daemon
        .run_command(&curl_policy(), Some("box"), &["curl", "-sS", SMALL])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "small file\n", "{output:?}");
    assert_eq!(world.internet.contacts_at(Address::A, 80).len(), 1);
    let audit = world.daemon.audit();
    let allowed: Vec<_> = audit
        .iter()
        .filter(|record| record["activity"] == "connect")
        .collect();
    let [allowed] = allowed.as_slice() else {
        panic!("one connect: {audit:?}")
    };
    assert_eq!(allowed["action"], "allowed");
    assert_eq!(allowed["reason"], "rule");
    assert_eq!(allowed["sandbox"], "box");
    assert_eq!(allowed["policy_generation"], 1);
    assert!(
        allowed["rule"]
            .as_str()
            .is_some_and(|rule| rule.contains("server")),
        "{allowed}"
    );
    assert_eq!(allowed["sha256"], sha256_of_file("/usr/bin/curl").unwrap());
}

#[test]
fn python_to_the_same_address_is_refused_at_once() {
    let world = World::start();
    let mut prober = world.prober("box", &curl_policy());
    let want = Denial::tcp("binary_not_listed", Address::A, 80);
    world.refuses(&mut prober, "box", &tcp(Address::A, 80), &want);
}

#[test]
fn curl_to_another_port_or_address_is_refused() {
    let world = World::start();
    let cases = [
        (
            "http://192.0.2.10:8080/small",
            "port_not_listed",
            Address::A,
            8080,
        ),
        (
            "http://192.0.2.11/small",
            "address_not_listed",
            Address::B,
            80,
        ),
        (
            "http://[2001:db8::10]/small",
            "address_not_listed",
            Address::A6,
            80,
        ),
    ];
    for (url, reason, ip, port) in cases {
        let exe = Path::new("/usr/bin/curl");
        let want = Denial {
            exe,
            ..Denial::tcp(reason, ip, port)
        };
        let output = world.refused("box", &want, || {
            world
                .daemon
                .run_command(&curl_policy(), Some("box"), &["curl", "-sSv", url])
                .output()
                .unwrap()
        });
        assert_eq!(code(&output), 7, "{output:?}");
        assert!(
            text(&output.stderr).contains("Operation not permitted"),
            "{output:?}"
        );
    }
}

/// curl by another name, and curl with one byte more, in a folder that sandboxes may execute.
fn copies(world: &World) -> (PathBuf, PathBuf, String) {
    let folder = world.daemon.scratch().folder("programs", 0o755).unwrap();
    let (same, changed) = (folder.join("same"), folder.join("changed"));
    fs::copy("/usr/bin/curl", &same).unwrap();
    fs::copy("/usr/bin/curl", &changed).unwrap();
    // Behind everything that the loader reads: it runs as before.
    OpenOptions::new()
        .append(true)
        .open(&changed)
        .unwrap()
        .write_all(b"x")
        .unwrap();
    let groups = group("server", "{ host: 192.0.2.10, port: 80 }", CURL_ENTRY);
    let policy = direct_with(&format!("[/usr, {}]", folder.display()), "[]", &groups);
    (same, changed, policy)
}

#[test]
fn copy_of_a_listed_binary_counts_as_it_whatever_its_name() {
    let world = World::start();
    let (same, _, policy) = copies(&world);
    let output = world
        .daemon
        .run(&policy, &[same.to_str().unwrap(), "-sS", SMALL]);
    assert_eq!(text(&output.stdout), "small file\n", "{output:?}");
    assert_eq!(world.internet.contacts_at(Address::A, 80).len(), 1);
}

#[test]
fn copy_with_one_byte_more_is_refused() {
    let world = World::start();
    let (_, changed, policy) = copies(&world);
    let program = changed.to_str().unwrap();
    let works = world.daemon.run(&policy, &[program, "--version"]);
    assert!(works.status.success(), "{works:?}");
    let want = Denial {
        exe: &changed,
        ..Denial::tcp("binary_not_listed", Address::A, 80)
    };
    let output = world.refused("box", &want, || {
        world
            .daemon
            .run_command(&policy, Some("box"), &[program, "-sSv", SMALL])
            .output()
            .unwrap()
    });
    assert!(
        text(&output.stderr).contains("Operation not permitted"),
        "{output:?}"
    );
}

#[test]
fn ipv6_is_judged_by_its_own_rules() {
    let world = World::start();
    let policy = direct(&group(
        "six",
        "{ host: \"2001:db8::10\", port: 7000 }",
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("box", &policy);
    world.allows(&mut prober, &tcp(Address::A6, 7000));
    for (address, port, reason) in [
        (Address::B6, 7000, "address_not_listed"),
        (Address::C6, 7000, "address_not_listed"),
        (Address::A6, 7001, "port_not_listed"),
        // A rule for one family never allows the other.
        (Address::A, 7000, "address_not_listed"),
    ] {
        world.refuses(
            &mut prober,
            "box",
            &tcp(address, port),
            &Denial::tcp(reason, address, port),
        );
    }
}
