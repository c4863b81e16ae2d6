//! How large a policy may be. Each limit bounds work or memory that a file could ask for.

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

/// Endpoints of all groups together. Each makes at most one entry of the address trie.
pub const MAX_ENDPOINTS: usize = 4096;

/// `binaries` entries of all groups together: one bit each in a grant mask.
pub const MAX_BINARIES: usize = GRANT_BITS;

/// Ports of one endpoint with its ranges written out: each becomes rules, one per address class.
pub const MAX_PORTS_PER_ENDPOINT: usize = 1024;

/// Address classes of one compiled policy: what one policy may take of the kernel's rule table.
pub const MAX_ADDRESS_CLASSES: usize = 4096;

/// Rules (class, protocol, port) of one compiled policy, for the same reason.
pub const MAX_RULES: usize = 65_536;

/// Entries of one list of `filesystem_policy`. Each is a mount or a Landlock rule at every start.
pub const MAX_PATHS: usize = 1024;

/// Bytes of a path: the kernel's `PATH_MAX` counts the terminating NUL.
pub const MAX_PATH_BYTES: usize = 4095;

/// Entries of `env`.
pub const MAX_ENV: usize = 1024;

/// Bytes of `NAME=value`: the kernel's `MAX_ARG_STRLEN` (32 pages of 4 KiB) counts the NUL.
pub const MAX_ENV_ENTRY_BYTES: usize = 32 * 4096 - 1;

/// Bytes of a user or group name: `LOGIN_NAME_MAX` of shadow and systemd.
pub const MAX_ACCOUNT_NAME_BYTES: usize = 32;

/// Bytes of a group's key in `network_policies`; it is part of names in audit records.
pub const MAX_GROUP_NAME_BYTES: usize = 64;

/// Errors reported at once; a file with more is better read from the top again.
pub const MAX_ERRORS: usize = 64;
