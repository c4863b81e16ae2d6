//! ssh.

use std::{fs, os::unix::fs::PermissionsExt as _};

use clawd_tests::{Address, Forge};

use super::{Lab, Needs, at_forge, elsewhere, told};
use crate::support::code;

pub(super) const NEEDS: Needs = Needs {
    program: "ssh",
    executes: "",
    builds: "",
    binaries: "{ path: /usr/bin/ssh }",
};

/// Gives the project a key that the forge lets in, and `ssh_config`, which names the key and the
/// forge's own: the home directory, where ssh looks otherwise, is empty.
pub(super) fn provide(lab: &Lab) {
    let key = lab.write("key", fs::read(lab.forge().client_key()).unwrap());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let known_hosts = lab.write("known_hosts", lab.forge().known_hosts().unwrap());
    let configuration = format!(
        "Host *\nUser git\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n\
         StrictHostKeyChecking yes\nBatchMode yes\n",
        key.display(),
        known_hosts.display()
    );
    lab.write("ssh_config", configuration);
}

fn lab() -> Lab {
    let lab = Lab::with_forge();
    provide(&lab);
    lab
}

#[test]
fn ssh_connects_with_a_key_and_runs_a_command() {
    let lab = lab();
    let argv = ["ssh", "-F", "ssh_config", Address::A, "id -un; cat"];
    let printed = lab.works(&NEEDS, &at_forge(Forge::SSH), &argv);
    assert_eq!(printed, "git\n");
    let argv = ["ssh", "-F", "ssh_config", Address::A, "exit 7"];
    let output = lab.run(&NEEDS, &at_forge(Forge::SSH), &argv);
    assert_eq!(code(&output), 7, "{}", told(&output));
}

#[test]
fn ssh_refuses_a_server_that_is_not_known() {
    let lab = lab();
    lab.write("known_hosts", "");
    let argv = ["ssh", "-F", "ssh_config", Address::A, "true"];
    let output = lab.run(&NEEDS, &at_forge(Forge::SSH), &argv);
    assert_eq!(code(&output), 255, "{}", told(&output));
    assert!(
        told(&output).contains("Host key verification failed"),
        "{output:?}"
    );
}

#[test]
fn ssh_connects_to_no_other_server() {
    let lab = lab();
    let argv = ["ssh", "-F", "ssh_config", Address::B, "true"];
    let denial = elsewhere("/usr/bin/ssh", Forge::SSH);
    let printed = lab.is_refused(&NEEDS, &at_forge(Forge::SSH), &argv, &denial);
    assert!(printed.contains("Operation not permitted"), "{printed}");
}
