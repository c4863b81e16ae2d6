//! N8: no socket option has packets go by way of another host than the one that is judged.

use clawd_tests::{Address, PYTHON, UDP_ECHO};
use serde_json::{Value, json};

use super::reaching;
use crate::support::{World, check_whose, told_alive};

const SCRIPT: &str = include_str!("../../../escapes/n08_routes.py");
const EPERM: i64 = 1;
/// Levels, and the options of each that may hold a route. So many calls of a name in a second have records
/// of their own.
const OPTIONS: [(i64, &str, &[i64]); 2] = [
    (0, "IPPROTO_IP", &[4]),
    (41, "IPPROTO_IPV6", &[3, 4, 5, 6, 32, 54, 55, 57, 59]),
];

#[test]
fn n8_options_that_may_hold_a_route_are_refused_and_packets_go_straight() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A, Address::A6], ""));
    let before = world.internet.traffic().expect("counters").datagrams;
    let ask = json!({
        "near": [Address::A, Address::A6], "far": [Address::C, Address::C6], "port": UDP_ECHO
    });
    let argv = [PYTHON, "-I", "-c", SCRIPT, &ask.to_string()];
    let (told, pid) = told_alive(&mut prober, &argv, |told| {
        world.host_pid("box", &told["pid"])
    });
    let each = |tell: &dyn Fn(i64, &str, i64) -> Value| -> Vec<Value> {
        let levels = OPTIONS.iter();
        levels
            .flat_map(|(level, name, options)| {
                options
                    .iter()
                    .map(move |option| tell(*level, name, *option))
            })
            .collect()
    };
    let refused = each(&|level, _, option| json!([level, option, EPERM]));
    assert_eq!(told["outcomes"], Value::from(refused.clone()));

    // A datagram after each attempt, to whom it was addressed.
    let near = [Address::A, Address::A6].map(|near| world.internet.contacts_at(near, UDP_ECHO));
    let near = near.each_ref().map(Vec::len);
    assert_eq!(near, OPTIONS.map(|(_, _, options)| options.len()));
    let after = world.internet.traffic().expect("counters").datagrams;
    assert_eq!(after - before, refused.len() as u64);

    let denials = world.denials("box", 0);
    let told: Vec<_> = denials
        .iter()
        .map(|record| record["arguments"].clone())
        .collect();
    let want = each(&|_, level, option| json!(format!("level={level} name={option}")));
    assert_eq!(told, want, "{denials:?}");
    for denial in &denials {
        assert_eq!(denial["activity"], "syscall", "{denial}");
        assert_eq!(denial["syscall"], "setsockopt", "{denial}");
        assert_eq!(denial["reason"], "syscall_denied", "{denial}");
        assert_eq!(denial["class"]["uid"], 1003, "{denial}");
        assert_eq!(denial["policy_generation"], 1, "{denial}");
        check_whose(denial, pid, PYTHON);
    }
}
