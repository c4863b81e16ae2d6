//! What the tests say often.

use clawd_tests::{Daemon, Internet};

/// A policy in mode direct that lets `/usr` execute, with these entries of `network_policies`.
pub(crate) fn direct(groups: &str) -> String {
    format!(
        "version: 2\nfilesystem_policy: {{ read_execute: [/usr, /bin, /lib, /lib64] }}\n\
         landlock: {{ compatibility: best_effort }}\nnetwork: {{ mode: direct }}\nnetwork_policies:\n{groups}"
    )
}

/// An entry of `network_policies`: these endpoints for these binaries, in YAML's flow style.
pub(crate) fn group(name: &str, endpoints: &str, binaries: &str) -> String {
    format!("  {name}: {{ endpoints: [{endpoints}], binaries: [{binaries}] }}\n")
}

/// The internet and a daemon in its host's namespace.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) internet: Internet,
}

impl World {
    pub(crate) fn start() -> Self {
        let internet = Internet::start().expect("internet");
        let daemon = Daemon::start(Some(&internet)).expect("daemon");
        Self { daemon, internet }
    }
}
