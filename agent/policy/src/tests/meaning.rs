//! What valid policies mean, value by value.

use std::{collections::BTreeMap, path::PathBuf};

use clawd_common::{
    addr::Addr,
    decide::{AddressKey, GRANT_BITS, PROTOCOL_TCP, Tables as _},
};

use super::robust::FULL;
use crate::{
    BinaryMatcher, Compatibility, CompileError, Filesystem, NetworkMode, Parsed, Policy, Process,
    Protocol, SeccompProfile, compile, limits, parse,
};

fn read(text: &str) -> Parsed {
    parse("p.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn policy(text: &str) -> Policy {
    read(text).policy
}

/// One group with the entries of `endpoints`, one to a line.
fn with_endpoints(endpoints: &[String]) -> Policy {
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
fn least_policy_has_the_safe_defaults() {
    let parsed = read("version: 2\n");
    assert_eq!(parsed.warnings, []);
    let want = Policy {
        filesystem: Filesystem::default(),
        process: Process::default(),
        network: NetworkMode::None,
        landlock: Compatibility::HardRequirement,
        env: BTreeMap::new(),
        rules: Vec::new(),
    };
    assert_eq!(parsed.policy, want);
    assert!(!want.filesystem.include_workdir);
    assert_eq!(want.process.seccomp, SeccompProfile::Default);
    let image = compile(&want, 1).expect("fits");
    assert!(image.addresses.is_empty() && image.rules.is_empty());
}

#[test]
fn every_key_arrives() {
    let policy = policy(FULL);
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert!(policy.filesystem.include_workdir);
    assert_eq!(policy.filesystem.read_only, paths(&["/etc/a", "/etc/b"]));
    assert_eq!(policy.filesystem.read_execute, paths(&["/usr"]));
    assert_eq!(policy.filesystem.read_write, paths(&["/tmp"]));
    assert_eq!(policy.landlock, Compatibility::BestEffort);
    assert_eq!(policy.process.run_as_user.as_deref(), Some("agent"));
    assert_eq!(policy.process.run_as_group.as_deref(), Some("1000"));
    assert_eq!(policy.process.seccomp, SeccompProfile::Strict);
    assert_eq!(policy.network, NetworkMode::Direct);
    assert_eq!(policy.env.get("LANG").map(String::as_str), Some("C.UTF-8"));
    let names: Vec<&str> = policy
        .rules
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    assert_eq!(names, ["again", "web"], "sorted by name");
    let web = &policy.rules[1];
    assert_eq!(web.title.as_deref(), Some("Web"));
    assert_eq!(web.endpoints[0].protocol, Protocol::Tcp);
    assert_eq!(web.endpoints[1].protocol, Protocol::Udp);
    assert_eq!(web.endpoints[1].prefix.to_string(), "2001:db8::/32");
    let ports: Vec<u16> = std::iter::once(80).chain(9000..=9010).collect();
    assert_eq!(web.endpoints[1].ports, ports);
    let grants: Vec<String> = policy.grants().iter().map(ToString::to_string).collect();
    let want = [
        "network_policies.again.binaries[0]",
        "network_policies.again.binaries[1]",
        "network_policies.web.binaries[0]",
        "network_policies.web.binaries[1]",
    ];
    assert_eq!(grants, want);
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
    let BinaryMatcher::Sha256(hash) = parsed.rules[0].binaries[0] else {
        panic!("a path");
    };
    assert_eq!(hash[..5], [0x12, 0x34, 0x56, 0x78, 0x90]);
    assert_eq!(
        parsed.rules[0].binaries[2],
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
        "4:3: no entry of `network_policies` has an effect in network mode `none`",
        "4:3: network policy `g` has no `binaries`: it allows nobody",
        "5:3: network policy `h` has no `endpoints`: it allows no destination",
    ];
    assert_eq!(shown, want);
    let warning = &read(text).warnings[0];
    assert!(
        warning.to_string().starts_with("p.yaml:2:34: warning: "),
        "{warning}"
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
    // The hosts: 22 (pushed down), 80, 443; the rest of the network: 22.
    assert_eq!(image.rules.len(), 4);
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
    assert!(image.rules.iter().all(|(key, mask)| {
        key.policy_id == 3 && key.protocol == PROTOCOL_TCP && mask.words == [1, 0, 0, 0]
    }));
}

#[test]
fn compile_refuses_what_the_maps_cannot_hold() {
    let least = policy("version: 2\n");
    assert_eq!(compile(&least, 0), Err(CompileError::PolicyId));

    let host = |i: usize, ports: &str| format!("{{ host: 10.0.{}.{}, {ports} }}", i / 250, i % 250);
    let classes = |count: usize| -> Vec<String> {
        (0..count)
            .map(|i| host(i, &format!("port: {}", i + 1)))
            .collect()
    };
    let full = compile(&with_endpoints(&classes(limits::MAX_ADDRESS_CLASSES)), 1);
    assert_eq!(full.map(|image| image.rules.len()), Ok(4096));

    let rules = |count: usize| -> Vec<String> {
        (0..count)
            .map(|i| host(i, &format!("ports: [{}-{}]", i + 1, i + 1024)))
            .collect()
    };
    let full = compile(&with_endpoints(&rules(64)), 1);
    assert_eq!(full.map(|image| image.rules.len()), Ok(limits::MAX_RULES));
    assert_eq!(
        compile(&with_endpoints(&rules(65)), 1),
        Err(CompileError::Rules)
    );

    // A checked policy cannot have these; one that is put together can.
    let mut policy = with_endpoints(&classes(4096));
    let mut extra = policy.rules[0].endpoints[0].clone();
    extra.prefix = crate::Prefix::new([10, 9, 0, 0].into(), 32).expect("zeros");
    extra.ports = vec![5000];
    policy.rules[0].endpoints.push(extra);
    assert_eq!(compile(&policy, 1), Err(CompileError::AddressClasses));
    policy.rules[0].binaries = vec![BinaryMatcher::Sha256([0; 32]); GRANT_BITS + 1];
    let found = GRANT_BITS + 1;
    assert_eq!(compile(&policy, 1), Err(CompileError::Binaries { found }));
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
