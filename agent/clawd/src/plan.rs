//! From a request to a plan: everything that can be found wrong before anything is made.

use std::path::{Path, PathBuf};

use clawd_control::{ApiError, ExitCode, NetworkMode, PolicySource, RunRequest};
use clawd_policy::Policy;
use clawd_sandbox::{
    Compatibility, HOME, ProcessLimits, Profile, SpawnSpec, Syscalls, TerminalSize, ViewSpec,
    account_name,
};
use clawd_sys::passing::Peer;

pub(crate) mod accounts;

/// Programs are looked for here unless the policy or the request says otherwise.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A sandbox that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything but the host name, which is the sandbox's name.
    pub(crate) spec: SpawnSpec,
    pub(crate) policy: Policy,
    pub(crate) source: PolicySource,
    pub(crate) network: NetworkMode,
    /// Who asked for it.
    pub(crate) caller_uid: u32,
}

/// Checks a request of `peer`'s.
pub(crate) fn plan(request: &RunRequest, peer: Peer) -> Result<Plan, ApiError> {
    let policy = read_policy(&request.policy)?;
    (request.check(&policy.env_allow)).map_err(|error| usage(error.to_string()))?;
    let network = network_mode(policy.network, request.network)?;
    let (uid, gid) = accounts::user(request, &policy, peer)?;
    let workspace = workspace(request, &policy)?;
    let view = ViewSpec {
        read_only: policy.filesystem.read_only.clone(),
        read_execute: policy.filesystem.read_execute.clone(),
        read_write: policy.filesystem.read_write.clone(),
        read_write_execute: policy.filesystem.read_write_execute.clone(),
        workspace,
        rootfs: policy.filesystem.rootfs.clone(),
        deny: policy.filesystem.deny.clone(),
    };
    let user_name = accounts::user_name(uid);
    let spec = SpawnSpec {
        hostname: String::new(),
        cwd: working_directory(Path::new(&request.cwd), &view),
        view,
        own_network: network == NetworkMode::None,
        uid,
        gid,
        env: environment(request, &policy, account_name(&user_name, uid)),
        user_name,
        group_name: accounts::group_name(gid),
        groups: accounts::groups(&policy, peer)?,
        argv: request.command.clone(),
        landlock: match policy.landlock {
            clawd_policy::Compatibility::HardRequirement => Compatibility::HardRequirement,
            clawd_policy::Compatibility::BestEffort => Compatibility::BestEffort,
        },
        seccomp: syscalls(&policy.process),
        limits: ProcessLimits {
            nofile_max: policy.process.limits.nofile_max.map(u64::from),
            fsize_max_bytes: policy.process.limits.fsize_max_bytes,
        },
        terminal: request.terminal.map(terminal),
    };
    Ok(Plan {
        spec,
        policy,
        source: request.policy.clone(),
        network,
        caller_uid: peer.uid,
    })
}

fn syscalls(process: &clawd_policy::Process) -> Syscalls {
    Syscalls {
        profile: match process.seccomp {
            clawd_policy::SeccompProfile::Strict => Profile::Strict,
            clawd_policy::SeccompProfile::Default => Profile::Default,
            clawd_policy::SeccompProfile::Jit => Profile::Jit,
        },
        allow: process.seccomp_allow.clone(),
        deny: process.seccomp_deny.clone(),
    }
}

/// A terminal's size as the sandbox takes it.
pub(crate) fn terminal(size: clawd_control::TerminalSize) -> TerminalSize {
    TerminalSize {
        rows: size.rows,
        columns: size.columns,
    }
}

/// Reads a policy as it came over the socket; clawctl has read it before, but is not trusted to.
pub(crate) fn read_policy(source: &PolicySource) -> Result<Policy, ApiError> {
    match clawd_policy::parse(&source.file, &source.text) {
        Ok(parsed) => Ok(parsed.policy),
        Err(errors) => Err(usage(errors.to_string())),
    }
}

fn usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ExitCode::Usage, message)
}

