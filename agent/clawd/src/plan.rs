//! From a request to a plan: everything that can be found wrong before anything is made.

use std::path::{Path, PathBuf};

use clawd_control::{ApiError, ExitCode, NetworkMode, PolicySource, RunRequest};
use clawd_policy::Policy;
use clawd_sandbox::{Compatibility, HOME, Profile, SpawnSpec, ViewSpec};
use clawd_sys::passing::Peer;

/// Programs are looked for here unless the policy or the request says otherwise.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Who a sandbox of root's runs as unless the policy or the request says otherwise.
const DEFAULT_USER: &str = "nobody";

/// A sandbox that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything but the host name, which is the sandbox's name.
    pub(crate) spec: SpawnSpec,
    pub(crate) policy: Policy,
    pub(crate) source: PolicySource,
    pub(crate) network: NetworkMode,
}

/// Checks a request of `peer`'s.
pub(crate) fn plan(request: &RunRequest, peer: Peer) -> Result<Plan, ApiError> {
    request.check().map_err(|error| usage(error.to_string()))?;
    let policy = read_policy(&request.policy)?;
    let network = network_mode(policy.network, request.network)?;
    let (uid, gid) = user(request, &policy, peer)?;
    let workspace = workspace(request, &policy)?;
    let view = ViewSpec {
        read_only: policy.filesystem.read_only.clone(),
        read_execute: policy.filesystem.read_execute.clone(),
        read_write: policy.filesystem.read_write.clone(),
        workspace,
    };
    let spec = SpawnSpec {
        hostname: String::new(),
        cwd: working_directory(Path::new(&request.cwd), &view),
        view,
        own_network: network == NetworkMode::None,
        uid,
        gid,
        argv: request.command.clone(),
        env: environment(request, &policy),
        landlock: match policy.landlock {
            clawd_policy::Compatibility::HardRequirement => Compatibility::HardRequirement,
            clawd_policy::Compatibility::BestEffort => Compatibility::BestEffort,
        },
        seccomp: match policy.process.seccomp {
            clawd_policy::SeccompProfile::Strict => Profile::Strict,
            clawd_policy::SeccompProfile::Default => Profile::Default,
        },
    };
    Ok(Plan {
        spec,
        policy,
        source: request.policy.clone(),
        network,
    })
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

/// Whom the command runs as: the request, the policy, the caller itself, or nobody for root.
fn user(request: &RunRequest, policy: &Policy, peer: Peer) -> Result<(u32, u32), ApiError> {
    let named = request
        .user
        .as_deref()
        .or(policy.process.run_as_user.as_deref());
    let (uid, mut gid) = match named {
        Some(name) => find_user(name)?,
        None if peer.uid != 0 => (peer.uid, peer.gid),
        None => find_user(DEFAULT_USER)?,
    };
    if let Some(group) = policy.process.run_as_group.as_deref() {
        gid = find_group(group)?;
    }
    if uid == 0 || gid == 0 {
        return Err(usage(
            "a sandbox never runs as root; name another user with --user or `process: { run_as_user: }`",
        ));
    }
    // A member of the socket's group is no root: as somebody else it would read that user's files.
    if peer.uid != 0 && (uid, gid) != (peer.uid, peer.gid) {
        return Err(usage(format!(
            "only root may start a sandbox as another user (uid {uid}, gid {gid}); you are uid {}, gid {}",
            peer.uid, peer.gid
        )));
    }
    Ok((uid, gid))
}

fn find_user(name: &str) -> Result<(u32, u32), ApiError> {
    let found = match name.parse::<u32>() {
        Ok(uid) => uzers::get_user_by_uid(uid),
        Err(_name) => uzers::get_user_by_name(name),
    };
    let found = found.ok_or_else(|| {
        usage(format!("there is no user {name:?} on this host; make it with `useradd --system {name}` or name another"))
    })?;
    Ok((found.uid(), found.primary_group_id()))
}

fn find_group(name: &str) -> Result<u32, ApiError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let found = uzers::get_group_by_name(name);
    found.map(|group| group.gid()).ok_or_else(|| {
        usage(format!("there is no group {name:?} on this host; make it with `groupadd --system {name}` or name another"))
    })
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
    let trees = view
        .read_only
        .iter()
        .chain(&view.read_execute)
        .chain(&view.read_write)
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
fn environment(request: &RunRequest, policy: &Policy) -> Vec<(String, String)> {
    let mut env = std::collections::BTreeMap::from([
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
        }
    }

    fn refusal(request: &RunRequest, peer: Peer) -> String {
        plan(request, peer).expect_err("refused").error.message
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
                "PATH=/usr/local/bin:/usr/bin:/bin"
            ]
        );
    }
}
