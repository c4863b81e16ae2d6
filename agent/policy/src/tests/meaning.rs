//! What valid policies mean, value by value.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clawd_common::{
    addr::Addr,
    decide::{AddressKey, PROTOCOL_TCP, PROTOCOL_UDP, PortKey, Tables as _},
};

use super::robust::FULL;
use crate::{
    BinaryMatcher, Compatibility, Endpoint, Filesystem, NetworkMode, Parsed, PathPattern, Policy,
    Process, Protocol, ResourceLimits, RuleAction, SeccompProfile, compile, parse,
};

fn read(text: &str) -> Parsed {
    parse("p.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(super) fn policy(text: &str) -> Policy {
    read(text).policy
}

/// One group with the entries of `endpoints`, one to a line.
pub(super) fn with_endpoints(endpoints: &[String]) -> Policy {
    let lines: String = endpoints
        .iter()
        .map(|line| format!("      - {line}\n"))
        .collect();
    policy(&format!(
        "version: 2\nnetwork: {{ mode: direct }}\nnetwork_policies:\n  g:\n    \
         binaries: [{{ path: /bin/x }}]\n    endpoints:\n{lines}"
    ))
}

#[test]
fn exceptions_that_change_nothing_are_warned_of() {
    let parsed = read(
        "version: 2\nprocess: { seccomp: jit, seccomp_allow: [listen, mprotect], seccomp_deny: [ptrace, socket] }",
    );
    assert_eq!(parsed.policy.process.seccomp, SeccompProfile::Jit);
    let warnings: Vec<String> = parsed.warnings.iter().map(ToString::to_string).collect();
    let starts = |warning: &String, want: &str| assert!(warning.contains(want), "{warning}");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    starts(&warnings[0], "2:42: warning: `listen` is allowed already");
    starts(&warnings[1], "2:50: warning: `mprotect` is allowed already");
    starts(&warnings[2], "2:76: warning: `ptrace` is refused already");
}

#[test]
fn least_policy_has_the_safe_defaults() {
    let parsed = read("version: 2\n");
    assert_eq!(parsed.warnings, []);
    let want = Policy {
        filesystem: Filesystem::default(),
        process: Process::default(),
        network: NetworkMode::None,
        landlock: Compatibility::HardRequirement,
        env: BTreeMap::new(),
        env_allow: BTreeSet::new(),
        ingress: Vec::new(),
        rules: Vec::new(),
    };
    assert_eq!(parsed.policy, want);
    assert!(!want.filesystem.include_workdir);
    assert_eq!(want.process.seccomp, SeccompProfile::Default);
    let image = compile(&want, 1).expect("fits");
    assert!(image.addresses.is_empty() && image.rules.is_empty());
}

#[test]
fn ingress_without_addresses_means_all_of_both_families() {
    let policy = policy(
        "version: 2\nnetwork: { mode: direct }\ningress:\n  - { port: 8080 }\n  \
         - { cidr: 192.0.2.0/24, ports: [53, 60-61], protocol: udp }\n",
    );
    let found: Vec<_> = policy
        .ingress
        .iter()
        .map(|entry| {
            (
                entry.prefix.to_string(),
                entry.protocol,
                entry.ports.to_string(),
            )
        })
        .collect();
    let want = [
        ("0.0.0.0/0", Protocol::Tcp, "8080"),
        ("::/0", Protocol::Tcp, "8080"),
        ("192.0.2.0/24", Protocol::Udp, "53, 60-61"),
    ]
    .map(|(prefix, protocol, ports)| (prefix.to_owned(), protocol, ports.to_owned()));
    assert_eq!(found, want);
}

#[test]
fn every_key_arrives() {
    let policy = policy(FULL);
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert!(policy.filesystem.include_workdir);
    assert_eq!(policy.filesystem.read_only, paths(&["/etc/a", "/etc/b"]));
    assert_eq!(policy.filesystem.read_execute, paths(&["/usr"]));
    assert_eq!(policy.filesystem.read_write, paths(&["/tmp"]));
    assert_eq!(policy.filesystem.read_write_execute, paths(&["/project"]));
    assert_eq!(
        policy.filesystem.deny,
        paths(&["/project/.env", "/etc/shadow"])
    );
    assert_eq!(policy.filesystem.rootfs, Some("/srv/root".into()));
    assert_eq!(policy.landlock, Compatibility::BestEffort);
    assert_eq!(policy.process.run_as_user.as_deref(), Some("agent"));
    assert_eq!(policy.process.run_as_group.as_deref(), Some("1000"));
    assert_eq!(policy.process.supplementary_groups, ["video", "44"]);
    assert_eq!(policy.process.seccomp, SeccompProfile::Strict);
    assert_eq!(policy.process.seccomp_allow, ["personality"]);
    assert_eq!(policy.process.seccomp_deny, ["listen", "mkdirat"]);
    let limits = ResourceLimits {
        pids_max: Some(512),
        memory_max_bytes: Some(4 << 30),
        cpu_max_percent: Some(150),
        nofile_max: Some(4096),
        fsize_max_bytes: Some(512 << 20),
    };
    assert_eq!(policy.process.limits, limits);
    assert_eq!(policy.network, NetworkMode::Direct);
    let allowed: Vec<_> = policy.env_allow.iter().collect();
    assert_eq!(allowed, ["LD_PRELOAD", "PYTHONPATH"]);
    assert_eq!(policy.env.get("LANG").map(String::as_str), Some("C.UTF-8"));
    let names: Vec<&str> = policy
        .rules
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    assert_eq!(names, ["again", "never", "web"], "sorted by name");
    let web = &policy.rules[2];
    assert_eq!(web.title.as_deref(), Some("Web"));
    assert_eq!(web.endpoints[0].protocol, Protocol::Tcp);
    assert_eq!(web.endpoints[1].protocol, Protocol::Udp);
    assert_eq!(web.endpoints[1].prefix.to_string(), "2001:db8::/32");
    assert_eq!(web.endpoints[1].ports.to_string(), "80, 9000-9010");
    assert_eq!(web.action, RuleAction::Allow);
    let denied = &policy.rules[1];
    assert_eq!(
        (denied.action, denied.binaries.len()),
        (RuleAction::Deny, 1)
    );
    assert_eq!(denied.line, 41);
    let grants: Vec<String> = policy.grants().iter().map(ToString::to_string).collect();
    let want = [
        "network_policies.again.binaries[0]",
        "network_policies.again.binaries[1]",
        "network_policies.again.binaries[2]",
        "network_policies.never.binaries[0]",
        "network_policies.web.binaries[0]",
        "network_policies.web.binaries[1]",
        "network_policies.web.binaries[2]",
    ];
    assert_eq!(grants, want);
    let pattern = PathPattern::parse("/opt/**/python3.[0-9]*").expect("a pattern");
    assert_eq!(web.binaries[1].matcher, BinaryMatcher::Pattern(pattern));
    let path = BinaryMatcher::Path(PathBuf::from("/usr/bin/curl"));
    assert_eq!(web.binaries[0].matcher, path);
}

#[test]
fn descendants_are_meant_only_where_it_says_so() {
    let hash = "ab".repeat(32);
    let policy = policy(&format!(
        "version: 2\nnetwork: {{ mode: direct }}\nnetwork_policies:\n  g:\n    \
         endpoints: [{{ host: 192.0.2.1, port: 1 }}]\n    \
         binaries:\n      - {{ path: /a }}\n      - {{ path: /b, descendants: false }}\n      \
         - {{ path: /c, descendants: true }}\n      - {{ sha256: {hash}, descendants: true }}\n"
    ));
    let of_rules: Vec<bool> = policy.rules[0]
        .binaries
        .iter()
        .map(|binary| binary.descendants)
        .collect();
    assert_eq!(of_rules, [false, false, true, true]);
    let grants = policy.grants();
    let of_grants: Vec<bool> = grants.iter().map(|entry| entry.descendants).collect();
    assert_eq!(of_grants, of_rules);
    assert_eq!(grants[3].matcher, BinaryMatcher::Sha256([0xab; 32]));
}

#[test]
fn unquoted_scalars_keep_their_text() {
    let decimal = "1234567890".repeat(6) + "1234";
    let float = "1".repeat(60) + "e123";
    let parsed = policy(&format!(
        "version: 2\nprocess: {{ run_as_user: 1000 }}\n\
         env: {{ A: 1.10, B: 0x10, C: true, D: .nan, E: '~', F: \"\", G: 1e999, H: -0 }}\n\
         network: {{ mode: direct }}\nnetwork_policies:\n  g:\n    \
         endpoints: [{{ host: ::1, port: 1 }}]\n    \
         binaries: [{{ sha256: {decimal} }}, {{ sha256: {float} }}, {{ sha256: {} }}]\n",
        "Ab".repeat(32)
    ));
    let env: Vec<&str> = parsed.env.values().map(String::as_str).collect();
    assert_eq!(
        env,
        ["1.10", "0x10", "true", ".nan", "~", "", "1e999", "-0"]
    );
    assert_eq!(parsed.process.run_as_user.as_deref(), Some("1000"));
    let BinaryMatcher::Sha256(hash) = parsed.rules[0].binaries[0].matcher else {
        panic!("a path");
    };
    assert_eq!(hash[..5], [0x12, 0x34, 0x56, 0x78, 0x90]);
    assert_eq!(
        parsed.rules[0].binaries[2].matcher,
        BinaryMatcher::Sha256([0xab; 32])
    );
}

#[test]
fn byte_order_mark_and_line_ends_change_nothing() {
    let text = "version: 2\nenv: { A: 1.10, B: x }\n";
    let want = policy(text);
    assert_eq!(policy(&format!("\u{feff}{text}")), want);
    assert_eq!(policy(&text.replace('\n', "\r\n")), want);
    let errors = parse("p", "\u{feff}versoin: 2\n").expect_err("a typo");
    assert_eq!(errors.as_slice()[0].col, 1);
}

#[test]
fn warnings_name_what_allows_nothing() {
    let text = "version: 2\nfilesystem_policy: { read_only: [/srv/*] }\nnetwork_policies:\n  \
                g: { endpoints: [{ host: 192.0.2.1, port: 1 }] }\n  \
                h: { endpoints: [], binaries: [{ path: /bin/x }] }\n";
    let shown: Vec<String> = read(text)
        .warnings
        .iter()
        .map(|warning| format!("{}:{}: {}", warning.line, warning.col, warning.message))
        .collect();
    let want = [
        "2:34: `/srv/*` is taken literally",
        "4:3: network policy `g` has no `binaries`: it allows nobody",
        "4:3: no entry of `network_policies` has an effect in network mode `none`",
        "5:3: network policy `h` has no `endpoints`: it allows no destination",
    ];
    assert_eq!(shown, want);
    let warning = &read(text).warnings[0];
    assert!(
        warning.to_string().starts_with("p.yaml:2:34: warning: "),
        "{warning}"
    );
}

/// The warnings of a policy with the lists of `filesystem` and one binary, line 7, column 17.
fn warnings_of(filesystem: &str, path: &str) -> Vec<String> {
    let text = format!(
        "version: 2\nfilesystem_policy: {{ {filesystem} }}\nnetwork: {{ mode: direct }}\n\
         network_policies:\n  g:\n    binaries:\n      - {{ path: \"{path}\" }}\n    \
         endpoints: [{{ host: 192.0.2.1, port: 1 }}]\n"
    );
    read(&text)
        .warnings
        .iter()
        .map(|warning| {
            assert!(warning.help.is_some(), "no help: {warning}");
            format!("{}:{}: {}", warning.line, warning.col, warning.message)
        })
        .collect()
}

#[test]
fn pattern_for_everything_is_warned_about() {
    for path in ["/**", "/**/*", "/*/**/?*", "/**/*/**"] {
        let want = format!("7:17: pattern `{path}` means any program of the view");
        assert_eq!(warnings_of("", path), [want]);
    }
    for path in ["/*", "/**/?", "/**/a*", "/usr/**", "/**/[a]*"] {
        assert_eq!(warnings_of("", path), [""; 0], "{path}");
    }
}

#[test]
fn binary_that_the_sandbox_may_write_is_warned_about() {
    const TREES: &str = "read_only: [/project/doc], read_execute: [/usr, /data/fixed/bin], \
                         read_write: [/project, /usr/local/x], read_write_execute: [/venv, /data]";
    let warning = |path: &str, tree: &str, list: &str| {
        format!(
            "7:17: `{path}` is in `{tree}`, a tree of `{list}`: \
             a file that the sandbox may write is never pinned at first use"
        )
    };
    for (path, tree, list) in [
        ("/project/a", "/project", "read_write"),
        ("/project", "/project", "read_write"),
        ("/venv/bin/python", "/venv", "read_write_execute"),
        ("/venv/bin/*", "/venv", "read_write_execute"),
        ("/venv/**", "/venv", "read_write_execute"),
        ("/project/build/*/x", "/project", "read_write"),
        ("/usr/local/x/y", "/usr/local/x", "read_write"),
        ("/data/fixed/x", "/data", "read_write_execute"),
    ] {
        assert_eq!(warnings_of(TREES, path), [warning(path, tree, list)]);
    }
    for path in [
        "/usr/bin/curl",
        "/usr/local/*",
        "/workshop/a",
        "/project/doc/a",
        "/project/doc/*",
        "/project/**/a", // may be in /project/doc
        "/data/*",
        "/data/fixed/*",
        "/v*/bin/python",
        "/nowhere/a",
    ] {
        assert_eq!(warnings_of(TREES, path), [""; 0], "{path}");
    }
    assert_eq!(
        warnings_of("read_execute: [/usr], deny: [/usr/bin]", "/usr/bin/curl"),
        ["7:17: `/usr/bin/curl` is in `/usr/bin`, which `deny` takes away: it cannot be executed"]
    );
    let aliased = read(
        "version: 2\nfilesystem_policy: { read_write: [/project] }\nnetwork: { mode: direct }\n\
         network_policies:\n  g: &g\n    binaries: [{ path: /project/a }]\n    \
         endpoints: [{ host: 192.0.2.1, port: 1 }]\n  h: *g\n",
    );
    assert_eq!(aliased.warnings.len(), 1, "once for each place");
    assert_eq!(
        aliased.warnings[0].help.as_deref(),
        Some("name its `sha256`")
    );
}

#[test]
fn warnings_about_what_denies_say_what_is_not_denied() {
    let warnings = |group: &str| -> Vec<String> {
        let parsed = read(&format!(
            "version: 2\nnetwork: {{ mode: direct }}\n\
             filesystem_policy: {{ read_write_execute: [/venv] }}\nnetwork_policies:\n  no: {group}\n"
        ));
        parsed
            .warnings
            .iter()
            .map(|warning| warning.message.clone())
            .collect()
    };
    assert_eq!(
        warnings("{ action: deny, endpoints: [{ port: 25 }], binaries: [{ path: /venv/bin/x }] }"),
        [
            "`/venv/bin/x` is in `/venv`, a tree of `read_write_execute`: the sandbox may give what is \
          there another name, by which it is not denied"
        ]
    );
    assert_eq!(
        warnings("{ action: deny }"),
        ["network policy `no` has no `endpoints`: it denies no destination"]
    );
    assert_eq!(
        warnings("{ action: deny, endpoints: [{ port: 25 }] }"),
        [""; 0]
    );
}

#[test]
fn equal_addresses_share_a_class() {
    let endpoints: Vec<String> = (1..=100)
        .map(|i| format!("{{ host: 192.0.2.{i}, ports: [80, 443] }}"))
        .chain(["{ cidr: 192.0.2.0/24, port: 22 }".to_owned()])
        .collect();
    let image = compile(&with_endpoints(&endpoints), 3).expect("fits");
    assert_eq!(image.addresses.len(), 101);
    // The hosts: 22 (pushed down), 80 with 443; the rest of the network: 22.
    assert_eq!(image.rules.len(), 3);
    let masks = BTreeMap::new();
    let class = |policy_id, octets| {
        let addr = Addr::v4(octets);
        image
            .lookup(&masks)
            .address_class(&AddressKey { policy_id, addr })
    };
    assert_ne!(class(3, [192, 0, 2, 1]), 0);
    assert_eq!(class(3, [192, 0, 2, 1]), class(3, [192, 0, 2, 100]));
    assert_ne!(class(3, [192, 0, 2, 1]), class(3, [192, 0, 2, 200]));
    assert_eq!(class(3, [192, 0, 3, 1]), 0);
    assert_eq!(class(4, [192, 0, 2, 1]), 0, "another policy");
    assert!(image.rules.iter().all(|(key, rule)| {
        key.policy_id == 3 && rule.allow.words == [1, 0, 0, 0] && rule.deny.is_empty()
    }));
    let port = |protocol, port: u16| {
        image.lookup(&masks).port_class(&PortKey {
            policy_id: 3,
            protocol,
            port_be: port.to_be_bytes(),
        })
    };
    assert_eq!(port(PROTOCOL_TCP, 80), port(PROTOCOL_TCP, 443));
    assert_ne!(port(PROTOCOL_TCP, 80), port(PROTOCOL_TCP, 22));
    assert_eq!(port(PROTOCOL_UDP, 80), 0);
}

#[test]
fn deny_means_all_of_what_it_leaves_out() {
    let group = |endpoint: &str, rest: &str| {
        let policy = policy(&format!(
            "version: 2\nnetwork: {{ mode: direct }}\nnetwork_policies:\n  \
             no: {{ action: deny, endpoints: [{endpoint}]{rest} }}\n"
        ));
        policy.rules.into_iter().next().expect("a group")
    };
    let said = |endpoint: &str| -> Vec<String> {
        let told = |endpoint: &Endpoint| {
            let Endpoint {
                prefix,
                protocol,
                ports,
            } = endpoint;
            format!("{protocol:?} {prefix} {ports}")
        };
        group(endpoint, "").endpoints.iter().map(told).collect()
    };
    assert_eq!(
        said("{ cidr: 10.0.0.0/8 }"),
        ["Tcp 10.0.0.0/8 1-65535", "Udp 10.0.0.0/8 1-65535"]
    );
    assert_eq!(
        said("{ port: 25, protocol: tcp }"),
        ["Tcp 0.0.0.0/0 25", "Tcp ::/0 25"]
    );
    assert_eq!(said("{ protocol: udp }").len(), 2);
    assert_eq!(
        said("{ host: 192.0.2.1, ports: [1-2], protocol: udp }"),
        ["Udp 192.0.2.1/32 1-2"]
    );
    let everybody = group("{ port: 25 }", "");
    assert!(everybody.denies_everybody());
    let curl = group("{ port: 25 }", ", binaries: [{ path: /usr/bin/curl }]");
    assert!(!curl.denies_everybody() && curl.action == RuleAction::Deny);
}

#[test]
fn what_is_passed_on_survives_serde() {
    let policy = policy(FULL);
    let json = serde_json::to_string(&(&policy.filesystem, &policy.process)).expect("serializes");
    let back: (Filesystem, Process) = serde_json::from_str(&json).expect("deserializes");
    assert_eq!(back, (policy.filesystem, policy.process));
    let json = serde_json::to_string(&(NetworkMode::Direct, Compatibility::BestEffort));
    assert_eq!(json.expect("serializes"), r#"["direct","best_effort"]"#);
    assert!(serde_json::from_str::<NetworkMode>("\"isolated\"").is_err());
}
