//! Gives away what a sandbox must not have, and looks whether it is gone.

use std::os::{fd::AsFd, unix::net::UnixStream};

use clawd_sys::{
    keyring, privileges,
    rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::{
            DumpableBehavior, Resource, Rlimit, Signal, dumpable_behavior, getrlimit,
            set_dumpable_behavior, set_parent_process_death_signal, setrlimit, setsid,
        },
        thread::set_no_new_privs,
    },
};

use crate::{
    error::{Failed, InLayer, Layer},
    spec::{Layers, ProcessLimits, Profile, SpawnSpec},
};

/// Open files: what `select(2)` can name, and the most a program may ask for.
const FILES_SOFT: u64 = 1024;
const FILES_HARD: u64 = 65_536;

/// No core dumps: they would be written by the host, past the view.
const NO_CORE: Rlimit = Rlimit {
    current: Some(0),
    maximum: Some(0),
};

/// A daemon that may not be killed for memory must not hand that down. Done on the host's `/proc`: the
/// view's is read-only.
pub(super) fn reset_oom_score() -> Result<(), Failed> {
    std::fs::write("/proc/self/oom_score_adj", "0").in_layer(Layer::Process, "reset oom_score_adj")
}

/// Session and resource limits; returns those that the command must be found to have.
pub(super) fn limits(wanted: ProcessLimits) -> Result<ProcessLimits, Failed> {
    setsid().in_layer(Layer::Process, "start a session")?;
    let inherited = getrlimit(Resource::Nofile).maximum.unwrap_or(FILES_HARD);
    let hard = wanted.nofile_max.unwrap_or(inherited.min(FILES_HARD));
    let files = Rlimit {
        current: Some(FILES_SOFT.min(hard)),
        maximum: Some(hard),
    };
    setrlimit(Resource::Nofile, files).in_layer(
        Layer::Process,
        format_args!(
            "limit open files to {hard} (`process: {{ nofile_max: }}`; without CAP_SYS_RESOURCE clawd can give no more than its own {inherited}, and nobody more than sysctl fs.nr_open)"
        ),
    )?;
    let size = Rlimit {
        current: wanted.fsize_max_bytes,
        maximum: wanted.fsize_max_bytes,
    };
    setrlimit(Resource::Fsize, size).in_layer(
        Layer::Process,
        "limit the size of files (`process: { fsize_max: }`)",
    )?;
    setrlimit(Resource::Core, NO_CORE).in_layer(Layer::Process, "refuse core dumps")?;
    Ok(ProcessLimits {
        nofile_max: Some(hard),
        ..wanted
    })
}

fn verify_limits(expected: ProcessLimits) -> Result<(), Failed> {
    let size = expected.fsize_max_bytes;
    for (name, resource, soft, hard) in [
        (
            "nofile",
            Resource::Nofile,
            expected.nofile_max.map(|hard| hard.min(FILES_SOFT)),
            expected.nofile_max,
        ),
        ("fsize", Resource::Fsize, size, size),
        ("core", Resource::Core, NO_CORE.current, NO_CORE.maximum),
    ] {
        let got = getrlimit(resource);
        if (got.current, got.maximum) != (soft, hard) {
            let message = format!(
                "limit `{name}` should be {soft:?} and {hard:?} and is {:?} and {:?}",
                got.current, got.maximum
            );
            return Err(Failed::new(Layer::Process, message));
        }
    }
    Ok(())
}

/// User, groups, capabilities, `no_new_privs`.
pub(super) fn privileges(spec: &SpawnSpec) -> Result<(), Failed> {
    let groups = group_numbers(spec);
    if spec.uid == 0 || spec.gid == 0 || groups.contains(&0) {
        return Err(Failed::new(
            Layer::Privileges,
            "a sandbox never runs as user or group 0",
        ));
    }
    privileges::drop_bounding_set().in_layer(Layer::Privileges, "drop the bounding set")?;
    privileges::become_user(spec.uid, spec.gid, &groups)
        .in_layer(Layer::Privileges, "become the sandbox's user")?;
    privileges::drop_capabilities().in_layer(Layer::Privileges, "drop capabilities")?;
    set_no_new_privs(true).in_layer(Layer::Privileges, "set no_new_privs")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .in_layer(Layer::Privileges, "close /proc of pid 1")
}

/// The further groups, as the kernel tells them.
pub(super) fn group_numbers(spec: &SpawnSpec) -> Vec<u32> {
    let mut groups: Vec<u32> = spec.groups.iter().map(|group| group.gid).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The host's services may have put secrets into clawd's session keyring. This process got one of its
/// own when it was born.
pub(super) fn verify_keyring(of_clawd: Option<i32>) -> Result<(), Failed> {
    let own = keyring::session_keyring().in_layer(Layer::Privileges, "look at its keyring")?;
    if own.is_some() && own == of_clawd {
        let message = "the session keyring is clawd's own";
        return Err(Failed::new(Layer::Privileges, message));
    }
    Ok(())
}

/// Asks for death with the daemon again, which the change of user has taken away, and looks whether
/// the daemon died in between.
pub(super) fn die_with_daemon(channel: &UnixStream) -> Result<(), Failed> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .in_layer(Layer::Process, "die with clawd")?;
    let mut polled = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::RDHUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = poll(&mut polled, Some(&now)).in_layer(Layer::Process, "look for clawd")?;
    if ready == 0 {
        Ok(())
    } else {
        Err(Failed::new(Layer::Channel, "clawd is gone"))
    }
}

