//! What holds each promise to a sandbox on this kernel: derived from what was read back at its start.

use clawd_control::{Promise, PromiseStatus, SandboxLimits};
use clawd_sandbox::{LandlockState, Layers, Profile};

/// Landlock judges `truncate(2)` from here on (Linux 6.2).
const ABI_TRUNCATE: u32 = 3;
/// Landlock judges commands to devices from here on (Linux 6.10).
const ABI_IOCTL: u32 = 5;
/// Landlock judges abstract sockets and signals from here on (Linux 6.12).
const ABI_SCOPES: u32 = 6;

/// What was found in force, as means to hold promises by.
struct Means<'a>(&'a Layers);

type HeldBy = Vec<Option<String>>;

/// Every promise to a sandbox with what holds it. `hooks_attached` tells whether the kernel runs all
/// of clawd's programs.
pub(crate) fn of(
    layers: &Layers,
    limits: &SandboxLimits,
    hooks_attached: bool,
) -> Vec<PromiseStatus> {
    let means = Means(layers);
    let hooks = hooks_attached.then(|| "connect and sendmsg hooks".to_owned());
    let mut all = means.files();
    all.push((Promise::Destinations, vec![hooks]));
    all.extend(means.others());
    all.extend(means.privileges());
    all.extend([
        (
            Promise::ProcessLimit,
            vec![limits.pids_max.map(|_| "pids cgroup".to_owned())],
        ),
        (
            Promise::MemoryLimit,
            vec![limits.memory_max_bytes.map(|_| "memory cgroup".to_owned())],
        ),
    ]);
    all.into_iter()
        .map(|(promise, held_by)| PromiseStatus {
            promise,
            held_by: held_by.into_iter().flatten().collect(),
        })
        .collect()
}

// === impl Means ===

impl Means<'_> {
    fn landlock(&self, since: u32) -> Option<String> {
        let abi = self.0.landlock_abi;
        let is_on = self.0.landlock != LandlockState::NotEnforced && abi >= since;
        is_on.then(|| format!("landlock abi {abi}"))
    }

    fn namespace(&self, name: &str, told: &str) -> Option<String> {
        let is_own = self.0.namespaces.iter().any(|own| own == name);
        is_own.then(|| format!("{told} namespace"))
    }

    fn view(&self, told: &str) -> Option<String> {
        (self.0.mounts > 0).then(|| told.to_owned())
    }

    fn seccomp(&self) -> Option<String> {
        let profile = match self.0.seccomp_profile {
            Profile::Default => "default",
            Profile::Strict => "strict",
            Profile::Jit => "jit",
        };
        (self.0.seccomp_filters > 0).then(|| format!("seccomp {profile}"))
    }

    fn files(&self) -> Vec<(Promise, HeldBy)> {
        let devices = "private /dev, nodev mounts";
        vec![
            (
                Promise::Files,
                vec![self.view("mount view"), self.landlock(1)],
            ),
            (
                Promise::Truncate,
                vec![self.view("read-only mounts"), self.landlock(ABI_TRUNCATE)],
            ),
            (
                Promise::DeviceCommands,
                vec![self.view(devices), self.seccomp(), self.landlock(ABI_IOCTL)],
            ),
            // ABI 1 has no right for it and always refuses it.
            (
                Promise::MovesAcrossTrees,
                vec![self.view("separate mounts"), self.landlock(1)],
            ),
            (Promise::WriteThenExecute, vec![self.view("noexec mounts")]),
        ]
    }

    /// What keeps others out of sight and reach.
    fn others(&self) -> Vec<(Promise, HeldBy)> {
        let network = self.namespace("net", "network");
        let pid = || self.namespace("pid", "pid");
        let mut all = vec![
            (
                Promise::AbstractSockets,
                vec![network.clone(), self.landlock(ABI_SCOPES)],
            ),
            (Promise::Signals, vec![pid(), self.landlock(ABI_SCOPES)]),
            (Promise::Processes, vec![pid()]),
            (Promise::Mounts, vec![self.namespace("mnt", "mount")]),
            (Promise::Ipc, vec![self.namespace("ipc", "ipc")]),
            (Promise::HostName, vec![self.namespace("uts", "uts")]),
            (Promise::Cgroups, vec![self.namespace("cgroup", "cgroup")]),
        ];
        if network.is_some() {
            all.push((Promise::Network, vec![network]));
        }
        all
    }

    fn privileges(&self) -> Vec<(Promise, HeldBy)> {
        let when = |holds: bool, told: &str| holds.then(|| told.to_owned());
        let no_new_privs = when(self.0.no_new_privs, "no_new_privs");
        let no_capability = when(self.0.capabilities_empty, "empty capability sets");
        let mut all = vec![
            (
                Promise::NewPrivileges,
                vec![no_new_privs, self.view("nosuid mounts")],
            ),
            (Promise::Capabilities, vec![no_capability]),
            (Promise::SystemCalls, vec![self.seccomp()]),
        ];
        if self.0.seccomp_profile == Profile::Strict {
            let memory = when(self.0.memory_deny_write_execute, "PR_SET_MDWE");
            all.push((Promise::ExecutableMemory, vec![self.seccomp(), memory]));
        }
        all
    }
}

