//! Types of the control API: what clawd and clawctl say to each other over the unix socket.
//!
//! HTTP/1.1 with JSON bodies. The requests are in [`route`], their bodies in the module named
//! after them. Reads no file, opens no socket, asks no clock.
#![forbid(unsafe_code)]

pub mod environment;
pub mod error;
pub mod exec;
pub mod exit;
pub mod limits;
pub mod logs;
pub mod name;
pub mod percent;
pub mod pins;
pub mod policy;
pub mod promises;
pub mod route;
pub mod run;
pub mod sandbox;
pub mod status;

pub use error::{ApiError, ApiErrorBody};
pub use exec::ExecRequest;
pub use exit::{ExitCode, ExitStatus};
pub use logs::LogQuery;
pub use name::{NameError, SandboxName};
pub use pins::{ForgetError, ForgetReport, ForgetRequest, PinInfo};
pub use policy::{
    GenerationInfo, PolicyReport, PolicySource, PushReport, PushRequest, RollbackRequest,
};
pub use promises::{NamedPromises, Promise, PromiseStatus};
pub use route::{Route, RouteError};
pub use run::{ClientMessage, NetworkMode, RequestError, RunEvent, RunRequest, TerminalSize};
pub use sandbox::{
    LandlockStatus, Layers, SandboxCounters, SandboxInfo, SandboxLimits, StopAllReport,
    StopFailure, StopReport, StopRequest, WaitReport,
};
pub use status::{EventTotals, ExecGateStatus, Health, HookStatus, NamedLimits, Status};

/// Where clawd listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/clawd/control.sock";
/// Names the socket where `--socket` is not given.
pub const SOCKET_VARIABLE: &str = "CLAWD_SOCKET";
/// Besides root, members of this group may talk to clawd.
pub const SOCKET_GROUP: &str = "clawd";
