//! Rules that deny: they win over all that allows.

use std::path::Path;

use clawd_tests::{Address, PYTHON, Prober, UDP_ECHO};
use serde_json::{Value, json};

use crate::{
    programs::{CURL, copy, fetch, path_entry, records, replace, trees},
    support::{
        CURL_ENTRY, Denial, PYTHON_ENTRY, World, code, denying, direct, direct_with, group, tcp,
    },
};

/// Every server, by TCP and UDP, for Python and curl.
fn open(more: &str) -> String {
    let endpoints = [
        "{ cidr: 0.0.0.0/0, ports: [1-65535] }",
        "{ cidr: 0.0.0.0/0, ports: [1-65535], protocol: udp }",
        "{ cidr: \"::/0\", ports: [1-65535] }",
    ];
    let binaries = format!("{PYTHON_ENTRY}, {CURL_ENTRY}");
    direct(&(group("all", &endpoints.join(", "), &binaries) + more))
}

fn sendto(addr: &str) -> Value {
    json!({ "do": "udp_sendto", "addr": addr, "port": UDP_ECHO })
}

#[track_caller]
fn push(world: &World, sandbox: &str, policy: &str) {
    let file = world.daemon.policy_file(policy);
    let push = [
        "policy",
        "push",
        "--sandbox",
        sandbox,
        file.to_str().expect("UTF-8"),
    ];
    let pushed = world.daemon.clawctl(push).output().expect("clawctl");
    assert_eq!(code(&pushed), 0, "{pushed:?}");
}

#[test]
fn rule_that_denies_wins_whatever_the_prefix_of_what_allows() {
    let world = World::start();
    let rules = [
        // Narrower, as wide, and wider than what is denied.
        group("host", "{ host: 192.0.2.10, port: 7000 }", PYTHON_ENTRY),
        group("same", "{ cidr: 192.0.2.0/24, port: 7000 }", PYTHON_ENTRY),
        denying(
            "never",
            "{ cidr: 192.0.2.0/24 }, { host: \"2001:db8::11\", port: 7000 }",
            "",
        ),
    ];
    let mut prober = world.prober("box", &open(&rules.concat()));
    let rule = "network_policies.never";
    for (address, port) in [
        (Address::A, 7000),
        (Address::A, 80),
        (Address::B, 7001),
        (Address::B6, 7000),
    ] {
        let want = Denial::tcp("", address, port).by(rule);
        world.refuses(&mut prober, "box", &tcp(address, port), &want);
    }
    // Both protocols, where none is named.
    let want = Denial::sendmsg("", Address::A, UDP_ECHO).by(rule);
    world.refuses(&mut prober, "box", &sendto(Address::A), &want);
    // What is beside it stays open.
    for ask in [
        tcp(Address::C, 7000),
        tcp(Address::B6, 7001),
        tcp(Address::A6, 7000),
    ] {
        world.allows(&mut prober, &ask);
    }
    world.allows(&mut prober, &sendto(Address::C));
}

#[test]
fn rule_that_denies_ends_with_its_ports_and_its_protocol() {
    let world = World::start();
    let rules = denying(
        "range",
        "{ host: 192.0.2.10, ports: [7001-9000], protocol: tcp }",
        "",
    );
    let mut prober = world.prober("box", &open(&rules));
    let want = Denial::tcp("", Address::A, 7001).by("network_policies.range");
    world.refuses(&mut prober, "box", &tcp(Address::A, 7001), &want);
    let want = Denial::tcp("", Address::A, 9000).by("network_policies.range");
    world.refuses(&mut prober, "box", &tcp(Address::A, 9000), &want);
    world.allows(&mut prober, &tcp(Address::A, 7000));
    let answer = prober.ask(&tcp(Address::A, 9001));
    assert_eq!(answer["name"], "ECONNREFUSED", "{answer}");
}

#[test]
fn binaries_of_a_rule_that_denies_are_denied_and_no_others() {
    let world = World::start();
    let rules = denying(
        "no_python",
        "{ host: 192.0.2.10 }",
        &format!("{CURL_ENTRY}, {PYTHON_ENTRY}"),
    );
    let mut prober = world.prober("python", &open(&rules));
    let want = Denial::tcp("", Address::A, 7000).by("network_policies.no_python.binaries[1]");
    world.refuses(&mut prober, "python", &tcp(Address::A, 7000), &want);
    world.allows(&mut prober, &tcp(Address::B, 7000));
    let rules = denying("no_python", "{ host: 192.0.2.10 }", PYTHON_ENTRY);
    let mut prober = world.prober("curl", &open(&rules));
    assert_eq!(fetch(&mut prober, CURL), 0, "curl may");
    let want = Denial::tcp("", Address::A, 80).by("network_policies.no_python.binaries[0]");
    world.refuses(&mut prober, "curl", &tcp(Address::A, 80), &want);
}

