//! From a checked policy to a running, confined process.
//!
//! Two halves of one program meet here. [`spawn`] runs in the daemon: it clones a child into a
//! cgroup and new namespaces, and the child executes the daemon's own file again. [`init::main`] is
//! that second life: one thread and nothing inherited. It builds the mount view, waits until the
//! daemon has marked the view's mounts, confines itself, and starts the command.
//!
//! Further commands come in through [`enter`]: pid 1 forks for them, so they have every layer that it
//! has.
//!
//! Every layer is in force before the command's first instruction, or there is no command.
#![forbid(unsafe_code)]

mod cgroups;
mod channel;
mod enter;
mod error;
pub mod init;
mod landlock_layer;
mod parent;
mod refusal;
mod seccomp;
mod spec;
mod view;

pub use cgroups::Cgroups;
pub use clawd_sys::spawn::REFUSALS_READ_FD;
pub use enter::{Entered, Entering, enter};
pub use error::{Failed, Layer, StartError};
pub use parent::{Descriptors, Running, Streams, ViewReady, spawn};
pub use refusal::{REFUSAL_BYTES, Refusal};
pub use seccomp::{Denial, denials};
pub use spec::{
    Compatibility, DEADLINE, EnterSpec, Group, HOME, INIT_ARGUMENT, LandlockState, Layers,
    ProcessLimits, Profile, SpawnSpec, Syscalls, TerminalSize, ViewSpec,
};
pub use view::{account_name, implicit_paths};
