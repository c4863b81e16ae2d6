//! Two daemons on one host.

use clawd_tests::{Address, Daemon, Prober};

use crate::support::{Denial, PYTHON_ENTRY, World, direct, group, tcp};

fn only(address: &str) -> String {
    let endpoint = format!("{{ host: {address}, port: 7000 }}");
    direct(&group("g", &endpoint, PYTHON_ENTRY))
}

#[test]
fn two_daemons_judge_their_own_sandboxes_and_stop_no_others() {
    let mut world = World::start();
    let mut other = Daemon::start(Some(&world.internet)).unwrap();
    // Of the same name, and, as each counts for itself, of the same numbers.
    let mut here = world.prober("box", &only(Address::A));
    let mut there = Prober::start(&other, "box", &only(Address::B)).unwrap();
    let want = Denial::tcp("address_not_listed", Address::B, 7000);
    world.allows(&mut here, &tcp(Address::A, 7000));
    world.refuses(&mut here, "box", &tcp(Address::B, 7000), &want);
    world.allows(&mut there, &tcp(Address::B, 7000));
    assert_eq!(there.ask(&tcp(Address::A, 7000))["name"], "EPERM");
    // Each log has its own alone.
    let denied_there = |daemon: &Daemon| -> Vec<String> {
        let denials = daemon.audit().into_iter();
        denials
            .filter(|record| record["action"] == "denied")
            .filter_map(|record| record["dst_ip"].as_str().map(str::to_owned))
            .collect()
    };
    assert_eq!(denied_there(&world.daemon), [Address::B]);
    assert_eq!(denied_there(&other), [Address::A]);

    // A kill of one is nothing to the other, and neither is the end of all of its sandboxes.
    world.daemon.restart().unwrap();
    world.allows(&mut there, &tcp(Address::B, 7000));
    let stopped = world.daemon.clawctl(["stop", "--all"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!((world.daemon.ps().len(), other.ps().len()), (0, 1));
    world.daemon.finish().unwrap();
    assert!(!world.daemon.paths().exist());
    world.allows(&mut there, &tcp(Address::B, 7000));
    assert_eq!(there.ask(&tcp(Address::A, 7000))["name"], "EPERM");
    assert_eq!(there.ask(&tcp(Address::C, 7000))["name"], "EPERM");
    assert!(there.end().unwrap().success());
    other.finish().unwrap();
    assert!(!other.paths().exist());
}
