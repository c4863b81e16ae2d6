//! Node programs.

use serde_json::{Value, json};

use super::require;
use crate::compatibility::{Lab, Needs, elsewhere};

pub(crate) const NEEDS: Needs = Needs {
    program: "node",
    executes: "",
    builds: "",
    binaries: "{ path: /usr/bin/node }",
};

pub(super) const NODE: &str = "/usr/bin/node";
const PROGRAM: &str = include_str!("node/program.js");
const ENDPOINT: &str = "{ host: 192.0.2.10, port: 80 }";

fn lab() -> Lab {
    require(NODE, "nodejs");
    let lab = Lab::start();
    lab.write("program.js", PROGRAM);
    lab
}

#[test]
fn node_runs_threads_children_watches_and_requests() {
    let lab = lab();
    let argv = [NODE, "program.js", "http://192.0.2.10/small"];
    let printed = lab.works(&NEEDS, ENDPOINT, &argv);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        printed,
        json!({
            "spawned": "65534",
            "forked": "from a child",
            "worker": 4950,
            "shared": 42,
            "watched": "watched.txt",
            "compressed": true,
            "temporary": "/tmp",
            "fetched": "small file",
        })
    );
}

#[test]
fn node_connects_to_no_other_server() {
    let lab = lab();
    let argv = [NODE, "program.js", "http://192.0.2.11/small"];
    let printed = lab.is_refused(&NEEDS, ENDPOINT, &argv, &elsewhere(NODE, 80));
    assert!(printed.contains("connect EPERM 192.0.2.11:80"), "{printed}");
}
