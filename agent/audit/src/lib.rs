//! The audit log: from the kernel's fixed-size events to JSON lines in a file, and back.
//!
//! [`decode`](decode::decode) reads an event's bytes, [`record`](convert::record) names what its
//! numbers stand for, [`AuditLog`] numbers the record and writes it, to one file after the other.
//! [`tail`](tail::tail) reads records back. Records follow the classes of OCSF 1.3.0.
#![forbid(unsafe_code)]

pub mod convert;
pub mod daemon;
pub mod decode;
pub mod escape;
pub mod filter;
pub mod flood;
pub mod log;
pub mod record;
pub mod syscall;
pub mod tail;
pub mod time;

pub use convert::{Names, SeenFile, record};
pub use daemon::DaemonEvent;
pub use decode::{DecodeError, decode};
pub use filter::{Filter, FilterError};
pub use flood::Flood;
pub use log::{AppendError, AuditLog, Line, LogFiles, OpenError, RotateError, Rotation};
pub use record::{Activity, Ancestor, AuditRecord, Class, Digest, Outcome, Protocol};
pub use syscall::{RefusedCall, refused_call};
pub use tail::{Tail, tail};
pub use time::{Clock, Timestamp};
