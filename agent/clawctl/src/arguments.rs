//! Arguments as typed: the table that the parser and `--help` are made from.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clawd_control::logs;

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
  run     the command's own; 128+N if signal N ended it; 125 clawd or the sandbox could not be
          set up; 126 the command is not executable; 127 it was not found; 2 wrong usage or policy
  status  0 healthy; 1 degraded; 2 not enforcing, or clawd cannot be reached
  others  0 done; 1 failed; 2 wrong usage or policy";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Run a command in a sandbox
    Run(RunArguments),
    /// List the sandboxes
    Ps,
    /// Stop a sandbox: kill all its processes
    Stop(StopArguments),
    /// Tell whether clawd enforces, and what is missing
    Status,
    /// Print audit records
    Logs(LogsArguments),
    /// Check and replace policies
    #[command(subcommand)]
    Policy(PolicyAction),
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
    /// A variable to add to the sandbox's environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
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
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Go on with new records
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many past records
    #[arg(short = 'n', value_name = "N", default_value_t = logs::DEFAULT_RECORDS)]
    pub(crate) last: usize,
    /// Only this sandbox's records
    #[arg(long, value_name = "NAME")]
    pub(crate) sandbox: Option<String>,
}

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// Check a policy, without clawd
    Validate {
        /// The policy
        file: PathBuf,
    },
    /// Put a policy in force for a running sandbox
    Push {
        /// The sandbox
        #[arg(long, value_name = "NAME")]
        sandbox: String,
        /// The policy
        file: PathBuf,
    },
}