/// What the profile says about memory.
pub(super) fn memory(profile: Profile) -> Result<bool, Failed> {
    match profile {
        Profile::Default | Profile::Jit => Ok(false),
        Profile::Strict => {
            privileges::refuse_exec_gain().in_layer(Layer::Process, "refuse executable memory")
        }
    }
}

/// Reads in `/proc` what the kernel holds against this process; any difference is an error.
pub(super) fn verify(expected: Layers) -> Result<Layers, Failed> {
    let text = std::fs::read_to_string("/proc/self/status")
        .in_layer(Layer::Privileges, "verify privileges")?;
    verify_status(&text, &expected)?;
    verify_limits(expected.limits)?;
    let locked =
        privileges::has_locked_securebits().in_layer(Layer::Privileges, "read securebits")?;
    if !locked {
        let message = "the securebits are not locked";
        return Err(Failed::new(Layer::Privileges, message));
    }
    // Until the exec: then it is up to the program, whose user has no rights to look from outside.
    let dumpable =
        dumpable_behavior().in_layer(Layer::Privileges, "read whether it is dumpable")?;
    if dumpable != DumpableBehavior::NotDumpable {
        let message = "clawd's own program can be dumped inside the sandbox";
        return Err(Failed::new(Layer::Privileges, message));
    }
    Ok(expected)
}

fn verify_status(text: &str, expected: &Layers) -> Result<(), Failed> {
    let mut wants = vec![
        ("Uid", vec![expected.uid.to_string(); 4], Layer::Privileges),
        ("Gid", vec![expected.gid.to_string(); 4], Layer::Privileges),
        (
            "Groups",
            expected.groups.iter().map(u32::to_string).collect(),
            Layer::Privileges,
        ),
        ("NoNewPrivs", vec!["1".to_owned()], Layer::Privileges),
        ("Seccomp", vec!["2".to_owned()], Layer::Seccomp),
    ];
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        wants.push((set, vec!["0".repeat(16)], Layer::Privileges));
    }
    for (field, want, layer) in wants {
        let got = field_of(text, field);
        if got.as_ref() != Some(&want) {
            let message =
                format!("`{field}` in /proc/self/status should be {want:?} and is {got:?}");
            return Err(Failed::new(layer, message));
        }
    }
    // More than ours: clawd itself may run under a filter.
    let filters =
        field_of(text, "Seccomp_filters").and_then(|values| values.first()?.parse::<u32>().ok());
    if filters.is_none_or(|count| count < expected.seccomp_filters) {
        return Err(Failed::new(
            Layer::Seccomp,
            format!("filters in force: {filters:?}"),
        ));
    }
    Ok(())
}

fn field_of(text: &str, name: &str) -> Option<Vec<String>> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| *field == name)
        .map(|(_, values)| values.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::verify_status;
    use crate::spec::{LandlockState, Layers, ProcessLimits, Profile};

    const GOOD: &str = "Name:\tx\nUid:\t1\t1\t1\t1\nGid:\t2\t2\t2\t2\nGroups:\t27 44 \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        Seccomp_filters:\t1\n";

    fn layers() -> Layers {
        Layers {
            landlock_abi: 1,
            landlock: LandlockState::FullyEnforced,
            seccomp_filters: 1,
            seccomp_profile: Profile::Default,
            memory_deny_write_execute: false,
            namespaces: Vec::new(),
            uid: 1,
            gid: 2,
            groups: vec![27, 44],
            no_new_privs: true,
            capabilities_empty: true,
            mounts: 1,
            limits: ProcessLimits::default(),
        }
    }

    #[test]
    fn verify_status_refuses_every_difference() {
        assert!(verify_status(GOOD, &layers()).is_ok());
        for (from, to) in [
            ("Uid:\t1\t1\t1\t1", "Uid:\t1\t1\t1\t0"),
            ("Gid:\t2\t2\t2\t2", "Gid:\t2\t0\t2\t2"),
            ("Groups:\t27 44 ", "Groups:\t27 44 45 "),
            ("Groups:\t27 44 ", "Groups:\t27 "),
            ("Groups:\t27 44 ", "Groups:\t "),
            ("CapInh:\t0", "CapInh:\t1"),
            ("CapPrm:\t0", "CapPrm:\t1"),
            ("CapEff:\t0", "CapEff:\t1"),
            ("CapBnd:\t0", "CapBnd:\t1"),
            ("CapAmb:\t0", "CapAmb:\t1"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("Seccomp_filters:\t1", "Seccomp_filters:\t0"),
            ("CapBnd:", "CapXxx:"),
            ("Seccomp_filters:", "Seccomp_Xxx:"),
        ] {
            assert!(GOOD.contains(from));
            assert!(
                verify_status(&GOOD.replace(from, to), &layers()).is_err(),
                "{to}"
            );
        }
    }
}
