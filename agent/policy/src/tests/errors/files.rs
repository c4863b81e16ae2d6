//! Mistakes in a file, outside of endpoints and binaries.

use super::{Case, check};
use crate::PolicyErrorKind::{Missing, NotEnforced, Syntax, UnknownKey, Value, Version};

const FILES: &[Case] = &[
    ("", &[(Missing, "1:1: the file holds no policy")]),
    (
        "version: 1\nfoo: 1",
        &[(
            Version,
            "1:10: version 1 of the policy language is not read yet",
        )],
    ),
    (
        "version: \"2\"",
        &[(Version, "1:10: `version` is a text, not a number")],
    ),
    (
        "version: 3",
        &[(
            Version,
            "1:10: version `3` is not a version of the policy language",
        )],
    ),
    (
        "foo: 1",
        &[
            (UnknownKey, "1:1: `foo` is not a key of a policy"),
            (Missing, "1:1: `version` is missing"),
        ],
    ),
    (
        "- a",
        &[(Value, "1:1: a policy must be a mapping, not a list")],
    ),
    (
        "version: 2\nversion: 2",
        &[(Syntax, "2:1: key `version` is written twice")],
    ),
    (
        "version: 2\n---\nversion: 2",
        &[(Syntax, "3:1: the file holds more than one YAML document")],
    ),
    (
        "version: 2\nenv: { <<: {A: b} }",
        &[(Syntax, "2:8: merge keys (`<<`) are not read")],
    ),
    (
        "version: 2\nenv: { A: [",
        &[(Syntax, "2:11: not valid YAML: unclosed bracket '['")],
    ),
    (
        "version: 2\nfilesystem_policy: { read_onyl: [/a], rootfs: [b], read_write_exceute: [], read_write_execute: /c }",
        &[
            (
                UnknownKey,
                "2:22: `read_onyl` is not a key of `filesystem_policy`",
            ),
            (Value, "2:47: `rootfs` must be a single value, not a list"),
            (
                UnknownKey,
                "2:52: `read_write_exceute` is not a key of `filesystem_policy`",
            ),
            (Value, "2:96: `read_write_execute` must be a list, not `/c`"),
        ],
    ),
    (
        "version: 2\nfilesystem_policy:\n  include_workdir: yes\n  read_only: [a/b, /a/../b, /a//b/, /a, \"/b\\n\"]\n  read_execute: [/a, ~]\n  read_write: [/, /c]\n  read_write_execute: [/, /c, /c, d, \"/c/*\"]",
        &[
            (Value, "3:20: `include_workdir` cannot be `yes`"),
            (Value, "4:15: path `a/b` is not absolute"),
            (Value, "4:20: path `/a/../b` holds `..`"),
            (Value, "4:29: path `/a//b/` is not in its shortest form"),
            (Value, r#"4:41: path `/b\n` holds a control character"#),
            (Value, "5:18: `/a` is already in `read_only`, line 4"),
            (Value, "5:22: an entry of `read_execute` has no value"),
            (Value, "6:16: `/` cannot be in `read_write`"),
            (Value, "7:24: `/` cannot be in `read_write_execute`"),
            (Value, "7:27: `/c` is already in `read_write`, line 6"),
            (Value, "7:31: `/c` is already in `read_write`, line 6"),
            (Value, "7:35: path `d` is not absolute"),
        ],
    ),
    (
        "version: 2\nfilesystem_policy:\n  read_only: [/a]\n  deny: [/a, b, /, /proc, /proc/self/mem, /proc/1, /c/*, /proc/x, /c]",
        &[
            (Value, "4:10: `/a` is already in `read_only`, line 3"),
            (Value, "4:14: path `b` is not absolute"),
            (Value, "4:17: `/` cannot be in `deny`"),
            (Value, "4:20: `/proc` cannot be denied"),
            (Value, "4:27: `/proc/self/mem` cannot be denied"),
            (Value, "4:43: `/proc/1` cannot be denied"),
            (Value, "4:52: `/c/*` looks like a pattern"),
        ],
    ),
    (
        "version: 2\nfilesystem_policy: { rootfs: / }",
        &[(Value, "2:30: `rootfs` cannot be `/`")],
    ),
    (
        "version: 2\nfilesystem_policy: { rootfs: srv/root }",
        &[(Value, "2:30: path `srv/root` is not absolute")],
    ),
    (
        "version: 2\nfilesystem_policy: []",
        &[(
            Value,
            "2:20: `filesystem_policy` must be a mapping, not a list",
        )],
    ),
    (
        "version: 2\nfilesystem_policy:\n  read_only: /etc",
        &[(Value, "3:14: `read_only` must be a list, not `/etc`")],
    ),
    (
        "version: 2\nlandlock: { compatibility: hard_requirment }",
        &[(Value, "2:28: `hard_requirment` is not a compatibility")],
    ),
    (
        "version: 2\nlandlock: hard_requirement",
        &[(
            Value,
            "2:11: `landlock` must be a mapping, not `hard_requirement`",
        )],
    ),
    (
        "version: 2\nprocess: { run_as_user: root, run_as_group: 0, seccomp: gpu, pids_max: 3 }",
        &[
            (Value, "2:25: `run_as_user` cannot be `root`"),
            (Value, "2:45: `run_as_group` cannot be `0`"),
            (
                NotEnforced,
                "2:57: `gpu` as a seccomp profile is understood but not enforced by this version",
            ),
            (Value, "2:72: `pids_max` cannot be `3`"),
        ],
    ),
    (
        "version: 2\nprocess:\n  seccomp_allow: [ptrace, personality, personality, ptrase, socket, clone3, x y]\n  seccomp_deny: [read, personality, listen, exit_group, 5]",
        &[
            (Value, "3:19: `ptrace` cannot be allowed"),
            (
                Value,
                "3:40: `personality` is already in `seccomp_allow`, line 3",
            ),
            (Value, "3:53: `ptrase` is not a system call"),
            (Value, "3:61: `socket` cannot be allowed"),
            (Value, "3:69: `clone3` cannot be allowed"),
            (Value, "3:77: `x y` is not a system call"),
            (Value, "4:18: `read` cannot be denied"),
            (
                Value,
                "4:24: `personality` is already in `seccomp_allow`, line 3",
            ),
            (Value, "4:45: `exit_group` cannot be denied"),
            (Value, "4:57: `5` is not a system call"),
        ],
    ),
    (
        "version: 2\nprocess: { seccomp: strict, seccomp_allow: [mprotect], seccomp_deny: ptrace }",
        &[
            (Value, "2:45: `mprotect` cannot be allowed"),
            (Value, "2:70: `seccomp_deny` must be a list, not `ptrace`"),
        ],
    ),
    (
        "version: 2\nprocess:\n  pids_max: 4194305\n  memory_max: 4GB\n  cpu_max: 0\n  nofile_max: 1e3\n  fsize_max: [1]",
        &[
            (Value, "3:13: `pids_max` cannot be `4194305`"),
            (Value, "4:15: `4GB` is no value of `memory_max`"),
            (Value, "5:12: `cpu_max` cannot be `0`"),
            (Value, "6:15: `1e3` is no value of `nofile_max`"),
            (
                Value,
                "7:14: `fsize_max` must be a single value, not a list",
            ),
        ],
    ),
    (
        "version: 2\nprocess: { supplementary_groups: [root, 0, a b, [x], kvm, 44] }",
        &[
            (Value, "2:35: `supplementary_groups` cannot be `root`"),
            (Value, "2:41: `supplementary_groups` cannot be `0`"),
            (Value, "2:44: `a b` is not a user or group name"),
            (
                Value,
                "2:49: an entry of `supplementary_groups` must be a single value, not a list",
            ),
        ],
    ),
    (
        "version: 2\nprocess: { pids_mx: 9, memory_max: ~, cpu_max: 1025, nofile_max: 63, fsize_max: 4095 }",
        &[
            (UnknownKey, "2:12: `pids_mx` is not a key of `process`"),
            (Value, "2:36: `memory_max` has no value"),
            (Value, "2:48: `cpu_max` cannot be `1025`"),
            (Value, "2:66: `nofile_max` cannot be `63`"),
            (Value, "2:81: `fsize_max` cannot be `4095`"),
        ],
    ),
    (
        "version: 2\nprocess: { run_as_user: 4294967295, run_as_group: \"a b\", seccomp: 1 }",
        &[
            (Value, "2:25: `4294967295` is not a user or group id"),
            (Value, "2:51: `a b` is not a user or group name"),
            (Value, "2:67: `1` is not a seccomp profile"),
        ],
    ),
    (
        "version: 2\nnetwork: { mode: isolated }",
        &[(
            NotEnforced,
            "2:18: `isolated` as a network mode is understood but not enforced by this version",
        )],
    ),
    (
        "version: 2\nnetwork: { mode: Direct }",
        &[(Value, "2:18: `Direct` is not a network mode")],
    ),
    (
        "version: 2\nenv: { 1A: x, A-B: y, \"\": z, N: \"a\\0b\", M: ~ }",
        &[
            (Value, "2:8: `1A` is not a variable's name"),
            (Value, "2:15: `A-B` is not a variable's name"),
            (Value, "2:23: `` is not a variable's name"),
            (Value, "2:33: the value of `N` holds a NUL character"),
            (Value, "2:44: variable `M` has no value"),
        ],
    ),
    (
        "version: 2\nenv: TOKEN=x\nenv_allow: [LD_PRELOAD=x, 1A, LD_*, A]",
        &[
            (Value, "2:6: `env` must be a mapping, not a single value"),
            (
                Value,
                "3:13: an entry of `env_allow` is not a variable's name",
            ),
            (
                Value,
                "3:27: an entry of `env_allow` is not a variable's name",
            ),
            (
                Value,
                "3:31: an entry of `env_allow` is not a variable's name",
            ),
        ],
    ),
    (
        "version: 2\nnetwork_policies:\n  \"a b\": {}\n  g: { name: \"x\\u202e\", binaries: [{}, { path: /a, sha256: x }, { path: \"/usr/{a,b}\" }, { sha256: 12 }, { path: / }, { path: x, script: /y, descendants: yes }] }",
        &[
            (Value, "3:3: `a b` is not a name for a network policy"),
            (Value, r#"4:14: `x\u{202e}` cannot be a `name`"#),
            (Missing, "4:36: a binary needs `path` or `sha256`"),
            (Missing, "4:40: a binary has both `path` and `sha256`"),
            (Value, "4:73: pattern `/usr/{a,b}` holds `{` or `}`"),
            (Value, "4:99: `12` is not a SHA-256"),
            (Value, "4:113: `/` is not a file"),
            (Value, "4:126: path `x` is not absolute"),
            (
                NotEnforced,
                "4:129: `script` of a binary is understood but not enforced by this version",
            ),
            (Value, "4:154: `descendants` cannot be `yes`"),
        ],
    ),
    (
        "version: 2\ningress: [{ host: 192.0.2.1 }, { port: 0 }, { port: 1, binaries: [] }]\nrootfs: /x",
        &[
            (Missing, "2:11: an endpoint needs `port` or `ports`"),
            (Value, "2:40: `0` is not a port"),
            (
                UnknownKey,
                "2:56: `binaries` is not a key of an entry of `ingress`",
            ),
            (
                NotEnforced,
                "3:1: `rootfs` of a policy is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "version: 2\na: *nope",
        &[(Syntax, "2:4: not valid YAML: reference to unknown value")],
    ),
    (
        "version: 2\nnet: !foo {A: b}",
        &[(Syntax, "2:11: not valid YAML: unsupported tag `!foo`")],
    ),
    (
        "version: 2\nnetwork_policies:\n  g: { endpoints: [{ host: &h foo, port: 1 }, { host: *h, port: 1 }] }\n",
        &[(
            NotEnforced,
            "3:31: host `foo` is a name, and names are not enforced by this version",
        )],
    ),
];

#[test]
fn files_have_these_errors() {
    for (text, want) in FILES {
        check(text, want);
    }
}
