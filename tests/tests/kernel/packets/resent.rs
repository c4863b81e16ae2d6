//! N5: a connected datagram socket is no way to anybody else.

use clawd_tests::{Address, PYTHON, UDP_ECHO};
use serde_json::json;

use super::reaching;
use crate::support::{World, check_whose, told_alive};

const SCRIPT: &str = include_str!("../../../escapes/n05_resent.py");
const EPERM: i64 = 1;
const EDESTADDRREQ: i64 = 89;

#[test]
fn n5_connected_datagram_socket_reaches_its_peer_alone() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A, Address::A6], ""));
    let mut seq = 0;
    for (near, far) in [(Address::A, Address::B), (Address::A6, Address::B6)] {
        let is_v4 = near == Address::A;
        let before = world.internet.traffic().expect("counters").datagrams;
        let ask = json!({ "near": near, "far": far, "port": UDP_ECHO }).to_string();
        let argv = [PYTHON, "-I", "-c", SCRIPT, &ask];
        let (told, pid) = told_alive(&mut prober, &argv, |told| {
            world.host_pid("box", &told["pid"])
        });
        let want = json!({
            "sendto": EPERM,
            "sendmsg": EPERM,
            "sendmmsg": EPERM,
            // It is told of the peer at the call, and found out by the packet.
            "of no family": if is_v4 { json!(EPERM) } else { json!("ping") },
            "connect": EPERM,
            "still its peer": "ping",
            "disconnect": 0,
            "no peer": EDESTADDRREQ,
            "sendto afterwards": EPERM,
            "its peer by name": "ping",
        });
        assert_eq!(told["outcomes"], want, "{near}");

        // What its peer heard, and nothing else left the host.
        let heard = if is_v4 { 2 } else { 3 };
        assert_eq!(world.internet.contacts_at(near, UDP_ECHO).len(), heard);
        assert!(world.internet.contacts_at(far, UDP_ECHO).is_empty());
        let after = world.internet.traffic().expect("counters").datagrams;
        assert_eq!(after - before, heard as u64, "{near}");

        let denials = world.denials("box", seq);
        seq = denials
            .last()
            .map_or(0, |last| last["seq"].as_u64().expect("a number"));
        let told: Vec<_> = denials
            .iter()
            .map(|denial| denial["activity"].as_str())
            .collect();
        let by_packet: &[_] = if is_v4 { &[Some("send")] } else { &[] };
        let want = [
            &[Some("sendmsg"); 3],
            by_packet,
            &[Some("connect"), Some("sendmsg")],
        ];
        assert_eq!(told, want.concat(), "{denials:?}");
        for denial in &denials {
            assert_eq!(denial["reason"], "address_not_listed", "{denial}");
            assert_eq!(denial["dst_ip"], far, "{denial}");
            assert_eq!(denial["dst_port"], UDP_ECHO, "{denial}");
            assert_eq!(denial["protocol"], "udp", "{denial}");
            check_whose(denial, pid, PYTHON);
        }
    }
}
