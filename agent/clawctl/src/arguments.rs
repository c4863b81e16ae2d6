//! Arguments as typed: the table that the parser and `--help` are made from.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Run commands in sandboxes that the kernel confines, and look after them
#[derive(Debug, Parser)]
#[command(name = "clawctl", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Where clawd listens [default: $CLAWD_SOCKET, else /run/clawd/control.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON: one object, or one a line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) action: Action,
}

const EXIT_CODES: &str = "\
Exit codes:
  run, exec, wait
          the command's own; 128+N if signal N ended it; 125 clawd or the sandbox could not be
          set up; 126 the command is not executable; 127 it was not found; 2 wrong usage or policy
  status, doctor
          0 healthy; 1 degraded; 2 not enforcing, or clawd cannot be reached
  policy explain
          0 allowed; 1 denied; 2 it cannot be told. With --batch: 0 each line was answered; 2 not
  policy diff
          0 no difference; 1 some; 2 it cannot be told
  others  0 done; 1 failed; 2 wrong usage or policy";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Run a command in a sandbox
    Run(RunArguments),
    /// Run a further command in a sandbox that runs
    ///
    /// It is held by everything that holds the sandbox, as its first command is. It ends with
    /// clawctl, and with the sandbox; the sandbox goes on when it ends. Only root, and the user that
    /// the sandbox runs as, may do so.
    Exec(ExecArguments),
    /// List the sandboxes
    Ps,
    /// Wait for a sandbox to end; ends with the exit code of its command
    Wait {
        /// The sandbox
        name: String,
    },
    /// Stop a sandbox: end all its processes, those of `exec` too
    Stop(StopArguments),
    /// Tell whether clawd enforces, and what is missing
    Status,
    /// Check what this machine has and lacks, and try a forbidden connect in a throw-away sandbox
    ///
    /// What is missing comes with what to do about it. The sandbox may reach nothing, sends nothing,
    /// and is gone afterwards.
    Doctor,
    /// What the throw-away sandbox of `doctor` runs
    #[command(hide = true)]
    DoctorProbe,
    /// Print audit records
    Logs(LogsArguments),
    /// Check and replace policies
    #[command(subcommand)]
    Policy(PolicyAction),
    /// Show and forget which content stands for the paths that policies list
    #[command(subcommand)]
    Identity(IdentityAction),
    /// Print a script that has a shell complete commands and options
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages, one for each command
    Man {
        /// An existing directory
        dir: PathBuf,
    },
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The policy [default: /etc/clawd/policies/default.yaml]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The sandbox's name [default: made up by clawd]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A directory that the sandbox may work in
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// The network, in place of the policy's
    #[arg(long, value_name = "MODE")]
    pub(crate) network: Option<Network>,
    /// The user to run as, in place of the policy's
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// A variable to add to the sandbox's environment; may be repeated. One that changes which code
    /// programs run (LD_*, PYTHONPATH, ...) needs the policy's leave (`env_allow`)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    #[command(flatten)]
    pub(crate) terminal: TerminalArguments,
    /// Start the sandbox, print its name, and leave it running
    ///
    /// Its command reads and writes what the standard streams are where they are files (`> FILE`), and
    /// nothing where they are anything else. `stop` ends it.
    #[arg(short, long, conflicts_with = "terminal")]
    pub(crate) detach: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    #[command(flatten)]
    pub(crate) terminal: TerminalArguments,
    /// A variable to add to the environment that the sandbox's command was given; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The sandbox
    pub(crate) sandbox: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// How the command meets the caller's terminal.
#[derive(Debug, Args)]
pub(crate) struct TerminalArguments {
    /// Give the command a terminal of its own, in the sandbox; standard input must be one
    #[arg(short = 't', long = "terminal")]
    pub(crate) terminal: bool,
    /// Nothing: standard input is always the command's; taken so that `-it` is understood
    #[arg(short = 'i', hide = true)]
    pub(crate) interactive: bool,
}

/// Network modes as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Network {
    /// The host's network, judged at every connect
    Direct,
    /// A network namespace with nothing to reach
    None,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// The sandbox
    #[arg(required_unless_present = "all")]
    pub(crate) name: Option<String>,
    /// Every sandbox
    #[arg(long, conflicts_with = "name")]
    pub(crate) all: bool,
    /// Ask the sandbox's command to end (SIGTERM), and kill what is left after so many seconds
    /// [default: kill at once]
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) timeout: u32,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Go on with new records; with --until, until then
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many past records, the newest of those that are asked for [default: 100; with --since all, at
    /// most 100000]
    #[arg(short = 'n', value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Only this sandbox's records
    #[arg(long, value_name = "NAME")]
    pub(crate) sandbox: Option<String>,
    /// Only records of that time or later: 2026-11-20T22:29:11Z, 2026-11-20T23:29:11+01:00, or how long
    /// ago: 30s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only records of that time or before, written likewise
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only records of this program: its path, its file name, or its SHA-256
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) binary: Option<String>,
    /// Only records of what was tried there: an address or a prefix, and a port if only one is meant, as
    /// 192.0.2.0/24:443 or [2001:db8::/32]:443
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) destination: Option<String>,
    /// Only records with this reason, as port_not_listed
    #[arg(long, value_name = "NAME")]
    pub(crate) reason: Option<String>,
    /// Only records with this outcome: allowed, denied, held or audited
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) action: Option<String>,
}

