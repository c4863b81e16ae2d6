//! A sandbox that tries all the time what it may and what it may not.

use std::{
    fs,
    path::PathBuf,
    thread::{self, JoinHandle},
};

use clawd_tests::{Address, Prober};
use serde_json::{Value, json};

use crate::support::{World, tcp};

/// A prober that goes on until it is told.
pub(super) struct Watched {
    until: PathBuf,
    looping: JoinHandle<(Value, Prober)>,
}

/// The folder that such a sandbox must have among its trees.
pub(super) fn signals(world: &World) -> PathBuf {
    world.daemon.scratch().folder("signals", 0o755).unwrap()
}

impl Watched {
    /// Has `prober` try connects and datagrams to A, which its policy allows (TCP, port 7000), and to B,
    /// which it does not, talk on a flow that stays open, and do what `more` says.
    pub(super) fn start(world: &World, mut prober: Prober, more: &[Value]) -> Self {
        let until = signals(world).join("end");
        world.allows(&mut prober, &tcp(Address::A, 7000));
        let flow = json!({ "do": "open_flow", "name": "flow", "addr": Address::A, "port": 7000 });
        assert_eq!(prober.ask(&flow)["ok"], "ping");
        let mut asks = vec![
            json!([tcp(Address::A, 7000), ["ping"]]),
            json!([tcp(Address::B, 7000), ["EPERM"]]),
            json!([{ "do": "say_on", "name": "flow" }, ["ping"]]),
            json!([{ "do": "udp_sendto", "addr": Address::B, "port": 7000 }, ["EPERM"]]),
        ];
        asks.extend_from_slice(more);
        let ask = json!({ "do": "watch", "until": until, "pause": 0.002, "asks": asks });
        let looping = thread::spawn(move || (prober.ask(&ask), prober));
        Self { until, looping }
    }

    /// Ends it; nothing else may have come of anything. Returns how often all of it was tried.
    #[track_caller]
    pub(super) fn end(self, world: &World) -> (u64, Prober) {
        fs::write(&self.until, "").unwrap();
        let (answer, prober) = self.looping.join().unwrap();
        assert_eq!(answer["ok"]["wrong"], json!([]), "{answer}");
        let rounds = answer["ok"]["counts"][0].as_u64().expect("a count");
        assert!(rounds > 2, "{answer}");
        assert!(world.internet.contacts_at(Address::B, 7000).is_empty());
        (rounds, prober)
    }
}
