//! Why an attempt is allowed or denied, in words, with the places in the file.

use crate::{Explainer, Explanation, NetworkMode, Protocol, Question, QuestionError, Who, parse};

const POLICY: &str = "version: 2
network: { mode: direct }
network_policies:
  web:
    endpoints:
      - { host: 192.0.2.10, port: 443 }
      - { cidr: 198.51.100.0/24, ports: [22, 9000-9010] }
      - { cidr: \"2001:db8::/32\", port: 53, protocol: udp }
    binaries:
      - { path: /usr/bin/curl }
      - { path: \"/opt/agent/*\", descendants: true }
      - { path: /usr/bin/git }
  other:
    endpoints: [{ host: 192.0.2.11, port: 443 }]
    binaries: [{ sha256: abababababababababababababababababababababababababababababababab }]
  nobody:
    endpoints: [{ host: 192.0.2.12, port: 1 }]
  never:
    action: deny
    endpoints: [{ host: 198.51.100.66 }]
  not_curl:
    action: deny
    endpoints: [{ cidr: 198.51.100.128/25, port: 22 }]
    binaries: [{ path: /usr/bin/curl }]
";

fn explainer(text: &str) -> Explainer {
    let parsed = parse("p.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
    Explainer::new("p.yaml", parsed).expect("fits")
}

fn question(binary: &str, host: &str, port: u16) -> Question {
    Question {
        who: Who {
            binary: binary.into(),
            sha256: None,
            ancestors: Vec::new(),
        },
        host: host.to_owned(),
        port,
        protocol: Protocol::Tcp,
    }
}

/// Outcome with the reason, why, and near misses.
fn ask(explainer: &mut Explainer, question: &Question) -> (String, Explanation) {
    let answer = explainer.decide(question).expect("a question");
    let outcome = match answer.allowed {
        true => "allowed",
        false => "denied",
    };
    let policy = explainer.policy_of(&answer).unwrap_or("-");
    let told = format!("{outcome} {} {policy}", answer.reason);
    (told, explainer.explain(question, &answer))
}

fn check(question: &Question, outcome: &str, why: &[&str], near_misses: &[&str]) {
    let (told, explanation) = ask(&mut explainer(POLICY), question);
    assert_eq!(told, outcome, "{question:?}");
    assert_eq!(explanation.why, why, "{question:?}");
    assert_eq!(explanation.near_misses, near_misses, "{question:?}");
}

#[test]
fn allowed_names_entry_endpoint_and_binary_with_their_places() {
    check(
        &question("/usr/bin/git", "198.51.100.7", 9005),
        "allowed rule web",
        &[
            "entry `web` (p.yaml:4:3) allows it",
            "its endpoint p.yaml:7:9 covers the destination: 198.51.100.0/24, tcp ports 22, 9000-9010",
            "its binary p.yaml:12:9 means the program: /usr/bin/git",
        ],
        &[],
    );
    let mut asked = question("/bin/sh", "2001:db8::1", 53);
    asked.protocol = Protocol::Udp;
    asked.who.ancestors = vec!["/sbin/init".into(), "/opt/agent/run".into()];
    check(
        &asked,
        "allowed rule web",
        &[
            "entry `web` (p.yaml:4:3) allows it",
            "its endpoint p.yaml:8:9 covers the destination: 2001:db8::/32, udp port 53",
            "its binary p.yaml:11:9 means an ancestor, with its descendants: /opt/agent/*",
        ],
        &[],
    );
}

#[test]
fn denied_by_rule_names_what_would_allow_it() {
    check(
        &question("/usr/bin/git", "198.51.100.66", 22),
        "denied denied_by_rule never",
        &[
            "entry `never` (p.yaml:18:3) denies it, whatever allows it",
            "its endpoint p.yaml:20:17 covers the destination: 198.51.100.66/32, tcp ports 1-65535",
            "it has no `binaries`: every program is denied",
        ],
        &["entry `web` (p.yaml:4:3) would allow it if entry `never` (p.yaml:18:3) did not deny it"],
    );
    check(
        &question("/usr/bin/curl", "198.51.100.200", 22),
        "denied denied_by_rule not_curl",
        &[
            "entry `not_curl` (p.yaml:21:3) denies it, whatever allows it",
            "its endpoint p.yaml:23:17 covers the destination: 198.51.100.128/25, tcp port 22",
            "its binary p.yaml:24:16 means the program: /usr/bin/curl",
        ],
        &[
            "entry `web` (p.yaml:4:3) would allow it if entry `not_curl` (p.yaml:21:3) did not deny it",
        ],
    );
}

#[test]
fn denied_tells_near_misses_of_one_thing() {
    let curl = "/usr/bin/curl";
    check(
        &question("/usr/bin/wget", "192.0.2.10", 443),
        "denied binary_not_listed -",
        &["the destination is listed, but not for this program"],
        &[
            "entry `web` (p.yaml:4:3) would allow it if the binary were /usr/bin/curl or /opt/agent/* or /usr/bin/git",
        ],
    );
    check(
        &question(curl, "192.0.2.10", 80),
        "denied port_not_listed -",
        &["endpoints cover 192.0.2.10, but none of them tcp port 80"],
        &["entry `web` (p.yaml:4:3) would allow it if the port were 443"],
    );
    check(
        &question(curl, "2001:db8::1", 53),
        "denied port_not_listed -",
        &["endpoints cover 2001:db8::1, but none of them tcp port 53"],
        &["entry `web` (p.yaml:4:3) would allow it if the protocol were udp"],
    );
    check(
        &question(curl, "203.0.113.1", 443),
        "denied address_not_listed -",
        &["no endpoint covers 203.0.113.1"],
        &["entry `web` (p.yaml:4:3) would allow it if the host were in 192.0.2.10/32"],
    );
    check(
        &question(curl, "api.example.com", 443),
        "denied name_not_listed -",
        &["no entry lists the name api.example.com"],
        &["entry `web` (p.yaml:4:3) would allow it if the host were an address in 192.0.2.10/32"],
    );
    check(
        &question(curl, "192.0.2.12", 1),
        "denied binary_not_listed -",
        &["the destination is listed, but not for this program"],
        &[
            "entry `nobody` (p.yaml:16:3) would allow it if it had `binaries`: without them it allows nobody",
        ],
    );
    let mut asked = question("/bin/sh", "192.0.2.10", 443);
    asked.who.ancestors = vec![curl.into()];
    check(
        &asked,
        "denied binary_not_listed -",
        &["the destination is listed, but not for this program"],
        &[
            "entry `web` (p.yaml:4:3) would allow it if its binary /usr/bin/curl had `descendants: true`: \
             an ancestor of the program is meant",
        ],
    );
    // Two things: not near.
    check(
        &question("/usr/bin/wget", "192.0.2.10", 80),
        "denied port_not_listed -",
        &["endpoints cover 192.0.2.10, but none of them tcp port 80"],
        &[],
    );
}

#[test]
fn hash_counts_only_where_the_question_has_one() {
    let mut asked = question("/usr/bin/x", "192.0.2.11", 443);
    let digits = "ab".repeat(32);
    check(
        &asked,
        "denied binary_not_listed -",
        &[
            "the destination is listed, but not for this program",
            "entry `other` (p.yaml:13:3) names a SHA-256, which is not compared: the question has none",
        ],
        &[&format!(
            "entry `other` (p.yaml:13:3) would allow it if the binary were the file with SHA-256 {digits}"
        )],
    );
    asked.who.sha256 = Some([0xab; 32]);
    let (told, _) = ask(&mut explainer(POLICY), &asked);
    assert_eq!(told, "allowed rule other");
    asked.who.sha256 = Some([0xac; 32]);
    let (told, _) = ask(&mut explainer(POLICY), &asked);
    assert_eq!(told, "denied binary_not_listed -");
}

#[test]
fn network_mode_none_leaves_the_own_loopback_alone() {
    let text = POLICY.replace("mode: direct", "mode: none");
    let (curl, git) = ("/usr/bin/curl", "/usr/bin/git");
    let mut explainer = explainer(&text);
    let (told, explanation) = ask(&mut explainer, &question(curl, "192.0.2.10", 443));
    assert_eq!(told, "denied no_network -");
    assert_eq!(
        explanation.near_misses,
        ["entry `web` (p.yaml:4:3) would allow it if the network mode were `direct`"]
    );
    let (told, explanation) = ask(&mut explainer, &question(git, "198.51.100.66", 22));
    assert_eq!(told, "denied no_network -");
    assert_eq!(explanation.near_misses, [""; 0], "denied there, too");
    let loopback = question("/bin/any", "127.0.0.1", 8080);
    let (told, _) = ask(&mut explainer, &loopback);
    assert_eq!(told, "allowed own_loopback -");
    let mut narrowed = self::explainer(POLICY);
    let (told, explanation) = ask(&mut narrowed, &loopback);
    assert_eq!(told, "denied address_not_listed -");
    assert_eq!(
        explanation.why[1],
        "a server of the sandbox's own is reached on loopback without a rule"
    );
    let mut narrowed = narrowed.in_network(NetworkMode::None);
    let (told, _) = ask(&mut narrowed, &question(curl, "192.0.2.10", 443));
    assert_eq!(told, "denied no_network -");
}

#[test]
fn destinations_that_no_rule_allows_say_so() {
    let text = "version: 2\nnetwork: { mode: direct }\nnetwork_policies:\n  all:\n    \
                endpoints: [{ cidr: 0.0.0.0/0, port: 1 }, { cidr: \"::/0\", port: 1 }]\n    \
                binaries: [{ path: /bin/x }]\n";
    let mut explainer = explainer(text);
    for (host, reason) in [
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("fe80::1", "link_local_without_scope"),
        ("64:ff9b::1", "embedded_address"),
    ] {
        let (told, explanation) = ask(&mut explainer, &question("/bin/x", host, 1));
        assert_eq!(told, format!("denied {reason} -"));
        assert_ne!(explanation.why, [reason], "in words");
        assert_eq!(
            explanation.near_misses,
            ["entry `all` (p.yaml:4:3) means it, but such a destination is always refused"]
        );
    }
    for host in ["::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.1"] {
        let (told, _) = ask(&mut explainer, &question("/bin/x", host, 1));
        assert_eq!(told, "allowed rule all", "{host}");
    }
}

#[test]
fn question_that_is_none_is_refused() {
    let mut explainer = explainer(POLICY);
    for host in [
        "",
        "127.1",
        "010.0.0.1",
        "192.0.2.0/24",
        "[::1]",
        "::1:x",
        "fe80::1%",
        "192.0.2.1%eth0",
        "https://x/",
        "a b",
        "a\u{1b}",
    ] {
        let asked = question("/bin/x", host, 1);
        let text = host.to_owned();
        assert_eq!(explainer.decide(&asked), Err(QuestionError::Host { text }));
    }
    let mut asked = question("curl", "192.0.2.1", 1);
    let text = "curl".to_owned();
    let want = Err(QuestionError::Program { text });
    assert_eq!(explainer.decide(&asked), want);
    asked.who.binary = "/bin/sh".into();
    asked.who.ancestors = vec!["curl".into()];
    assert_eq!(explainer.decide(&asked), want);
}

#[test]
fn aliased_entries_have_the_place_of_their_text() {
    let text = "version: 2\nnetwork: { mode: direct }\nnetwork_policies:\n  \
                b: { endpoints: &e [{ host: 192.0.2.1, port: 1 }], binaries: [{ path: /bin/b }] }\n  \
                a: { endpoints: *e, binaries: [{ path: /bin/a }] }\n";
    let (_, explanation) = ask(&mut explainer(text), &question("/bin/a", "192.0.2.1", 1));
    assert_eq!(explanation.why[0], "entry `a` (p.yaml:5:3) allows it");
    assert!(
        explanation.why[1].starts_with("its endpoint p.yaml:4:23 "),
        "{explanation:?}"
    );
}
