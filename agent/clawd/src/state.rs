//! What a daemon must know of a sandbox to take it over, as a file beside the audit log.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clawd_control::{NetworkMode, PolicySource, SandboxName};
use clawd_identity::{Entry, Matcher, protocol::Watch};
use clawd_policy::{BinaryMatcher, Policy};
use clawd_sandbox::Layers;
use serde::{Deserialize, Serialize};

/// A sandbox. Written before its command is executed; without it the sandbox is not taken over but
/// ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxState {
    pub(crate) name: SandboxName,
    pub(crate) sandbox_id: u32,
    pub(crate) cgroup_id: u64,
    /// `SANDBOX_*` bits.
    pub(crate) flags: u32,
    /// Pid 1 of the sandbox, in the daemon's pid namespace.
    pub(crate) init_pid: u32,
    pub(crate) command: Vec<String>,
    pub(crate) uid: u32,
    pub(crate) network: NetworkMode,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// Mount points that the exec gate watches, in the sandbox's view.
    pub(crate) exec_mounts: Vec<PathBuf>,
    /// The descriptor of pid 1's that the next daemon reads refusals from.
    pub(crate) refusals_fd: i32,
    /// What is in force; `None` until the command was executed.
    pub(crate) layers: Option<Layers>,
    pub(crate) policy: PolicyState,
}

impl SandboxState {
    /// What the exec gate must know of it, under `policy`, which is its own.
    pub(crate) fn watch(&self, policy: &Policy) -> Watch {
        Watch {
            sandbox_id: self.sandbox_id,
            name: self.name.to_string(),
            init_pid: self.init_pid,
            exec_mounts: self.exec_mounts.clone(),
            policy: gate_policy(self.policy.policy_id, policy),
        }
    }
}

/// The part of a policy that the exec gate must know.
pub(crate) fn gate_policy(policy_id: u32, policy: &Policy) -> clawd_identity::protocol::Policy {
    let entry = |entry: clawd_policy::GrantEntry| Entry {
        label: entry.to_string(),
        matcher: match entry.matcher {
            BinaryMatcher::Path(path) => Matcher::Path(path),
            BinaryMatcher::Pattern(pattern) => Matcher::Pattern(pattern),
            BinaryMatcher::Sha256(sha256) => Matcher::Sha256(sha256),
        },
        descendants: entry.descendants,
        denies: entry.denies,
    };
    clawd_identity::protocol::Policy {
        policy_id,
        entries: policy.grants().into_iter().map(entry).collect(),
    }
}

/// The policy that is in force for a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyState {
    pub(crate) policy_id: u32,
    /// Counts the policies of this sandbox, from 1.
    pub(crate) generation: u64,
    pub(crate) source: PolicySource,
}

/// The folder of those files.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    dir: PathBuf,
}

impl StateDir {
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("sandboxes");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        // A name may hold dots, so the ending is appended rather than set.
        self.dir.join(format!("{name}.json"))
    }

    pub(crate) fn write(&self, state: &SandboxState) -> io::Result<()> {
        crate::files::replace_json(
            &self.path(state.name.as_str()),
            state,
            crate::files::Durable::No,
        )
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Every sandbox that has a complete file, and the names of files that could not be read.
    pub(crate) fn read_all(&self) -> io::Result<(Vec<SandboxState>, Vec<PathBuf>)> {
        let (mut complete, mut broken) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let state = fs::read(&path).map(|bytes| serde_json::from_slice::<SandboxState>(&bytes));
            match state {
                Ok(Ok(state)) if path == self.path(state.name.as_str()) => complete.push(state),
                _ => broken.push(path),
            }
        }
        Ok((complete, broken))
    }
}
