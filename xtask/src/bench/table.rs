//! What is measured, how often, and what it should keep to.

use std::path::Path;

use super::measures::{
    CALLS, GETS, Measure, NS_PER_US, Rounds, SENDS, Samples, TCP_CONNECTS, TRUE, UDP_CONNECTS,
    alone, bulk, daemon_cpu, per_item, rate, spawn,
};
use super::report::Bound;
use super::rig::{next_address, sink_address, web_address};
use super::{builds, crowd, execs, many, processes, rules};

/// Everything that can be measured, in this order: the idle daemon comes before what makes it work.
pub(crate) const MEASURES: &[Measure] = &[
    Measure {
        name: "clawd_idle_rss",
        unit: "MiB",
        about: "resident memory of a clawd that has done nothing yet",
        bound: Some(Bound::Below(30.0)),
        rounds: Rounds { quick: 1, full: 1 },
        run: |rig, _| alone(vec![rig.daemon().rss_mib()?]),
    },
    Measure {
        name: "gate_idle_rss",
        unit: "MiB",
        about: "resident memory of its exec gate then",
        bound: None,
        rounds: Rounds { quick: 1, full: 1 },
        run: |rig, _| alone(vec![rig.gate()?.rss_mib()?]),
    },
    Measure {
        name: "syscall",
        unit: "ns",
        about: "getppid(2), which the filters allow whatever its arguments",
        bound: Some(Bound::DifferenceAtMost(60.0)),
        rounds: Rounds {
            quick: 10,
            full: 50,
        },
        run: |rig, rounds| {
            let job = format!("call getppid {CALLS}");
            per_item(rig, rounds, &job, f64::from(CALLS))
        },
    },
    Measure {
        name: "syscall_judged",
        unit: "ns",
        about: "ioctl(2) of a pipe, whose arguments a filter must read",
        bound: Some(Bound::DifferenceAtMost(60.0)),
        rounds: Rounds {
            quick: 10,
            full: 50,
        },
        run: |rig, rounds| {
            let job = format!("call ioctl {CALLS}");
            per_item(rig, rounds, &job, f64::from(CALLS))
        },
    },
    Measure {
        name: "udp_connect",
        unit: "us",
        about: "connect(2) of one UDP socket to a listed address, again and again",
        bound: Some(Bound::DifferenceAtMost(1.0)),
        rounds: Rounds {
            quick: 20,
            full: 100,
        },
        run: |rig, rounds| {
            let job = format!("udp {} {UDP_CONNECTS}", sink_address());
            per_item(rig, rounds, &job, f64::from(UDP_CONNECTS) * NS_PER_US)
        },
    },
    Measure {
        name: "tcp_connect_close",
        unit: "us",
        about: "socket, connection to a server across a veth pair, close with a reset",
        bound: Some(Bound::DifferenceAtMost(4.0)),
        rounds: Rounds {
            quick: 30,
            full: 200,
        },
        run: |rig, rounds| {
            let job = format!("tcp {} {TCP_CONNECTS}", sink_address());
            per_item(rig, rounds, &job, f64::from(TCP_CONNECTS) * NS_PER_US)
        },
    },
    Measure {
        name: "http_get_fresh",
        unit: "us",
        about: "a connection to nginx, a small GET, the answer to its end",
        bound: Some(Bound::RatioAtMost(1.05)),
        rounds: Rounds {
            quick: 30,
            full: 200,
        },
        run: |rig, rounds| {
            let job = format!("get {} {GETS}", web_address());
            per_item(rig, rounds, &job, f64::from(GETS) * NS_PER_US)
        },
    },
    Measure {
        name: "bulk_tcp",
        unit: "MiB/s",
        about: "bytes sent over one connection",
        bound: Some(Bound::RatioAtLeast(0.97)),
        rounds: Rounds {
            quick: 20,
            full: 100,
        },
        run: bulk,
    },
    Measure {
        name: "udp_send_connected",
        unit: "1/ms",
        about: "small datagrams of a connected socket, in a millisecond",
        bound: Some(Bound::RatioAtLeast(0.85)),
        rounds: Rounds {
            quick: 10,
            full: 50,
        },
        run: |rig, rounds| {
            let job = format!("send connected {} {SENDS}", sink_address());
            rate(rig, rounds, &job)
        },
    },
    Measure {
        name: "udp_send_same",
        unit: "1/ms",
        about: "small datagrams with an address of their own, always the same one",
        bound: Some(Bound::RatioAtLeast(0.85)),
        rounds: Rounds {
            quick: 10,
            full: 50,
        },
        run: |rig, rounds| {
            let job = format!("send to {SENDS} {}", sink_address());
            rate(rig, rounds, &job)
        },
    },
    Measure {
        name: "udp_send_changing",
        unit: "1/ms",
        about: "the same with another address than the one before",
        bound: Some(Bound::RatioAtLeast(0.72)),
        rounds: Rounds {
            quick: 10,
            full: 50,
        },
        run: |rig, rounds| {
            let job = format!("send to {SENDS} {} {}", sink_address(), next_address());
            rate(rig, rounds, &job)
        },
    },
    Measure {
        name: "connect_many_rules",
        unit: "us",
        about: "connect(2) of a UDP socket under a policy with 10,000 rules; outside: with 10, in a sandbox too",
        bound: Some(Bound::RatioAtMost(1.15)),
        rounds: Rounds {
            quick: 15,
            full: 60,
        },
        run: rules::connects,
    },
    Measure {
        name: "connect_many_sandboxes",
        unit: "us",
        about: "the same beside 1,000 other sandboxes; outside: beside few, in a sandbox too",
        bound: Some(Bound::RatioAtMost(1.15)),
        rounds: Rounds {
            quick: 15,
            full: 30,
        },
        run: rules::among_sandboxes,
    },
    Measure {
        name: "push_1000",
        unit: "ms",
        about: "from a push of 1,000 rules until they are in force",
        bound: Some(Bound::Below(50.0)),
        rounds: Rounds { quick: 5, full: 20 },
        run: |rig, rounds| rules::pushes(rig, rounds, 1000),
    },
    Measure {
        name: "push_10000",
        unit: "ms",
        about: "the same with 10,000 rules",
        bound: Some(Bound::Below(500.0)),
        rounds: Rounds { quick: 3, full: 10 },
        run: |rig, rounds| rules::pushes(rig, rounds, 10_000),
    },
    Measure {
        name: "exec",
        unit: "us",
        about: "fork (vfork), exec and end of `true`, 16 in a row, by a program that runs already",
        bound: Some(Bound::DifferenceAtMost(60.0)),
        rounds: Rounds {
            quick: 15,
            full: 60,
        },
        run: |rig, rounds| execs::warm(rig, rounds, "dynamic", Path::new(TRUE)),
    },
    Measure {
        name: "exec_static",
        unit: "us",
        about: "the same of busybox's `true`, which is linked statically",
        bound: None,
        rounds: Rounds {
            quick: 15,
            full: 60,
        },
        run: |rig, rounds| match rig.static_true()? {
            Some(program) => execs::warm(rig, rounds, "static", &program),
            None => Ok(Samples::default()),
        },
    },
    Measure {
        name: "gate_hash_rate",
        unit: "GB/s",
        about: "bytes that the exec gate hashes, by how much longer a first exec takes than a second; \
                outside the same hash of the same cached files by one program",
        bound: Some(Bound::AtLeastOrRatio(1.5, 0.85)),
        rounds: Rounds { quick: 2, full: 8 },
        run: execs::hash_rate,
    },
    Measure {
        name: "first_connect_denials",
        unit: "",
        about: "denials of 1,000 programs a round that connect as soon as they are executed",
        bound: Some(Bound::None),
        rounds: Rounds {
            quick: 5,
            full: 100,
        },
        run: execs::first_connects,
    },
    Measure {
        name: "crowd_execs",
        unit: "1/s",
        about: "execs a second of ten sandboxes together that do nothing else; outside of ten processes",
        bound: Some(Bound::AtLeastWherePossible(10_000.0)),
        rounds: Rounds { quick: 2, full: 8 },
        run: crowd::rate,
    },
    Measure {
        name: "crowd_execs_missed",
        unit: "",
        about: "execs of those ten sandboxes, 5,000 a round, whose audit record is not `identified`",
        bound: Some(Bound::None),
        rounds: Rounds { quick: 2, full: 10 },
        run: crowd::missed,
    },
    Measure {
        name: "spawn",
        unit: "ms",
        about: "`clawctl run` of `true`, beside bubblewrap with the same namespaces",
        bound: Some(Bound::DifferenceAtMost(10.0)),
        rounds: Rounds {
            quick: 30,
            full: 150,
        },
        run: spawn,
    },
    Measure {
        name: "c_build",
        unit: "ms",
        about: "`make -j2` of 20 files in C, from nothing",
        bound: Some(Bound::RatioAtMost(1.03)),
        rounds: Rounds { quick: 3, full: 12 },
        run: builds::c,
    },
    Measure {
        name: "cargo_build",
        unit: "ms",
        about: "`cargo build` of six crates, two of them with build scripts, from nothing",
        bound: Some(Bound::RatioAtMost(1.03)),
        rounds: Rounds { quick: 3, full: 12 },
        run: builds::cargo,
    },
    Measure {
        name: "starts_100",
        unit: "s",
        about: "100 `clawctl run` at once, until the last command has said something; all live then",
        bound: Some(Bound::Below(3.0)),
        rounds: Rounds { quick: 1, full: 5 },
        run: |rig, rounds| many::starts(rig, rounds, 100),
    },
    Measure {
        name: "starts_1000",
        unit: "s",
        about: "1,000 of them",
        bound: Some(Bound::Below(40.0)),
        rounds: Rounds { quick: 1, full: 1 },
        run: |rig, rounds| many::starts(rig, rounds, 1000),
    },
    Measure {
        name: "rss_per_sandbox",
        unit: "MiB",
        about: "by how much 100 sandboxes make clawd and its exec gate larger, for each of them",
        bound: Some(Bound::Below(1.0)),
        rounds: Rounds { quick: 1, full: 3 },
        run: |rig, rounds| many::memory(rig, rounds, 100),
    },
    Measure {
        name: "clawd_cpu_per_1000_connects",
        unit: "ms",
        about: "processor time in which clawd writes down 1,000 allowed attempts",
        bound: None,
        rounds: Rounds { quick: 3, full: 8 },
        run: daemon_cpu,
    },
    Measure {
        name: "clawd_cpu_per_1000_execs",
        unit: "ms",
        about: "processor time in which clawd writes down 1,000 execs",
        bound: None,
        rounds: Rounds { quick: 3, full: 8 },
        run: |rig, rounds| processes::cpu_of_execs(rig, rounds, |rig| Ok(rig.daemon())),
    },
    Measure {
        name: "gate_cpu_per_1000_execs",
        unit: "ms",
        about: "processor time of the exec gate for 1,000 execs of a file that it knows",
        bound: None,
        rounds: Rounds { quick: 3, full: 8 },
        run: |rig, rounds| processes::cpu_of_execs(rig, rounds, |rig| rig.gate()),
    },
    Measure {
        name: "clawd_worked_rss",
        unit: "MiB",
        about: "resident memory of a clawd that did all that was measured before",
        bound: Some(Bound::Below(30.0)),
        rounds: Rounds { quick: 1, full: 1 },
        run: |rig, _| alone(vec![rig.daemon().rss_mib()?]),
    },
    Measure {
        name: "gate_worked_rss",
        unit: "MiB",
        about: "resident memory of its exec gate then",
        bound: None,
        rounds: Rounds { quick: 1, full: 1 },
        run: |rig, _| alone(vec![rig.gate()?.rss_mib()?]),
    },
    Measure {
        name: "host_exec",
        unit: "us",
        about: "fork, exec and end of `true` on the host while clawd runs; outside the same without clawd",
        bound: Some(Bound::RatioAtMost(1.02)),
        rounds: Rounds { quick: 5, full: 30 },
        run: processes::host_execs,
    },
];