/// What to do with pins.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityAction {
    /// List the pins: each path's content from its first use on
    ///
    /// A path is `changed` where another content was found there since; it is granted nothing
    /// until the pin is forgotten.
    List,
    /// Forget pins, so that the next use of a path pins what is there then
    ///
    /// For a program that was upgraded. Exit code 1 if a path is not pinned; the others are
    /// forgotten all the same.
    Forget(ForgetArguments),
}

/// Arguments of `identity forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArguments {
    /// The paths, as policies list them
    #[arg(required_unless_present = "all", value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// Every pin
    #[arg(long, conflicts_with = "paths")]
    pub(crate) all: bool,
}

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// Check a policy, without clawd
    ///
    /// Warns of what is odd, and of what this version understands and does not enforce: `run` and `push`
    /// refuse a policy that has any of the latter.
    Validate {
        /// Fail where there is a warning
        #[arg(long)]
        strict: bool,
        /// The policy
        file: PathBuf,
    },
    /// Show what a policy lets a sandbox do with files, without clawd
    Show {
        /// Show what no policy has to list, too
        #[arg(long)]
        effective: bool,
        /// The policy
        file: PathBuf,
    },
    /// Tell whether a policy lets a program reach a destination, and why
    ///
    /// Answers from the compiled policy as the kernel would, without clawd where a file is given. Programs
    /// are told by their paths as written: no link is followed, and a path holds what is pinned for it.
    /// Exit code 0 if it is allowed, 1 if it is denied, 2 if that cannot be told.
    Explain(ExplainArguments),
    /// Print the policy that is in force for a running sandbox
    ///
    /// Only for root, and the user that the sandbox runs as: the policy's `env` may hold secrets.
    Pull {
        /// An earlier one, by its number in `history`
        #[arg(long, value_name = "N")]
        generation: Option<u64>,
        /// The sandbox
        sandbox: String,
    },
    /// Tell what one policy lets a sandbox do and another does not
    ///
    /// It compares what both come to: names and order make no difference. Exit code 0 if there is none, 1
    /// if there are some, 2 if it cannot be told.
    Diff {
        /// Compare with the policy that is in force for this sandbox, in place of OLD
        #[arg(long, value_name = "NAME")]
        sandbox: Option<String>,
        /// The policies: OLD and NEW, or NEW alone with --sandbox
        #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Put a policy in force for a running sandbox
    Push {
        /// The sandbox
        #[arg(long, value_name = "NAME")]
        sandbox: String,
        /// Change nothing unless this generation is in force, as `ps` tells it
        #[arg(long, value_name = "N")]
        if_generation: Option<u64>,
        /// The policy
        file: PathBuf,
    },
    /// List the policies that a running sandbox has had: who pushed what, and when
    ///
    /// clawd keeps the last 32 of each sandbox, fewer where they are large. For whom `pull` is.
    History {
        /// The sandbox
        name: String,
    },
    /// Put an earlier policy of a running sandbox in force again
    ///
    /// It is a push of the earlier text, under a new generation. Without --to it is the one before that
    /// in force, so that a second rollback takes back the first.
    Rollback {
        /// Which one, by its number in `history`
        #[arg(long, value_name = "N")]
        to: Option<u64>,
        /// Change nothing unless this generation is in force
        #[arg(long, value_name = "N")]
        if_generation: Option<u64>,
        /// The sandbox
        name: String,
    },
}

/// Arguments of `policy explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The policy
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "sandbox",
        conflicts_with = "sandbox"
    )]
    pub(crate) policy: Option<PathBuf>,
    /// A running sandbox, whose policy is meant
    #[arg(long, value_name = "NAME")]
    pub(crate) sandbox: Option<String>,
    /// A program that the program was started by, at any depth; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) ancestor: Vec<PathBuf>,
    /// The SHA-256 of the program, for entries that name one
    #[arg(long, value_name = "DIGITS")]
    pub(crate) sha256: Option<String>,
    /// The protocol [default: tcp]
    #[arg(long)]
    pub(crate) protocol: Option<Transport>,
    /// Answer many: each line of FILE (`-`: standard input) is a JSON object with `binary`, `host` and
    /// `port`, and `ancestors` (a list), `sha256` and `protocol` where they are to count; each answer is a
    /// line with `allowed`, `policy` (the entry of `network_policies` that decided, or null) and `reason`
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["binary", "destination", "ancestor", "sha256", "protocol"]
    )]
    pub(crate) batch: Option<PathBuf>,
    /// The program that asks
    #[arg(required_unless_present = "batch")]
    pub(crate) binary: Option<PathBuf>,
    /// The destination; an IPv6 address goes between brackets
    #[arg(required_unless_present = "batch", value_name = "HOST:PORT")]
    pub(crate) destination: Option<String>,
}

/// Transport protocols as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}
