//! Why a sandbox could not be started.

use std::{fmt, io};

use clawd_sys::descriptors::Unfit;
use serde::{Deserialize, Serialize};

use crate::channel::ChannelError;

/// A layer of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The channel between daemon and init.
    Channel,
    /// Namespaces and what is in them.
    Namespaces,
    /// The tree of mounts that the sandbox sees.
    MountView,
    /// Resource limits, session, file mode mask.
    Process,
    /// User, groups, capabilities, `no_new_privs`.
    Privileges,
    /// Landlock.
    Landlock,
    /// seccomp filters.
    Seccomp,
    /// The command's terminal.
    Terminal,
    /// The working directory.
    WorkingDirectory,
    /// The command itself.
    Exec,
}

impl Layer {
    /// What to do where a step of it fails, if that can be said of all of them.
    const fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::Namespaces => {
                "clawd needs namespaces and cgroup v2 (CONFIG_NAMESPACES, CONFIG_CGROUPS) and all of root's capabilities"
            }
            Self::MountView => {
                "what is listed and the usual nodes of /dev must be there, and clawd needs CAP_SYS_ADMIN"
            }
            Self::Process => "clawd must be allowed to raise its limits (CAP_SYS_RESOURCE)",
            Self::Privileges => {
                "clawd must run as root with CAP_SETUID, CAP_SETGID and CAP_SETPCAP"
            }
            Self::Landlock => {
                "boot with `lsm=landlock,...`, or accept less with `landlock: {compatibility: best_effort}`"
            }
            Self::Seccomp => "the kernel needs CONFIG_SECCOMP_FILTER",
            Self::Terminal => {
                "a terminal is made in the sandbox's /dev/pts, which the policy must not deny"
            }
            Self::WorkingDirectory => {
                "start in a directory that the policy lists or includes, and that the sandbox's user may enter"
            }
            Self::Channel | Self::Exec => return None,
        })
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel => "channel",
            Self::Namespaces => "namespaces",
            Self::MountView => "mount view",
            Self::Process => "process",
            Self::Privileges => "privileges",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Terminal => "terminal",
            Self::WorkingDirectory => "working directory",
            Self::Exec => "exec",
        })
    }
}

/// A layer that could not be applied, as the sandbox's init reports it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{layer}: {message}")]
pub struct Failed {
    /// Which.
    pub layer: Layer,
    /// 125, or 126 and 127 for a command that cannot be executed or is not there.
    pub exit_code: u8,
    /// What was wrong, with its causes, and what to do.
    pub message: String,
}

impl Failed {
    /// Exit code of a sandbox that could not be set up.
    pub(crate) const SETUP: u8 = 125;

    /// A layer that stops the start.
    pub(crate) fn new(layer: Layer, message: impl Into<String>) -> Self {
        Self {
            layer,
            exit_code: Self::SETUP,
            message: message.into(),
        }
    }
}

/// Names the layer and the step of an error on its way to the daemon.
pub(crate) trait InLayer<T> {
    /// `what` is the step, as in "could not ...".
    fn in_layer(self, layer: Layer, what: impl fmt::Display) -> Result<T, Failed>;
}

impl<T, E: fmt::Display> InLayer<T> for Result<T, E> {
    fn in_layer(self, layer: Layer, what: impl fmt::Display) -> Result<T, Failed> {
        self.map_err(|error| {
            let release = clawd_sys::rustix::system::uname();
            let release = release.release().to_string_lossy().into_owned();
            let mut message = format!("could not {what}: {error} (Linux {release})");
            if let Some(remedy) = layer.remedy() {
                message = format!("{message}; {remedy}");
            }
            Failed::new(layer, message)
        })
    }
}

/// Why a sandbox could not be started. On every variant its processes are gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A layer could not be applied, or the command not be executed.
    #[error(transparent)]
    Layer(#[from] Failed),
    /// The request itself cannot be met.
    #[error("{0}")]
    Request(String),
    /// A standard stream would have led out of the sandbox.
    #[error("{stream} {} and would lead out of the sandbox: use a file, a pipe or a terminal", match unfit {
        Unfit::Directory => "is a directory",
        Unfit::BlockDevice => "is a block device",
        Unfit::Socket => "is a socket",
        Unfit::Handle => "is a handle of the kernel's",
    })]
    Stream {
        /// Which of the three.
        stream: &'static str,
        /// What it is.
        unfit: Unfit,
    },
    /// A system call of the daemon's side failed.
    #[error("could not {what}")]
    System {
        /// The step.
        what: &'static str,
        /// Its cause.
        #[source]
        source: io::Error,
    },
    /// The sandbox's init fell silent.
    #[error("the sandbox's init did not get to: {step}")]
    Silent {
        /// What was waited for.
        step: &'static str,
        /// Its cause.
        #[source]
        source: ChannelError,
    },
    /// A namespace that was asked for is the daemon's own.
    #[error("the sandbox shares the {0} namespace with clawd, so nothing was started")]
    Namespace(&'static str),
}

impl StartError {
    /// The exit code of a command line that meets this error: 125, 126 or 127.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Layer(failed) => failed.exit_code,
            _ => Failed::SETUP,
        }
    }
}
