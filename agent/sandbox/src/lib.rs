//! From a checked policy to a running, confined process.
//!
//! Two halves of one program meet here. [`spawn`] runs in the daemon: it clones a child into a
//! cgroup and new namespaces, and the child executes the daemon's own file again. [`init::main`] is
//! that second life: one thread and nothing inherited. It builds the mount view, waits until the
//! daemon has marked the view's mounts, confines itself, and starts the command.
//!
//! Every layer is in force before the command's first instruction, or there is no command.
#![forbid(unsafe_code)]

mod channel;
mod error;
pub mod init;
mod landlock_layer;
mod parent;
mod seccomp;
mod spec;
mod view;

pub use error::{Failed, Layer, StartError};
pub use parent::{Descriptors, Running, ViewReady, spawn};
pub use seccomp::{Denial, denials};
pub use spec::{
    Compatibility, DEADLINE, HOME, INIT_ARGUMENT, LandlockState, Layers, Profile, SpawnSpec,
    ViewSpec,
};
