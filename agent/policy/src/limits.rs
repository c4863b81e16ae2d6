//! How large a policy may be. Each limit bounds work or memory that a file could ask for.

use std::ops::RangeInclusive;

use clawd_common::decide::GRANT_BITS;

/// Bytes of a policy file. The largest real ones are below 100 KiB; the reader keeps a few copies.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// Levels of lists and mappings inside each other. The language needs 5; the reader recurses.
pub const MAX_DEPTH: usize = 16;

/// YAML nodes. A file of [`MAX_TEXT_BYTES`] in the densest sensible spelling stays below it.
pub const MAX_NODES: usize = 200_000;

/// YAML aliases (`*name`). They only save typing, so a file that has more is not a policy.
pub const MAX_ALIASES: usize = 64;

/// Parser events that all aliases together may repeat: what keeps nested aliases from exploding.
pub const MAX_ALIAS_EVENTS: usize = 20_000;

/// Entries of `network_policies`.
pub const MAX_GROUPS: usize = 256;

/// Endpoints of all groups together. Each makes up to four entries of the address trie: of a rule that
/// leaves addresses out, one for each family.
pub const MAX_ENDPOINTS: usize = 16_384;

/// `binaries` entries of all groups together: one bit each in a grant mask.
pub const MAX_BINARIES: usize = GRANT_BITS;

/// Entries of `ports` of one endpoint.
pub const MAX_PORTS_PER_ENDPOINT: usize = 1024;

/// Address classes of one compiled policy: what one policy may take of the kernel's tables.
pub const MAX_ADDRESS_CLASSES: usize = 16_384;

/// Rules (address class, port class) of one compiled policy, for the same reason.
pub const MAX_RULES: usize = 131_072;

/// Prefixes of port numbers of one compiled policy, for the same reason. A range is up to 30 of them.
pub const MAX_PORT_PREFIXES: usize = 65_536;

/// Steps of the compiler, each the meeting of a range of ports with another, or with an address class:
/// a fraction of a second.
pub const MAX_COMPILE_STEPS: usize = 4_000_000;

/// Entries of one list of `filesystem_policy`. Each is a mount or a Landlock rule at every start.
pub const MAX_PATHS: usize = 1024;

/// Bytes of a path: the kernel's `PATH_MAX` counts the terminating NUL.
pub const MAX_PATH_BYTES: usize = 4095;

/// Segments of a pattern that have wildcards. Each is a folder to list where files are looked for;
/// the deepest trees of installed programs have fewer levels.
pub const MAX_PATTERN_WILDCARDS: usize = 16;

/// Segments `**` of a pattern. Each lets a search go on from every folder that it has reached, and
/// two already say all that a person can mean.
pub const MAX_PATTERN_ANY_DEPTHS: usize = 4;

/// Entries of `env`.
pub const MAX_ENV: usize = 1024;

/// Bytes of `NAME=value`: the kernel's `MAX_ARG_STRLEN` (32 pages of 4 KiB) counts the NUL.
pub const MAX_ENV_ENTRY_BYTES: usize = 32 * 4096 - 1;

/// Bytes of a user or group name: `LOGIN_NAME_MAX` of shadow and systemd.
pub const MAX_ACCOUNT_NAME_BYTES: usize = 32;

/// Entries of `process.supplementary_groups`: who needs more is given too much.
pub const MAX_SUPPLEMENTARY_GROUPS: usize = 32;

/// Bytes of a group's key in `network_policies`; it is part of names in audit records.
pub const MAX_GROUP_NAME_BYTES: usize = 64;

/// `process.pids_max`: below 4 no shell can start a program; above is no process id
/// (`PID_MAX_LIMIT` of the kernel).
pub const PIDS_MAX: RangeInclusive<u64> = 4..=4_194_304;

/// `process.memory_max`, in bytes: in less than 16 MiB little starts; 1 PiB is past every machine.
pub const MEMORY_MAX_BYTES: RangeInclusive<u64> = 16 << 20..=1 << 50;

/// `process.cpu_max`, in hundredths of a CPU: a hundredth is the kernel's least share of a tenth of a
/// second (`min_cfs_quota_period`, 1 ms).
pub const CPU_MAX_PERCENT: RangeInclusive<u64> = 1..=102_400;

/// `process.nofile_max`: below 64 interpreters fail in odd ways; above is `fs.nr_open` of most hosts.
pub const NOFILE_MAX: RangeInclusive<u64> = 64..=1_048_576;

/// `process.fsize_max`, in bytes.
pub const FSIZE_MAX_BYTES: RangeInclusive<u64> = 4096..=1 << 50;

/// Errors reported at once; a file with more is better read from the top again.
pub const MAX_ERRORS: usize = 64;
