//! Names in policies: read, checked and explained, and refused where a policy is to be put in force.

use crate::{
    Checked, Explainer, Explanation,
    PolicyErrorKind::{self, NotEnforced, Value},
    Protocol, Question, Who, parse, read,
};

const POLICY: &str = "version: 2
network: { mode: direct }
network_policies:
  api:
    endpoints:
      - { host: API.example.com, port: 443 }
      - { host: \"*.cdn.example.com\", ports: [80, 443] }
      - { host: 192.0.2.1, port: 443 }
      - { host: \"**.example.net\", port: 53, protocol: udp }
    binaries: [{ path: /usr/bin/curl }]
  no_mail:
    action: deny
    endpoints: [{ port: 25 }]
  no_old:
    action: deny
    endpoints: [{ host: old.cdn.example.com }, { cidr: 10.0.0.0/8 }, { cidr: 0.0.0.0/0, port: 80 }]
  mail:
    endpoints: [{ host: mx.example.com, port: 25 }]
    binaries: [{ path: /usr/bin/curl }]
";

fn checked(text: &str) -> Checked {
    read("p.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn lines(errors: &crate::PolicyErrors) -> Vec<(PolicyErrorKind, String)> {
    let line = |error: &crate::PolicyError| {
        assert!(error.help.is_some(), "no help: {error}");
        let place = format!("{}:{}: {}", error.line, error.col, error.message);
        (error.kind, place)
    };
    errors.as_slice().iter().map(line).collect()
}

#[test]
fn names_are_read_and_refused_where_they_would_have_to_be_enforced() {
    let Checked {
        parsed,
        not_enforced,
    } = checked(POLICY);
    let group = &parsed.policy.rules[0];
    let names: Vec<String> = group
        .names
        .iter()
        .map(|name| format!("{} {} {}", name.host, name.protocol.name(), name.ports))
        .collect();
    let want = [
        "api.example.com tcp 443",
        "*.cdn.example.com tcp 80, 443",
        "**.example.net udp 53",
    ];
    assert_eq!(names, want);
    let places: Vec<String> = parsed.places[0]
        .names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(places, ["6:9", "7:9", "9:9"]);
    assert_eq!(parsed.places[0].endpoints[0].to_string(), "8:9");
    let denied = &parsed.policy.rules[3].names;
    assert_eq!(denied.len(), 2, "both protocols");

    let message =
        |host: &str| format!("host `{host}` is a name, and names are not enforced by this version");
    let want = [
        ("6:17", "API.example.com"),
        ("7:17", "*.cdn.example.com"),
        ("9:17", "**.example.net"),
        ("16:25", "old.cdn.example.com"),
        ("18:25", "mx.example.com"),
    ]
    .map(|(place, host)| (NotEnforced, format!("{place}: {}", message(host))));
    assert_eq!(lines(&not_enforced.expect("names")), want);
    let refused = parse("p.yaml", POLICY).expect_err("not enforced");
    assert_eq!(lines(&refused), want);
}

#[test]
fn policy_without_names_is_enforced_as_a_whole() {
    let text = "version: 2\nnetwork: { mode: direct }\nnetwork_policies:\n  \
                g: { endpoints: [{ host: 192.0.2.1, port: 1 }], binaries: [{ path: /bin/x }] }\n";
    let checked = checked(text);
    assert_eq!(checked.not_enforced, None);
    assert_eq!(parse("p.yaml", text), Ok(checked.parsed));
}

#[test]
fn hosts_that_are_no_names_are_mistakes() {
    for (host, want) in [
        (
            "a..example.com",
            "has a dot with nothing before or behind it",
        ),
        ("example.com.", "has a dot with nothing before or behind it"),
        ("\"*\"", "has a wildcard in its last two parts"),
        ("\"*.com\"", "has a wildcard in its last two parts"),
        ("\"a*.example.com\"", "has a `*` beside other characters"),
        ("\"a.**.example.com\"", "has `**` behind its first dot"),
        ("b\u{fc}cher.example", "holds a character outside ASCII"),
        (
            "ex!ample.com",
            "holds a character that host names do not have",
        ),
    ] {
        let text = format!(
            "version: 2\nnetwork: {{ mode: direct }}\nnetwork_policies:\n  \
             g: {{ endpoints: [{{ host: {host}, port: 1 }}], binaries: [{{ path: /bin/x }}] }}\n"
        );
        let errors = read("p.yaml", &text).expect_err(host);
        let bare = host.trim_matches('"');
        let want = format!("4:28: host `{bare}` {want}");
        assert_eq!(lines(&errors), [(Value, want)]);
    }
    let text =
        "version: 2\nnetwork: { mode: direct }\ningress: [{ host: a.example.com, port: 1 }]\n";
    let errors = read("p.yaml", text).expect_err("peers have no names");
    assert_eq!(errors.as_slice().len(), 1);
    assert_eq!(errors.as_slice()[0].kind, NotEnforced);
}

/// Outcome with the reason and the entry, and the explanation.
fn ask(binary: &str, host: &str, service: (Protocol, u16)) -> (String, Explanation) {
    let mut explainer = Explainer::new("p.yaml", checked(POLICY).parsed).expect("fits");
    let question = Question {
        who: Who {
            binary: binary.into(),
            sha256: None,
            ancestors: Vec::new(),
        },
        host: host.to_owned(),
        port: service.1,
        protocol: service.0,
    };
    let answer = explainer.decide(&question).expect("a question");
    let policy = explainer.policy_of(&answer).unwrap_or("-");
    let outcome = if answer.allowed { "allowed" } else { "denied" };
    let told = format!("{outcome} {} {policy}", answer.reason);
    (told, explainer.explain(&question, &answer))
}

#[test]
fn names_are_decided_like_addresses() {
    const CURL: &str = "/usr/bin/curl";
    let tcp = |host: &str, port| ask(CURL, host, (Protocol::Tcp, port)).0;
    assert_eq!(tcp("api.EXAMPLE.com", 443), "allowed rule api");
    assert_eq!(tcp("api.example.com.", 443), "allowed rule api");
    assert_eq!(tcp("a.cdn.example.com", 80), "allowed rule api");
    assert_eq!(
        tcp("old.cdn.example.com", 80),
        "denied denied_by_rule no_old"
    );
    assert_eq!(
        tcp("old.cdn.example.com", 25),
        "denied denied_by_rule no_mail"
    );
    assert_eq!(tcp("a.b.cdn.example.com", 80), "denied name_not_listed -");
    assert_eq!(tcp("api.example.com", 80), "denied port_not_listed -");
    assert_eq!(tcp("a.example.net", 53), "denied port_not_listed -");
    let (told, _) = ask(CURL, "a.b.example.net", (Protocol::Udp, 53));
    assert_eq!(told, "allowed rule api");
    let (told, _) = ask("/usr/bin/wget", "api.example.com", (Protocol::Tcp, 443));
    assert_eq!(told, "denied binary_not_listed -");
    // What denies all addresses denies whatever a name stands for; of one family only, not.
    assert_eq!(tcp("mx.example.com", 25), "denied denied_by_rule no_mail");
    // The address is judged by what lists addresses alone.
    assert_eq!(tcp("192.0.2.1", 443), "allowed rule api");
    assert_eq!(tcp("192.0.2.2", 443), "denied port_not_listed -");
}

#[test]
fn names_are_explained_with_their_places() {
    const CURL: &str = "/usr/bin/curl";
    let (_, explanation) = ask(CURL, "a.cdn.example.com", (Protocol::Tcp, 443));
    assert_eq!(
        explanation.why,
        [
            "entry `api` (p.yaml:4:3) allows it",
            "its endpoint p.yaml:7:9 covers the destination: *.cdn.example.com, tcp ports 80, 443",
            "its binary p.yaml:10:16 means the program: /usr/bin/curl",
            "entry `no_mail` (p.yaml:11:3) denies addresses: it wins where the name stands for one of them",
        ]
    );
    let near = |host: &str, service| ask(CURL, host, service).1.near_misses;
    assert_eq!(
        near("api.example.com", (Protocol::Tcp, 80)),
        ["entry `api` (p.yaml:4:3) would allow it if the port were 443"]
    );
    assert_eq!(
        near("a.example.net", (Protocol::Tcp, 53)),
        ["entry `api` (p.yaml:4:3) would allow it if the protocol were udp"]
    );
    assert_eq!(
        near("203.0.113.1", (Protocol::Tcp, 443)),
        [
            "entry `api` (p.yaml:4:3) would allow it if the host were in 192.0.2.1/32 or \
             api.example.com or *.cdn.example.com"
        ]
    );
    assert_eq!(
        near("mx.example.com", (Protocol::Tcp, 25)),
        [
            "entry `mail` (p.yaml:17:3) would allow it if entry `no_mail` (p.yaml:11:3) did not deny it"
        ]
    );
}
