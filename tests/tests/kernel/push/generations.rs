//! Pushes that are meant for one generation, and no other.

use std::{process::Output, sync::Barrier, thread};

use clawd_tests::{Address, Api};
use serde_json::{Value, json};

use super::{allowing, generation};
use crate::support::{Denial, World, code, tcp, text};

fn push_if(world: &World, wanted: u64, policy: &str) -> Output {
    let file = world.daemon.policy_file(policy);
    let (wanted, file) = (wanted.to_string(), file.to_str().unwrap().to_owned());
    world
        .daemon
        .clawctl(["policy", "push", "--sandbox", "box"])
        .args(["--if-generation", &wanted, &file])
        .output()
        .unwrap()
}

/// The same without `clawctl`; returns the answer's status and body.
fn ask_if(api: &mut Api, wanted: &Value, policy: &str) -> (u16, Value) {
    let body = json!({
        "policy": { "file": "p.yaml", "text": policy },
        "if_generation": wanted,
    });
    api.ask("POST", "/v1/sandboxes/box/policy", Some(&body))
        .unwrap()
}

#[test]
fn push_for_another_generation_is_refused_and_switches_nothing() {
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    assert_eq!(code(&push_if(&world, 1, &allowing(Address::B))), 0);
    for wanted in [0, 1, 3, u64::MAX] {
        let output = push_if(&world, wanted, &allowing(Address::A));
        let said = text(&output.stderr);
        assert_eq!(code(&output), 1, "{output:?}");
        let want = format!("box is at generation 2, not at {wanted}");
        assert!(said.contains(&want), "{said}");
        assert_eq!(generation(&world), 2);
    }
    world.allows(&mut prober, &tcp(Address::B, 7000));
    let want = Denial::tcp("address_not_listed", Address::A, 7000);
    world.refuses(&mut prober, "box", &tcp(Address::A, 7000), &want);
    let audit = world.daemon.audit();
    let refused: Vec<_> = (audit.iter())
        .filter(|record| record["activity"] == "policy_refused")
        .collect();
    assert_eq!(refused.len(), 4, "{refused:?}");
    for record in refused {
        assert_eq!(record["policy_generation"], 2, "{record}");
    }
    assert_eq!(code(&push_if(&world, 2, &allowing(Address::A))), 0);
    world.allows(&mut prober, &tcp(Address::A, 7000));
    assert_eq!(generation(&world), 3);
}

#[test]
fn push_for_no_number_is_no_request() {
    let world = World::start();
    let _prober = world.prober("box", &allowing(Address::A));
    let mut api = Api::connect(&world.daemon.paths().socket).unwrap();
    for wanted in [json!("1"), json!(-1), json!(1.5), json!([1])] {
        let (status, answer) = ask_if(&mut api, &wanted, &allowing(Address::B));
        assert_eq!(status, 400, "{wanted}: {answer}");
    }
    assert_eq!(generation(&world), 1);
    let (status, answer) = ask_if(&mut api, &Value::Null, &allowing(Address::B));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn of_pushes_for_the_same_generation_one_wins() {
    const ROUNDS: u64 = 20;
    const PUSHERS: [&str; 4] = [Address::A, Address::B, Address::C, Address::D];
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    let socket = &world.daemon.paths().socket;
    for round in 1..=ROUNDS {
        let start = Barrier::new(PUSHERS.len());
        let push = |address: &str| {
            let mut api = Api::connect(socket).unwrap();
            start.wait();
            ask_if(&mut api, &json!(round), &allowing(address))
        };
        let answers = thread::scope(|scope| {
            let pushing = PUSHERS.map(|address| scope.spawn(move || push(address)));
            pushing.map(|pushing| pushing.join().unwrap())
        });
        let won: Vec<_> = (PUSHERS.iter().zip(&answers))
            .filter(|(_, (status, _))| *status == 200)
            .collect();
        let [(winner, (_, report))] = won.as_slice() else {
            panic!("round {round}: one wins: {answers:?}");
        };
        assert_eq!(report["generation"], round + 1, "{report}");
        for (status, answer) in answers.iter().filter(|(status, _)| *status != 200) {
            assert_eq!(*status, 409, "{answer}");
            let want = format!("box is at generation {}, not at {round}", round + 1);
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.starts_with(&want), "{message}");
        }
        // The winner's policy is what holds, whole.
        for address in PUSHERS {
            let answer = prober.ask(&tcp(address, 7000));
            if **winner == address {
                assert_eq!(answer["ok"], "ping", "{answer}");
            } else {
                assert_eq!(answer["name"], "EPERM", "{answer}");
            }
        }
    }
    assert_eq!(generation(&world), ROUNDS + 1);
}
