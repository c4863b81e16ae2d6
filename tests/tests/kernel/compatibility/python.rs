//! Python programs.

use serde_json::{Value, json};

use super::{Lab, Needs, elsewhere, told};
use crate::support::code;

pub(super) const NEEDS: Needs = Needs {
    program: "python3",
    executes: "",
    builds: "",
    binaries: "{ path: /usr/bin/python3 }",
};

const PYTHON: &str = "/usr/bin/python3";
const ENDPOINT: &str = "{ host: 192.0.2.10, port: 80 }";
const PROGRAM: &str = include_str!("python/program.py");

#[test]
fn python_runs_processes_threads_databases_and_event_loops() {
    let lab = Lab::start();
    lab.write("program.py", PROGRAM);
    let printed = lab.works(&NEEDS, "", &[PYTHON, "program.py"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        printed,
        json!({
            "subprocess": "65534",
            "pool": [0, 1, 4, 9, 16],
            "shared_memory": 42,
            "queue": "from a child",
            "lock_held_by_child": 300,
            "threads": 4950,
            "asyncio": ["a", "b", "child"],
            "sqlite": [[1, "one"], [2, "two"]],
            "temporary": "/tmp",
        })
    );
}

#[test]
fn python_makes_a_virtual_environment_and_uses_it() {
    let lab = Lab::start();
    let make = [PYTHON, "-m", "venv", "--without-pip", "venv"];
    lab.works(&NEEDS, "", &make);
    let prefix = "import sys; print(sys.prefix, sys.prefix != sys.base_prefix)";
    let printed = lab.works(&NEEDS, "", &["venv/bin/python", "-c", prefix]);
    let venv = lab.project().join("venv");
    assert_eq!(printed, format!("{} True\n", venv.display()));
}

#[test]
fn python_connects_to_no_other_server() {
    let lab = Lab::start();
    let connect = "import socket; socket.create_connection(('192.0.2.11', 80))";
    let denial = elsewhere(PYTHON, 80);
    let printed = lab.is_refused(&NEEDS, ENDPOINT, &[PYTHON, "-c", connect], &denial);
    assert!(
        printed.contains("PermissionError: [Errno 1] Operation not permitted"),
        "{printed}"
    );
}

#[test]
fn python_sees_no_secret_and_writes_nowhere_else() {
    let lab = Lab::start();
    for (statement, error) in [
        ("open('/etc/shadow')", "FileNotFoundError"),
        ("open('/root/.ssh/id_rsa')", "FileNotFoundError"),
        ("open('/usr/lib/python3/new', 'w')", "OSError"),
        ("import os; os.setuid(0)", "PermissionError"),
    ] {
        let output = lab.run(&NEEDS, "", &[PYTHON, "-c", statement]);
        assert_eq!(code(&output), 1, "{statement}: {}", told(&output));
        assert!(told(&output).contains(error), "{statement}: {output:?}");
    }
}
