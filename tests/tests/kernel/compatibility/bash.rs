//! Shell scripts.

use super::{Lab, Needs, not_listed, told};
use crate::support::code;

pub(super) const NEEDS: Needs = Needs {
    program: "bash",
    executes: "",
    builds: "",
    binaries: "",
};

const ENDPOINT: &str = "{ host: 192.0.2.10, port: 80 }";
const SCRIPT: &str = include_str!("bash/script.sh");
const OUTPUT: &str = include_str!("bash/output.txt");

#[test]
fn bash_script_with_pipes_jobs_and_traps_prints_what_it_prints_elsewhere() {
    let lab = Lab::start();
    lab.write("script.sh", SCRIPT);
    let printed = lab.works(&NEEDS, "", &["bash", "script.sh"]);
    assert_eq!(printed, OUTPUT);
}

#[test]
fn bash_connects_nowhere() {
    let lab = Lab::start();
    let connect = "exec 3<>/dev/tcp/192.0.2.10/80";
    let denial = not_listed("/usr/bin/bash", 80);
    let printed = lab.is_refused(&NEEDS, ENDPOINT, &["bash", "-c", connect], &denial);
    assert!(printed.contains("Operation not permitted"), "{printed}");
}

#[test]
fn bash_writes_in_its_project_and_executes_nothing_there() {
    let lab = Lab::start();
    for outside in ["/usr/bin/new", "/etc/passwd", "/new", "/srv/new"] {
        let write = format!("echo x >>{outside}");
        let output = lab.run(&NEEDS, "", &["bash", "-c", &write]);
        assert_eq!(code(&output), 1, "{outside}: {}", told(&output));
    }
    let execute = "echo '#!/bin/sh' >new; chmod +x new; ./new";
    let output = lab.run(&NEEDS, "", &["bash", "-c", execute]);
    assert_eq!(code(&output), 126, "{}", told(&output));
    assert!(told(&output).contains("Permission denied"), "{output:?}");
    assert_eq!(lab.works(&NEEDS, "", &["sh", "new"]), "");
}
