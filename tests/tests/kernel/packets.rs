//! Packets by themselves: what passes no hook of a call is dropped, and told.

mod again;
mod end;
mod foreign;
mod handed;
mod headers;
mod ingress;
mod own;
mod pushes;
mod resent;
mod routes;
mod storm;

use std::time::Duration;

use clawd_tests::Prober;
use serde_json::{Value, json};

use crate::support::{PYTHON_ENTRY, World, code, direct, group};

/// How long something is waited for that must not come.
const NEVER: Duration = Duration::from_millis(700);

fn push(world: &World, sandbox: &str, policy: &str) {
    let file = world.daemon.policy_file(policy);
    let file = file.to_str().expect("UTF-8");
    let output = world
        .daemon
        .clawctl(["policy", "push", "--sandbox", sandbox, file])
        .output()
        .expect("clawctl");
    assert_eq!(code(&output), 0, "{output:?}");
}

/// A policy that lets Python reach `hosts` on port 7000, by TCP and UDP, with a line of its own.
fn reaching(hosts: &[&str], line: &str) -> String {
    let endpoints: Vec<_> = hosts
        .iter()
        .flat_map(|host| {
            ["tcp", "udp"]
                .map(|protocol| format!("{{ host: {host}, port: 7000, protocol: {protocol} }}"))
        })
        .collect();
    direct(&group("g", &endpoints.join(", "), PYTHON_ENTRY)) + line
}

/// Python code in the prober; what it prints is JSON.
fn python(prober: &mut Prober, code: &str) -> Value {
    let argv = json!(["/usr/bin/python3", "-I", "-c", code]);
    let answer = prober.ask(&json!({ "do": "run", "argv": argv }));
    let out = answer["ok"]["out"].as_str().unwrap_or_default();
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The denials of packets, as reason and other side's address.
fn dropped(world: &World, sandbox: &str, activity: &str) -> Vec<(String, String, Value)> {
    let of = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let denials = world.denials(sandbox, 0).into_iter();
    denials
        .filter(|record| record["activity"] == activity)
        .map(|record| (of(&record, "reason"), of(&record, "dst_ip"), record))
        .collect()
}