/// The policy is the boundary: a request may narrow its network mode, never widen it.
fn network_mode(
    policy: clawd_policy::NetworkMode,
    wanted: Option<NetworkMode>,
) -> Result<NetworkMode, ApiError> {
    let allowed = match policy {
        clawd_policy::NetworkMode::None => NetworkMode::None,
        clawd_policy::NetworkMode::Direct => NetworkMode::Direct,
    };
    match (allowed, wanted) {
        (NetworkMode::None, Some(NetworkMode::Direct)) => Err(usage(
            "--network direct: the policy says `network: { mode: none }`, which a request cannot widen; change the policy",
        )),
        (_, Some(wanted)) => Ok(wanted),
        (allowed, None) => Ok(allowed),
    }
}

/// The writable tree of the run: only where the policy includes one.
fn workspace(request: &RunRequest, policy: &Policy) -> Result<Option<PathBuf>, ApiError> {
    if !policy.filesystem.include_workdir {
        return match &request.workspace {
            Some(_) => Err(usage(
                "--workspace: the policy does not include a working directory; set `filesystem_policy: { include_workdir: true }`",
            )),
            None => Ok(None),
        };
    }
    let wanted = PathBuf::from(request.workspace.as_ref().unwrap_or(&request.cwd));
    let path = wanted
        .canonicalize()
        .map_err(|error| usage(format!("workspace {}: {error}", wanted.display())))?;
    if !path.is_dir() {
        return Err(usage(format!(
            "workspace {} is not a directory",
            path.display()
        )));
    }
    if path == Path::new("/") {
        return Err(usage(
            "the workspace cannot be /; start from your project's folder or name it with --workspace",
        ));
    }
    Ok(Some(path))
}

/// Where the command starts: where the caller is if the sandbox sees that, else its workspace or home.
fn working_directory(cwd: &Path, view: &ViewSpec) -> PathBuf {
    let of_the_host = view.rootfs.is_none();
    let trees = view
        .read_only
        .iter()
        .chain(&view.read_execute)
        .chain(&view.read_write)
        .chain(&view.read_write_execute)
        .filter(|_| of_the_host)
        .chain(&view.workspace);
    let resolved = cwd
        .canonicalize()
        .unwrap_or_else(|_unresolved| cwd.to_path_buf());
    let mut trees = trees.map(|tree| {
        tree.canonicalize()
            .unwrap_or_else(|_unresolved| tree.clone())
    });
    if trees.any(|tree| resolved.starts_with(tree)) {
        return resolved;
    }
    view.workspace
        .clone()
        .unwrap_or_else(|| PathBuf::from(HOME))
}

