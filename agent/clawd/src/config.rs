//! Arguments and environment of the daemon: the one place that reads them.

use std::{
    error::Error, ffi::OsString, fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr,
};

use clawd_audit::{Rotation, log::FILE_BYTES_MIN};
use clawd_control::{DEFAULT_SOCKET, SOCKET_VARIABLE};
use lexopt::{Arg, Parser, ValueExt as _};

use crate::gate::process::GateConfig;

const HELP: &str = "\
clawd: confines AI agents; connects are judged in the kernel by the hash of the binary

Usage: clawd [OPTIONS]
       clawd verify

Commands:
  verify               load every eBPF program, print what the verifier made of it, and exit

Options:
  --socket PATH        control socket [default: /run/clawd/control.sock; env: CLAWD_SOCKET]
  --state-dir DIR      sandboxes, audit log [default: /var/lib/clawd]
  --bpffs DIR          folder for pinned programs and maps [default: /sys/fs/bpf/clawd]
  --cgroup-parent DIR  cgroup whose children are the sandboxes [default: <cgroup2 mount>/clawd]
  --audit-max-bytes N  size at which the audit log goes on in a new file; at least 4096
                       [default: 67108864]
  --audit-keep N       full files of the audit log that are kept besides the one that is written,
                       1 to 10000 [default: 8]
  -h, --help           print this
  -V, --version        print the version

Exit codes: 0 stopped by a signal, 2 wrong usage, 125 could not start.
";

/// Most full files of the audit log: each is a name that a rotation lists.
const KEEP_MAX: usize = 10_000;

/// First argument of the exec gate's process.
pub(crate) const GATE_ARGUMENT: &str = "gate";

/// Paths that a daemon works with; every one has a flag, so that daemons can run side by side.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) socket: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) bpffs: PathBuf,
    /// `None`: `clawd` below the cgroup2 mount.
    pub(crate) cgroup_parent: Option<PathBuf>,
    /// Of the audit log.
    pub(crate) rotation: Rotation,
}

/// What to do.
pub(crate) enum Mode {
    /// Be the first process of a sandbox; only ever asked for by a daemon.
    SandboxInit,
    /// Be the exec gate; only ever asked for by a daemon.
    Gate(GateConfig),
    /// Print and exit.
    Print(String),
    /// Load the programs and exit.
    Verify,
    /// Serve.
    Daemon(Box<Config>),
}

impl Mode {
    /// Reads arguments and environment of this process.
    pub(crate) fn from_environment() -> Result<Self, lexopt::Error> {
        Self::parse(Parser::from_env(), std::env::var_os(SOCKET_VARIABLE))
    }

    fn parse(mut parser: Parser, socket: Option<OsString>) -> Result<Self, lexopt::Error> {
        let mut config = Config {
            socket: socket.map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from),
            state_dir: PathBuf::from("/var/lib/clawd"),
            bpffs: PathBuf::from("/sys/fs/bpf/clawd"),
            cgroup_parent: None,
            rotation: Rotation::default(),
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("socket") => config.socket = path(&mut parser)?,
                Arg::Long("state-dir") => config.state_dir = path(&mut parser)?,
                Arg::Long("bpffs") => config.bpffs = path(&mut parser)?,
                Arg::Long("cgroup-parent") => config.cgroup_parent = Some(path(&mut parser)?),
                Arg::Long("audit-max-bytes") => {
                    config.rotation.file_bytes = number(&mut parser, FILE_BYTES_MIN..=u64::MAX)?;
                }
                Arg::Long("audit-keep") => {
                    config.rotation.keep = number(&mut parser, 1..=KEEP_MAX)?
                }
                Arg::Short('h') | Arg::Long("help") => return Ok(Self::Print(HELP.to_owned())),
                Arg::Short('V') | Arg::Long("version") => {
                    return Ok(Self::Print(format!(
                        "clawd {}\n",
                        env!("CARGO_PKG_VERSION")
                    )));
                }
                Arg::Value(value) if value == "verify" => return Ok(Self::Verify),
                Arg::Value(value) if value == clawd_sandbox::INIT_ARGUMENT => {
                    return Ok(Self::SandboxInit);
                }
                Arg::Value(value) if value == GATE_ARGUMENT => return gate(&mut parser),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Self::Daemon(Box::new(config)))
    }
}