#[test]
fn descendants_of_a_binary_that_is_denied_are_denied_where_that_is_said() {
    let world = World::start();
    let by_dash = |prober: &mut Prober| {
        let argv = json!([
            "/usr/bin/dash",
            "-c",
            "curl -sS http://192.0.2.10/small; echo $?"
        ]);
        let answer = prober.ask(&json!({ "do": "run", "argv": argv }));
        answer["ok"]["out"].as_str().map(str::to_owned)
    };
    let own = denying("no_dash", "{ host: 192.0.2.10 }", "{ path: /usr/bin/dash }");
    let mut prober = world.prober("own", &open(&own));
    assert_eq!(by_dash(&mut prober).as_deref(), Some("small file\n0\n"));
    let lineage = denying(
        "no_dash",
        "{ host: 192.0.2.10 }",
        "{ path: /usr/bin/dash, descendants: true }",
    );
    let mut prober = world.prober("all", &open(&lineage));
    let want = Denial {
        exe: Path::new(CURL),
        ..Denial::tcp("", Address::A, 80).by("network_policies.no_dash.binaries[0]")
    };
    let out = world.refused("all", &want, || by_dash(&mut prober));
    assert_eq!(out.as_deref(), Some("7\n"));
    assert_eq!(fetch(&mut prober, CURL), 0, "without dash before it");
}

/// A program without identity does not make a denied ancestor forgotten.
#[test]
fn descendants_stay_denied_behind_a_program_without_identity() {
    let world = World::start();
    let folder = world
        .daemon
        .scratch()
        .folder("programs", 0o755)
        .expect("a folder");
    // Too large to be hashed, so nobody knows what it is.
    let unknown = copy("/usr/bin/dash", &folder.join("unknown"), b"");
    let file = std::fs::File::options()
        .write(true)
        .open(&unknown)
        .expect("a file");
    file.set_len((1 << 30) + 1).expect("sparse");
    drop(file);
    let groups = [
        group("all", "{ host: 192.0.2.10, port: 80 }", CURL_ENTRY),
        denying(
            "no_dash",
            "{ host: 192.0.2.10 }",
            "{ path: /usr/bin/dash, descendants: true }",
        ),
    ];
    let policy = direct_with(&trees(&[&folder]), "[]", &groups.concat());
    let mut prober = world.prober("box", &policy);
    assert_eq!(fetch(&mut prober, CURL), 0, "without dash before it");
    let script = "\"$0\" -c 'curl -sS http://192.0.2.10/small; echo $?'; exit";
    let argv = json!(["/usr/bin/dash", "-c", script, unknown]);
    let want = Denial {
        exe: Path::new(CURL),
        ..Denial::tcp("", Address::A, 80).by("network_policies.no_dash.binaries[0]")
    };
    let answer = world.refused("box", &want, || {
        prober.ask(&json!({ "do": "run", "argv": argv }))
    });
    assert_eq!(answer["ok"]["out"], "7\n", "{answer}");
}

/// What is at a denied path is denied, though it is not what was pinned.
#[test]
fn binary_at_a_denied_path_stays_denied_when_it_changes() {
    let world = World::start();
    let folder = world
        .daemon
        .scratch()
        .folder("programs", 0o755)
        .expect("a folder");
    let program = copy(CURL, &folder.join("get"), b"first");
    let second = copy(CURL, &folder.join("again"), b"second");
    let content = clawd_tests::sha256_of_file(&second).expect("its content");
    let groups = [
        group(
            "all",
            "{ cidr: 0.0.0.0/0, ports: [1-65535] }",
            &format!("{PYTHON_ENTRY}, {{ sha256: {content} }}"),
        ),
        denying("no_get", "{ host: 192.0.2.10 }", &path_entry(&program)),
    ];
    let policy = direct_with(&trees(&[&folder]), "[]", &groups.concat());
    let mut prober = world.prober("box", &policy);
    assert_eq!(fetch(&mut prober, &second), 0, "elsewhere it may");
    replace(CURL, &program, b"second");
    let want = Denial {
        exe: &program,
        ..Denial::tcp("", Address::A, 80).by("network_policies.no_get.binaries[0]")
    };
    let left = world.refused("box", &want, || fetch(&mut prober, &program));
    assert_eq!(left, 7);
}

