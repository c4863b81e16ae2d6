//! How much of a policy the maps hold, and what is said of one that does not fit.

use clawd_common::decide::GRANT_BITS;

use super::meaning::{policy, with_endpoints};
use crate::{Binary, BinaryMatcher, CompileError, Policy, PortSet, compile, limits};

#[test]
fn addresses_inside_what_everybody_is_denied_are_one_class() {
    let text = "version: 2\nnetwork: { mode: direct }\nnetwork_policies:\n  \
                no: { action: deny, endpoints: [{ cidr: 10.0.0.0/8 }, { cidr: 10.1.0.0/16 }] }\n";
    let hosts: String = (1..=200)
        .map(|i| format!("{{ host: 10.1.2.{i}, port: {i} }}, "))
        .collect();
    let allow = format!("  yes: {{ endpoints: [{hosts}], binaries: [{{ path: /bin/x }}] }}\n");
    let image = compile(&policy(&format!("{text}{allow}")), 1).expect("fits");
    assert_eq!(image.addresses.len(), 1, "the widest");
    assert_eq!(image.rules.len(), 2, "TCP and UDP");
}

/// What the largest real policies are like, in the time that a push may take of which this is a part.
#[test]
fn ten_thousand_hosts_with_ports_fit() {
    let endpoints: Vec<String> = (0..10_000)
        .map(|i| {
            let (host, port) = (format!("10.{}.{}.{}", i / 2500, i / 50 % 50, i % 50), i + 1);
            format!("{{ host: {host}, port: {port} }}")
        })
        .collect();
    let policy = with_endpoints(&endpoints);
    let image = compile(&policy, 1).expect("fits");
    assert_eq!(image.addresses.len(), 10_000);
    assert_eq!((image.ports.len(), image.rules.len()), (10_000, 10_000));
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
    assert_eq!(
        full.map(|image| image.rules.len()),
        Ok(limits::MAX_ADDRESS_CLASSES)
    );

    // A checked policy cannot have these; one that is put together can.
    let mut policy = with_endpoints(&classes(limits::MAX_ADDRESS_CLASSES));
    let mut extra = policy.rules[0].endpoints[0].clone();
    extra.prefix = crate::Prefix::new([10, 200, 0, 0].into(), 32).expect("zeros");
    extra.ports = PortSet::single(50_000);
    policy.rules[0].endpoints.push(extra);
    let told = |policy: &Policy| compile(policy, 1).expect_err("too large").to_string();
    let message = told(&policy);
    assert!(
        message.contains("more than 16384 kinds of addresses")
            && message.contains("network_policies.g (line 4)"),
        "{message}"
    );
    let binary = Binary {
        matcher: BinaryMatcher::Sha256([0; 32]),
        descendants: false,
    };
    policy.rules[0].binaries = vec![binary; GRANT_BITS + 1];
    let found = GRANT_BITS + 1;
    assert_eq!(compile(&policy, 1), Err(CompileError::Binaries { found }));
}

#[test]
fn compile_names_the_rules_that_do_not_fit_together() {
    let wide = |endpoints: String| {
        policy(&format!(
            "version: 2\nnetwork: {{ mode: direct }}\nnetwork_policies:\n  \
             narrow:\n    endpoints: [{endpoints}]\n    binaries: [{{ path: /bin/x }}]\n  \
             small: {{ endpoints: [{{ host: 192.0.2.1, port: 1 }}], binaries: [{{ path: /bin/x }}] }}\n  \
             wide:\n    endpoints: [{{ cidr: 10.0.0.0/8, ports: [1-65535] }}]\n    \
             binaries: [{{ path: /bin/y }}]\n"
        ))
    };
    let narrow = |count: usize| {
        let host = |i: usize| {
            format!(
                "{{ host: 10.0.{}.{}, port: {} }}, ",
                i / 250,
                i % 250,
                2 * i + 2
            )
        };
        (0..count).map(host).collect::<String>()
    };
    let fits = compile(&wide(narrow(200)), 1).expect("fits");
    // Each of the hosts, and the rest, with the port of each, that of `small`, and the rest. And `small`.
    assert_eq!(fits.rules.len(), 201 * 202 + 1);
    let message = compile(&wide(narrow(500)), 1)
        .expect_err("too many")
        .to_string();
    assert!(
        message.starts_with(
            "the policy needs more than 131072 rules (kinds of addresses times kinds of ports), most of \
             them for network_policies.wide (line 8) and network_policies.narrow (line 4); "
        ),
        "{message}"
    );
}

#[test]
fn compile_gives_up_on_ranges_that_take_too_long() {
    let ranges = |count: usize, from: &dyn Fn(usize) -> String| -> Vec<String> {
        let host = |i: usize| {
            format!(
                "{{ host: 10.0.{}.{}, ports: [{}] }}",
                i / 250,
                i % 250,
                from(i)
            )
        };
        (0..count).map(host).collect()
    };
    let nested = ranges(4000, &|i| format!("{}-{}", i + 1, 60_000 - i));
    let message = compile(&with_endpoints(&nested), 1)
        .expect_err("too long")
        .to_string();
    assert!(
        message.contains("steps to compile") && message.contains("network_policies.g (line 4)"),
        "{message}"
    );
    let pieces = ranges(8000, &|i| format!("{}-{}", 8 * i + 1, 8 * i + 6));
    let image = compile(&with_endpoints(&pieces), 1).expect("fits");
    assert_eq!(image.ports.len(), 8000 * 4, "1, 2-3, 4-5, 6");
}