/// The arguments of `clawd gate`.
fn gate(parser: &mut Parser) -> Result<Mode, lexopt::Error> {
    let (mut bpffs, mut state_dir, mut parent) = (None, None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("bpffs") => bpffs = Some(path(parser)?),
            Arg::Long("state-dir") => state_dir = Some(path(parser)?),
            Arg::Long("parent") => parent = Some(parser.value()?.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    match (bpffs, state_dir, parent) {
        (Some(bpffs), Some(state_dir), Some(parent)) => Ok(Mode::Gate(GateConfig {
            bpffs,
            state_dir,
            parent,
        })),
        _ => Err("`clawd gate` is started by clawd itself".into()),
    }
}

/// An absolute path: the daemon's working directory is nobody's business.
fn path(parser: &mut Parser) -> Result<PathBuf, lexopt::Error> {
    let path: PathBuf = parser.value()?.parse()?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{} is not an absolute path", path.display()).into())
    }
}

/// A number in a range.
fn number<T>(parser: &mut Parser, range: RangeInclusive<T>) -> Result<T, lexopt::Error>
where
    T: FromStr + PartialOrd + Display,
    T::Err: Into<Box<dyn Error + Send + Sync>>,
{
    let number: T = parser.value()?.parse()?;
    if range.contains(&number) {
        return Ok(number);
    }
    let (least, most) = range.into_inner();
    Err(format!("{number} is not a number from {least} to {most}").into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lexopt::Parser;

    use super::{HELP, Mode, Rotation};

    fn parse(words: &[&str]) -> Result<Mode, lexopt::Error> {
        Mode::parse(
            Parser::from_iter(std::iter::once(&"clawd").chain(words)),
            Some("/env.sock".into()),
        )
    }

    #[test]
    fn flags_win_over_the_environment() {
        let Ok(Mode::Daemon(config)) = parse(&["--state-dir", "/s"]) else {
            panic!("a daemon")
        };
        assert_eq!(config.socket, Path::new("/env.sock"));
        let Ok(Mode::Daemon(config)) = parse(&["--socket=/a.sock"]) else {
            panic!("a daemon")
        };
        assert_eq!(config.socket, Path::new("/a.sock"));
    }

    #[test]
    fn audit_log_has_its_limits_and_their_defaults() {
        let Ok(Mode::Daemon(config)) = parse(&[]) else {
            panic!("a daemon")
        };
        assert_eq!(config.rotation, Rotation::default());
        assert!(HELP.contains(&config.rotation.file_bytes.to_string()));
        let words = ["--audit-max-bytes", "4096", "--audit-keep=2"];
        let Ok(Mode::Daemon(config)) = parse(&words) else {
            panic!("a daemon")
        };
        let want = Rotation {
            file_bytes: 4096,
            keep: 2,
        };
        assert_eq!(config.rotation, want);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for words in [
            &["--socket", "a"][..],
            &["--socket"],
            &["--nonsense"],
            &["serve"],
            &["--audit-max-bytes", "4095"],
            &["--audit-max-bytes", "64M"],
            &["--audit-keep", "0"],
            &["--audit-keep", "10001"],
            &["gate"],
            &[
                "gate",
                "--bpffs",
                "/b",
                "--state-dir",
                "/s",
                "--parent",
                "x",
            ],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn help_names_every_flag() {
        for flag in [
            "--socket",
            "--state-dir",
            "--bpffs",
            "--cgroup-parent",
            "--audit-max-bytes",
            "--audit-keep",
            "verify",
        ] {
            assert!(HELP.contains(flag), "{flag}");
        }
    }
}
