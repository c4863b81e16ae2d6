//! Limits of the control API, enforced by clawd on what it reads and by clawctl on what it sends.

/// Bytes of a request's body: the largest policy beside the largest command.
pub const BODY_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a policy's text: 4,096 rules of 200 bytes fit.
pub const POLICY_BYTES: usize = 1024 * 1024;
/// Policies that clawd keeps of a sandbox, the one in force among them, where they are not too large.
pub const GENERATIONS: usize = 32;
/// Bytes of a request's head (request line and headers): clawctl sends under 512.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request: clawctl sends five.
pub const HEADERS: usize = 32;
/// Seconds a client may take to send a request's head or body.
pub const REQUEST_TIMEOUT_S: u64 = 10;
/// Connections served at a time, over all clients; each running `clawctl run` holds one.
pub const CONNECTIONS: usize = 4096;
/// Bytes of one JSON line on an upgraded `run` connection.
pub const LINE_BYTES: usize = 64 * 1024;
/// Words of a command, its own name among them.
pub const COMMAND_WORDS: usize = 4096;
/// Bytes of all words of a command.
pub const COMMAND_BYTES: usize = 512 * 1024;
/// Variables that a run may set.
pub const VARIABLES: usize = 512;
/// Bytes of all names and values of the variables.
pub const VARIABLE_BYTES: usize = 128 * 1024;
/// Bytes of a path (`PATH_MAX`, with its terminating zero).
pub const PATH_BYTES: usize = 4095;
/// Paths whose pins one request may have forgotten: the lists of sixteen full policies.
pub const FORGET_PATHS: usize = 4096;
/// Bytes of a user's name (`LOGIN_NAME_MAX`).
pub const USER_BYTES: usize = 255;
/// Seconds that a stopped sandbox may be given to end by itself.
pub const STOP_TIMEOUT_S: u32 = 3600;
/// Audit records that one `logs` request may ask back.
pub const LOG_RECORDS: usize = 100_000;