/// A file that the sandbox may write is never pinned; at a denied path it is denied all the same.
#[test]
fn binary_at_a_denied_path_is_denied_where_nothing_is_pinned() {
    let world = World::start();
    let folder = world
        .daemon
        .scratch()
        .folder("workspace", 0o777)
        .expect("a folder");
    let program = copy(CURL, &folder.join("get"), b"same");
    let other = copy(CURL, &folder.join("again"), b"same");
    let content = clawd_tests::sha256_of_file(&program).expect("its content");
    let listed = format!("{{ sha256: {content} }}");
    let policy = |denied: &Path| {
        let groups = [
            group("all", "{ host: 192.0.2.10, port: 80 }", &listed),
            denying("no_get", "{ host: 192.0.2.10 }", &path_entry(denied)),
        ];
        format!(
            "version: 2\n\
             filesystem_policy: {{ read_execute: [/usr], read_write_execute: [{}] }}\n\
             landlock: {{ compatibility: best_effort }}\n\
             network: {{ mode: direct }}\n\
             network_policies:\n{}",
            folder.display(),
            groups.concat()
        )
    };
    let mut prober = world.prober("box", &policy(&program));
    assert_eq!(fetch(&mut prober, &other), 0, "its content is listed");
    let want = Denial {
        exe: &program,
        ..Denial::tcp("", Address::A, 80).by("network_policies.no_get.binaries[0]")
    };
    let left = world.refused("box", &want, || fetch(&mut prober, &program));
    assert_eq!(left, 7);
}

#[test]
fn pushed_rule_that_denies_cuts_what_it_covers() {
    let world = World::start();
    let mut prober = world.prober("box", &open(""));
    for kind in ["stream", "dgram"] {
        for host in [Address::A, Address::C] {
            let open = json!({
                "do": "open_flow", "name": format!("{kind} {host}"), "kind": kind,
                "addr": host, "port": 7000, "timeout": 2
            });
            assert_eq!(prober.ask(&open)["ok"], "ping");
        }
    }
    push(
        &world,
        "box",
        &open(&denying("never", "{ cidr: 192.0.2.0/24 }", "")),
    );
    let before = world.internet.contacts_at(Address::A, 7000).len();
    for kind in ["stream", "dgram"] {
        let say = |host: &str| json!({ "do": "say_on", "name": format!("{kind} {host}") });
        let answer = prober.ask(&say(Address::A));
        assert!(answer["errno"].as_i64() > Some(0), "{kind}: {answer}");
        let answer = prober.ask(&say(Address::C));
        assert_eq!(answer["ok"], "ping", "{kind}: {answer}");
    }
    let after = world.internet.contacts_at(Address::A, 7000).len();
    assert_eq!(after, before, "a server heard of it");
    let cut = records(&world, Some("box"), "cut");
    for protocol in ["tcp", "udp"] {
        let told = cut.iter().any(|record| {
            record["reason"] == "policy_changed"
                && record["dst_ip"] == Address::A
                && record["protocol"] == protocol
        });
        assert!(told, "{protocol}: {cut:?}");
    }
    // The flow that goes on still acknowledges, so what arrives cannot be counted here.
    let answer = prober.ask(&tcp(Address::A, 7000));
    assert_eq!(answer["name"], "EPERM", "{answer}");
    let after = world.internet.contacts_at(Address::A, 7000).len();
    assert_eq!(after, before, "a server heard of it");
    let denied = records(&world, Some("box"), "connect");
    let denied = denied.last().expect("a record");
    assert_eq!(denied["reason"], "denied_by_rule", "{denied}");
    assert_eq!(denied["rule"], "network_policies.never", "{denied}");
    // And back.
    push(&world, "box", &open(""));
    world.allows(&mut prober, &tcp(Address::A, 7000));
}

/// What is the sandbox's own no rule speaks of.
#[test]
fn own_server_on_loopback_is_reached_where_loopback_is_denied() {
    let world = World::start();
    let mut prober = world.prober("box", &open(&denying("host", "{ cidr: 127.0.0.0/8 }", "")));
    let port = prober.ask(&json!({ "do": "serve", "addr": "127.0.0.1" }))["ok"].clone();
    let port = u16::try_from(port.as_u64().expect("a port")).expect("a port");
    let answer =
        prober.ask(&json!({ "do": "tcp", "addr": "127.0.0.1", "port": port, "talk": false }));
    assert_eq!(answer["ok"], "connected", "{answer}");
    let want = Denial::tcp("", "127.0.0.1", 7000).by("network_policies.host");
    let listener = world
        .internet
        .host()
        .run(|| std::net::TcpListener::bind("127.0.0.1:7000"));
    let listener = listener.expect("the host listens");
    world.refuses(&mut prober, "box", &tcp("127.0.0.1", 7000), &want);
    listener.set_nonblocking(true).expect("a socket");
    assert!(listener.accept().is_err(), "the host's server saw it");
    assert!(Path::new(PYTHON).exists());
}
