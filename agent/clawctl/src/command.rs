//! From arguments as typed to a checked command.

use std::path::PathBuf;

use clawd_control::{
    DEFAULT_SOCKET, LogQuery, NetworkMode, SandboxName, environment::check_variable, limits,
};

use crate::{
    arguments::{Action, Arguments, LogsArguments, Network, PolicyAction, RunArguments},
    environment,
    failure::Failure,
};

/// A checked command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Where clawd listens.
    pub(crate) socket: PathBuf,
    /// Whether to print JSON.
    pub(crate) json: bool,
    /// What to do.
    pub(crate) command: Command,
}

/// What to do, with every name and number checked.
#[derive(Debug)]
pub(crate) enum Command {
    Run(Box<RunCommand>),
    Ps,
    Stop(StopTarget),
    Status,
    Logs(LogQuery),
    PolicyValidate(PathBuf),
    PolicyPush { sandbox: SandboxName, file: PathBuf },
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunCommand {
    /// Where `None`, the default policy.
    pub(crate) policy: Option<PathBuf>,
    pub(crate) name: Option<SandboxName>,
    pub(crate) workspace: Option<PathBuf>,
    pub(crate) network: Option<NetworkMode>,
    pub(crate) user: Option<String>,
    /// As given, then the terminal's name unless it was given.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) command: Vec<String>,
}

/// What to stop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StopTarget {
    One(SandboxName),
    All,
}

// === impl Invocation ===

impl Invocation {
    /// Checks what was typed.
    ///
    /// # Errors
    /// Wrong usage, with the argument at fault.
    pub(crate) fn check(arguments: Arguments) -> Result<Self, Failure> {
        let typed = arguments.socket.or_else(environment::socket);
        Ok(Self {
            socket: typed.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            json: arguments.json,
            command: check_action(arguments.action)?,
        })
    }
}

fn check_action(action: Action) -> Result<Command, Failure> {
    Ok(match action {
        Action::Run(run) => Command::Run(Box::new(check_run(run, environment::term())?)),
        Action::Ps => Command::Ps,
        // The parser sees to it that there is one of the two.
        Action::Stop(stop) => Command::Stop(match stop.name {
            Some(text) => StopTarget::One(name(&text)?),
            None => StopTarget::All,
        }),
        Action::Status => Command::Status,
        Action::Logs(logs) => Command::Logs(check_logs(logs)?),
        Action::Policy(PolicyAction::Validate { file }) => Command::PolicyValidate(file),
        Action::Policy(PolicyAction::Push { sandbox, file }) => Command::PolicyPush {
            sandbox: name(&sandbox)?,
            file,
        },
    })
}

fn check_run(run: RunArguments, term: Option<String>) -> Result<RunCommand, Failure> {
    let mut env = run
        .env
        .iter()
        .map(|text| variable(text))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(term) = term.filter(|_| env.iter().all(|(name, _)| name != "TERM")) {
        env.push(("TERM".to_owned(), term));
    }
    Ok(RunCommand {
        policy: run.policy,
        name: run.name.as_deref().map(name).transpose()?,
        workspace: run.workspace,
        network: run.network.map(|mode| match mode {
            Network::Direct => NetworkMode::Direct,
            Network::None => NetworkMode::None,
        }),
        user: run.user,
        env,
        command: run.command,
    })
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    let Some((name, value)) = text.split_once('=') else {
        // Not shown: it may be a secret that was typed in the wrong place.
        return Err(Failure::usage(
            "`--env` takes NAME=VALUE, but the `=` is missing",
        ));
    };
    check_variable(name, value).map_err(|error| Failure::usage(error.to_string()))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn check_logs(logs: LogsArguments) -> Result<LogQuery, Failure> {
    if logs.last > limits::LOG_RECORDS {
        let (got, limit) = (logs.last, limits::LOG_RECORDS);
        return Err(Failure::usage(format!(
            "`-n` is {got}, more than the limit of {limit}"
        )));
    }
    Ok(LogQuery {
        follow: logs.follow,
        sandbox: logs.sandbox.as_deref().map(name).transpose()?,
        last: logs.last,
    })
}

fn name(text: &str) -> Result<SandboxName, Failure> {
    SandboxName::new(text).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests;