/// Built from scratch: the defaults, then the policy's, then the request's.
fn environment(request: &RunRequest, policy: &Policy, user: &str) -> Vec<(String, String)> {
    let mut env = std::collections::BTreeMap::from([
        ("USER".to_owned(), user.to_owned()),
        ("LOGNAME".to_owned(), user.to_owned()),
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOME".to_owned(), HOME.to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    env.extend(policy.env.clone());
    env.extend(request.env.iter().cloned());
    env.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use clawd_control::{NetworkMode, PolicySource, RunRequest};
    use clawd_sys::passing::Peer;

    use super::plan;

    const ROOT: Peer = Peer {
        pid: 1,
        uid: 0,
        gid: 0,
    };
    const ALICE: Peer = Peer {
        pid: 1,
        uid: 4711,
        gid: 4711,
    };

    fn request(policy: &str) -> RunRequest {
        RunRequest {
            name: None,
            policy: PolicySource {
                file: "p.yaml".to_owned(),
                text: format!("version: 2\n{policy}"),
            },
            command: vec!["true".to_owned()],
            env: vec![("A".to_owned(), "request".to_owned())],
            cwd: "/".to_owned(),
            workspace: None,
            network: None,
            user: None,
            terminal: None,
            detach: false,
        }
    }

    fn refusal(request: &RunRequest, peer: Peer) -> String {
        plan(request, peer).expect_err("refused").error.message
    }

    #[test]
    fn implicit_grants_that_policies_show_are_those_of_the_view() {
        let mut shown: Vec<_> = clawd_policy::IMPLICIT
            .iter()
            .map(|(path, ..)| std::path::PathBuf::from(path))
            .collect();
        let mut made = clawd_sandbox::implicit_paths();
        shown.sort();
        made.sort();
        assert_eq!(shown, made);
    }

    #[test]
    fn plan_of_root_runs_as_nobody_and_never_as_root() {
        let planned = plan(&request(""), ROOT).expect("planned");
        assert_eq!(planned.spec.uid, 65534);
        let as_root = RunRequest {
            user: Some("root".to_owned()),
            ..request("")
        };
        assert!(refusal(&as_root, ROOT).contains("never runs as root"));
    }

    #[test]
    fn plan_of_another_runs_as_that_user_alone() {
        let planned = plan(&request(""), ALICE).expect("planned");
        assert_eq!((planned.spec.uid, planned.spec.gid), (4711, 4711));
        let as_nobody = RunRequest {
            user: Some("nobody".to_owned()),
            ..request("")
        };
        assert!(refusal(&as_nobody, ALICE).contains("only root"));
    }

    #[test]
    fn plan_further_groups_are_those_of_the_policy_and_for_others_their_own() {
        let nogroup = request("process: { supplementary_groups: [nogroup, \"4712\", \"4712\"] }\n");
        let planned = plan(&nogroup, ROOT).expect("planned");
        let groups: Vec<_> = planned.spec.groups.iter().map(|group| group.gid).collect();
        assert_eq!(groups, [65_534, 4712]);
        assert_eq!(planned.spec.groups[0].name, "nogroup");
        let told = refusal(&nogroup, ALICE);
        assert!(
            told.contains("nogroup") && told.contains("member"),
            "{told}"
        );
        let unknown = request("process: { supplementary_groups: [no-such-group] }\n");
        assert!(refusal(&unknown, ROOT).contains("no-such-group"));
    }

    #[test]
    fn plan_request_cannot_widen_the_network() {
        let wide = RunRequest {
            network: Some(NetworkMode::Direct),
            ..request("")
        };
        assert!(refusal(&wide, ROOT).contains("cannot widen"));
        let narrow = RunRequest {
            network: Some(NetworkMode::None),
            ..request("network: { mode: direct }\n")
        };
        assert!(plan(&narrow, ROOT).expect("planned").spec.own_network);
    }

    #[test]
    fn plan_workspace_needs_the_policys_leave() {
        let asked = RunRequest {
            workspace: Some("/tmp".to_owned()),
            ..request("")
        };
        assert!(refusal(&asked, ROOT).contains("include_workdir"));
        let slash = request("filesystem_policy: { include_workdir: true }\n");
        assert!(refusal(&slash, ROOT).contains("cannot be /"));
    }

    #[test]
    fn plan_variable_that_changes_code_needs_the_policys_leave() {
        let preload = |policy: &str| RunRequest {
            env: vec![("LD_PRELOAD".to_owned(), "/hunter2".to_owned())],
            ..request(policy)
        };
        for policy in [
            "",
            "env: { LD_PRELOAD: /lib/x.so }\n",
            "env_allow: [LD_AUDIT]\n",
        ] {
            let told = refusal(&preload(policy), ROOT);
            assert!(
                told.contains("LD_PRELOAD") && told.contains("env_allow"),
                "{told}"
            );
            assert!(!told.contains("hunter2"), "{told}");
        }
        let planned = plan(&preload("env_allow: [LD_PRELOAD]\n"), ROOT).expect("planned");
        let set = ("LD_PRELOAD".to_owned(), "/hunter2".to_owned());
        assert!(planned.spec.env.contains(&set));
        let own = plan(&request("env: { LD_PRELOAD: /lib/x.so }\n"), ROOT).expect("planned");
        assert!(own.spec.env.iter().any(|(name, _)| name == "LD_PRELOAD"));
    }

    #[test]
    fn plan_environment_is_made_of_defaults_policy_and_request_alone() {
        let planned = plan(&request("env: { A: policy, B: policy }\n"), ROOT).expect("planned");
        let names: Vec<_> = planned
            .spec
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            names,
            [
                "A=request",
                "B=policy",
                "HOME=/home/sandbox",
                "LANG=C.UTF-8",
                "LOGNAME=nobody",
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "USER=nobody"
            ]
        );
    }
}
