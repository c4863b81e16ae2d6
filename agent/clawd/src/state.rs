//! What a daemon must know of a sandbox to take it over, as a file beside the audit log.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clawd_audit::Digest;
use clawd_control::{NetworkMode, PolicySource, SandboxName};
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
    /// What is in force; `None` until the command was executed.
    pub(crate) layers: Option<Layers>,
    pub(crate) policy: PolicyState,
}

/// The policy that is in force for a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyState {
    pub(crate) policy_id: u32,
    /// Counts the policies of this sandbox, from 1.
    pub(crate) generation: u64,
    pub(crate) source: PolicySource,
    /// By bit of the grant mask.
    pub(crate) grants: Vec<Grant>,
}

/// One `binaries` entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    /// Where the policy says it.
    pub(crate) label: String,
    /// The content that it means; `None` where the path named no file when the policy was put in force.
    pub(crate) sha256: Option<Digest>,
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
