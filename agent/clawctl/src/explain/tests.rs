use clawd_policy::{Explainer, Protocol, Question, Who};

use super::rendered;

#[test]
fn explanation_is_shown_with_its_places_and_without_control_characters() {
    let text = "version: 2\nnetwork: { mode: direct }\nnetwork_policies:\n  web:\n    \
                endpoints: [{ cidr: \"2001:db8::/32\", port: 443 }]\n    binaries: [{ path: /usr/bin/curl }]\n";
    let parsed = clawd_policy::parse("p\u{1b}.yaml", text).expect("a policy");
    let mut explainer = Explainer::new("p\u{1b}.yaml", parsed).expect("fits");
    let mut ask = |port| {
        let question = Question {
            who: Who {
                binary: "/usr/bin/curl".into(),
                sha256: None,
                ancestors: Vec::new(),
            },
            host: "2001:db8::1".to_owned(),
            port,
            protocol: Protocol::Tcp,
        };
        let answer = explainer.decide(&question).expect("a question");
        rendered(&question, &answer, &explainer.explain(&question, &answer))
    };
    assert_eq!(
        ask(443),
        "allowed (rule): /usr/bin/curl to [2001:db8::1]:443, tcp\n  \
         entry `web` (p\\u{1b}.yaml:4:3) allows it\n  \
         its endpoint p\\u{1b}.yaml:5:17 covers the destination: 2001:db8::/32, tcp port 443\n  \
         its binary p\\u{1b}.yaml:6:16 means the program: /usr/bin/curl"
    );
    assert_eq!(
        ask(80),
        "DENIED (port_not_listed): /usr/bin/curl to [2001:db8::1]:80, tcp\n  \
         endpoints cover 2001:db8::1, but none of them tcp port 80\n\
         near misses:\n  \
         entry `web` (p\\u{1b}.yaml:4:3) would allow it if the port were 443"
    );
}
