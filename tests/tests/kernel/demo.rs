//! What a first demonstration shows.

use clawd_tests::{Address, Prober};
use serde_json::json;

use crate::support::{World, direct, group};

#[test]
fn curl_to_the_listed_address_reaches_it() {
    let world = World::start();
    let policy = direct(&group(
        "g",
        "{ host: 192.0.2.10, port: 80 }",
        "{ path: /usr/bin/curl }",
    ));
    let output = world
        .daemon
        .run(&policy, &["curl", "-sS", "http://192.0.2.10/small"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "small file\n",
        "{output:?}"
    );
    assert_eq!(world.internet.contacts_at(Address::A, 80).len(), 1);
    let mut prober = Prober::start(&world.daemon, "probe", &policy).unwrap();
    let answer = prober.ask(&json!({ "do": "tcp", "addr": "192.0.2.10", "port": 80 }));
    assert_eq!(answer["name"], "EPERM");
}
