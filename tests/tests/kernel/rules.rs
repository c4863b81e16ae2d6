//! What a policy's words mean in the kernel.

mod denying;
mod generated;

use std::net::Ipv4Addr;

use clawd_tests::{Address, UDP_ECHO, sha256_of_file};
use serde_json::{Value, json};

use crate::support::{CURL_ENTRY, Denial, PYTHON_ENTRY, World, direct, group, tcp};

#[test]
fn wider_prefix_counts_beside_the_longest() {
    let world = World::start();
    let groups = [
        group("wide", "{ cidr: 192.0.2.0/24, port: 7000 }", PYTHON_ENTRY),
        group("narrow", "{ host: 192.0.2.10, port: 7001 }", PYTHON_ENTRY),
        // The same address for another binary takes nothing from Python.
        group("other", "{ host: 192.0.2.10, port: 80 }", CURL_ENTRY),
    ];
    let mut prober = world.prober("box", &direct(&groups.concat()));
    world.allows(&mut prober, &tcp(Address::A, 7000));
    world.allows(&mut prober, &tcp(Address::A, 7001));
    world.allows(&mut prober, &tcp(Address::B, 7000));
    for (address, port, reason) in [
        (Address::B, 7001, "port_not_listed"),
        (Address::A, 80, "binary_not_listed"),
        (Address::C, 7000, "address_not_listed"),
    ] {
        world.refuses(
            &mut prober,
            "box",
            &tcp(address, port),
            &Denial::tcp(reason, address, port),
        );
    }
}

#[test]
fn range_of_ports_ends_where_it_says() {
    let world = World::start();
    for port in [8999, 9000, 9010, 9011] {
        world.internet.listen(port).unwrap();
    }
    let policy = direct(&group(
        "range",
        "{ host: 192.0.2.10, ports: [80, 9000-9010] }",
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("box", &policy);
    world.allows(&mut prober, &tcp(Address::A, 9000));
    world.allows(&mut prober, &tcp(Address::A, 9010));
    for port in [8999, 9011, 443] {
        let want = Denial::tcp("port_not_listed", Address::A, port);
        world.refuses(&mut prober, "box", &tcp(Address::A, port), &want);
    }
}

#[test]
fn rule_for_one_protocol_is_none_for_the_other() {
    let world = World::start();
    let endpoints = "{ host: 192.0.2.10, port: 7000, protocol: tcp }, { host: 192.0.2.11, port: 7000, protocol: udp }";
    let mut prober = world.prober("box", &direct(&group("g", endpoints, PYTHON_ENTRY)));
    let udp = |addr: &str| json!({ "do": "udp_sendto", "addr": addr, "port": UDP_ECHO });
    world.allows(&mut prober, &tcp(Address::A, 7000));
    world.allows(&mut prober, &udp(Address::B));
    let want = Denial::sendmsg("port_not_listed", Address::A, UDP_ECHO);
    world.refuses(&mut prober, "box", &udp(Address::A), &want);
    let want = Denial::tcp("port_not_listed", Address::B, 7000);
    world.refuses(&mut prober, "box", &tcp(Address::B, 7000), &want);
}

#[test]
fn binary_listed_by_its_hash_alone_is_granted() {
    let world = World::start();
    let digest = sha256_of_file("/usr/bin/python3").unwrap();
    let entry = format!("{{ sha256: {digest} }}");
    let policy = direct(&group("hash", "{ host: 192.0.2.10, port: 7000 }", &entry));
    world.allows(&mut world.prober("box", &policy), &tcp(Address::A, 7000));
    let other = format!("{{ sha256: {} }}", "0".repeat(64));
    let policy = direct(&group("hash", "{ host: 192.0.2.10, port: 7000 }", &other));
    let want = Denial::tcp("binary_not_listed", Address::A, 7000);
    world.refuses(
        &mut world.prober("other", &policy),
        "other",
        &tcp(Address::A, 7000),
        &want,
    );
}

#[test]
fn two_sandboxes_are_judged_each_by_its_own_policy() {
    let world = World::start();
    let policy = |host: &str| {
        direct(&group(
            "g",
            &format!("{{ host: {host}, port: 7000 }}"),
            PYTHON_ENTRY,
        ))
    };
    let mut first = world.prober("first", &policy(Address::A));
    let mut second = world.prober("second", &policy(Address::B));
    for _ in 0..3 {
        world.allows(&mut first, &tcp(Address::A, 7000));
        world.allows(&mut second, &tcp(Address::B, 7000));
        let want = Denial::tcp("address_not_listed", Address::B, 7000);
        world.refuses(&mut first, "first", &tcp(Address::B, 7000), &want);
        let want = Denial::tcp("address_not_listed", Address::A, 7000);
        world.refuses(&mut second, "second", &tcp(Address::A, 7000), &want);
    }
}

#[test]
fn every_one_of_256_entries_counts() {
    let world = World::start();
    let mut groups = String::new();
    for number in 0..255 {
        let entry = format!("{{ sha256: {number:064x} }}");
        groups += &group(
            &format!("g{number}"),
            "{ host: 192.0.2.11, port: 7000 }",
            &entry,
        );
    }
    // The last bit of the mask is Python's.
    let last = group("last", "{ host: 192.0.2.10, port: 7000 }", PYTHON_ENTRY);
    let mut prober = world.prober("box", &direct(&format!("{groups}{last}")));
    world.allows(&mut prober, &tcp(Address::A, 7000));
    let want = Denial::tcp("binary_not_listed", Address::B, 7000);
    world.refuses(&mut prober, "box", &tcp(Address::B, 7000), &want);
}

/// A policy of ten thousand rules, each of an address and a port of its own; the last is the test's.
#[test]
fn ten_thousand_rules_are_pushed_and_judged() {
    let world = World::start();
    let mut endpoints: Vec<String> = (0..10_000_u32)
        .map(|i| {
            let address = Ipv4Addr::from(0x0a00_0000 + i * 3);
            format!("{{ host: {address}, port: {} }}", 10_000 + i)
        })
        .collect();
    endpoints.push("{ host: 192.0.2.10, port: 7000 }".to_owned());
    let large = direct(&group("large", &endpoints.join(", "), PYTHON_ENTRY));
    let small = direct(&group(
        "small",
        "{ host: 192.0.2.11, port: 7000 }",
        PYTHON_ENTRY,
    ));
    let mut prober = world.prober("box", &small);
    for _ in 0..2 {
        world.allows(&mut prober, &tcp(Address::B, 7000));
        let took_us = push(&world, "box", &large);
        println!("a push of 10,000 rules took {took_us} us");
        world.allows(&mut prober, &tcp(Address::A, 7000));
        let want = Denial::tcp("address_not_listed", Address::B, 7000);
        world.refuses(&mut prober, "box", &tcp(Address::B, 7000), &want);
        let want = Denial::tcp("port_not_listed", Address::A, 10_000);
        world.refuses(&mut prober, "box", &tcp(Address::A, 10_000), &want);
        push(&world, "box", &small);
    }
}

/// Pushes a policy; returns how many microseconds that took.
fn push(world: &World, sandbox: &str, policy: &str) -> u64 {
    let file = world.daemon.policy_file(policy);
    let file = file.to_str().expect("UTF-8");
    let push = ["policy", "push", "--json", "--sandbox", sandbox, file];
    let pushed = world.daemon.clawctl(push).output().expect("clawctl");
    assert!(pushed.status.success(), "{pushed:?}");
    let report: Value = serde_json::from_slice(&pushed.stdout).expect("JSON");
    report["elapsed_us"].as_u64().expect("a number")
}
