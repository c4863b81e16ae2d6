//! Many refusals: some records, and an exact count.

use clawd_tests::Address;
use serde_json::Value;

use super::{python, reaching};
use crate::support::{World, eventually};

#[test]
fn storm_of_denials_is_some_records_and_an_exact_count() {
    const TRIES: u64 = 3_000;
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[], ""));
    let told = python(
        &mut prober,
        &format!(
            "
import json, socket, time
start, denied = time.monotonic(), 0
for _ in range({TRIES}):
    try:
        with socket.socket() as talk:
            talk.connect(({:?}, 7000))
    except PermissionError:
        denied += 1
print(json.dumps([denied, time.monotonic() - start]))
",
            Address::A
        ),
    );
    assert_eq!(told[0], TRIES, "{told}");
    let seconds = told[1].as_f64().expect("a time");
    let of_storm = || {
        let denials = world.denials("box", 0).into_iter();
        denials
            .filter(|record| record["activity"] == "connect")
            .collect::<Vec<_>>()
    };
    let counted = |records: &[Value]| -> u64 {
        let count = |record: &Value| record["count"].as_u64().unwrap_or(1);
        records.iter().map(count).sum()
    };
    eventually("all are counted", || counted(&of_storm()) >= TRIES);
    let records = of_storm();
    assert_eq!(counted(&records), TRIES);
    // Ten and a count for each second that was begun.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some seconds"
    )]
    let most = (seconds.ceil() as usize + 2) * 11;
    assert!(
        records.len() <= most,
        "{} records in {seconds} s",
        records.len()
    );
    assert!(records.iter().all(|record| {
        record["dst_ip"] == Address::A && record["reason"] == "address_not_listed"
    }));
    let counters = &world.daemon.ps()[0];
    assert_eq!(counters["counters"]["denied"], TRIES, "{counters}");
}