/// A sentence for a promise that nothing holds; limits have sentences of their own.
pub(crate) fn problem(status: &PromiseStatus) -> Option<String> {
    let is_told_elsewhere = matches!(
        status.promise,
        Promise::ProcessLimit | Promise::MemoryLimit | Promise::Destinations
    );
    let is_held = !status.held_by.is_empty();
    (!is_held && !is_told_elsewhere).then(|| {
        format!(
            "nothing on this kernel holds the promise `{}`",
            status.promise
        )
    })
}

#[cfg(test)]
mod tests {
    use clawd_control::{Promise, SandboxLimits};
    use clawd_sandbox::{LandlockState, Layers, ProcessLimits, Profile};

    use super::{of, problem};

    fn layers(abi: u32, own_network: bool) -> Layers {
        let mut namespaces = ["pid", "mnt", "ipc", "uts", "cgroup"]
            .map(str::to_owned)
            .to_vec();
        if own_network {
            namespaces.push("net".to_owned());
        }
        Layers {
            landlock_abi: abi,
            landlock: match abi {
                0 => LandlockState::NotEnforced,
                _ => LandlockState::FullyEnforced,
            },
            seccomp_filters: 1,
            seccomp_profile: Profile::Default,
            memory_deny_write_execute: false,
            namespaces,
            uid: 1,
            gid: 1,
            groups: Vec::new(),
            no_new_privs: true,
            capabilities_empty: true,
            mounts: 20,
            limits: ProcessLimits::default(),
        }
    }

    fn held(layers: &Layers, promise: Promise) -> String {
        let all = of(layers, &SandboxLimits::default(), true);
        let mut found = all.iter().filter(|status| status.promise == promise);
        found.next().expect("promised").held_by.join(", ")
    }

    fn unheld(layers: &Layers) -> Vec<String> {
        let all = of(layers, &SandboxLimits::default(), true);
        all.iter().filter_map(problem).collect()
    }

    #[test]
    fn what_an_older_landlock_lacks_is_held_by_other_layers() {
        // Linux 6.1, 6.12 and 6.18.
        for abi in [2, 6, 7] {
            assert_eq!(unheld(&layers(abi, true)), [""; 0], "{abi}");
        }
        let old = layers(2, true);
        for (promise, want) in [
            (Promise::Files, "mount view, landlock abi 2"),
            (Promise::Truncate, "read-only mounts"),
            (
                Promise::DeviceCommands,
                "private /dev, nodev mounts, seccomp default",
            ),
            (Promise::MovesAcrossTrees, "separate mounts, landlock abi 2"),
            (Promise::AbstractSockets, "network namespace"),
            (Promise::Signals, "pid namespace"),
            (Promise::NewPrivileges, "no_new_privs, nosuid mounts"),
        ] {
            assert_eq!(held(&old, promise), want);
        }
        let new = layers(7, false);
        assert_eq!(
            held(&new, Promise::Truncate),
            "read-only mounts, landlock abi 7"
        );
        assert_eq!(held(&new, Promise::AbstractSockets), "landlock abi 7");
    }

    #[test]
    fn what_nothing_holds_is_told() {
        let told = |promise: &str| {
            [format!(
                "nothing on this kernel holds the promise `{promise}`"
            )]
        };
        assert_eq!(unheld(&layers(2, false)), told("abstract unix sockets"));
        assert_eq!(unheld(&layers(0, false)), told("abstract unix sockets"));
        assert_eq!(unheld(&layers(0, true)), [""; 0], "the view holds files");
        let mut strict = layers(2, true);
        strict.seccomp_profile = Profile::Strict;
        assert_eq!(held(&strict, Promise::ExecutableMemory), "seccomp strict");
        strict.memory_deny_write_execute = true;
        let both = "seccomp strict, PR_SET_MDWE";
        assert_eq!(held(&strict, Promise::ExecutableMemory), both);
        let mut bare = layers(7, true);
        bare.capabilities_empty = false;
        bare.namespaces.retain(|name| name != "cgroup");
        assert_eq!(unheld(&bare).len(), 2);
    }
}
