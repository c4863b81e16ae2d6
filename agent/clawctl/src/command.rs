//! From arguments as typed to a checked command.

mod explain;

use std::{fmt::Display, path::PathBuf, time::SystemTime};

use clawd_audit::{Filter, Timestamp};
use clawd_control::{
    DEFAULT_SOCKET, ForgetRequest, LogQuery, NetworkMode, RollbackRequest, SandboxName,
    StopRequest, environment::check_form, limits, logs::DEFAULT_RECORDS,
};

pub(crate) use self::explain::{Asked, ExplainCommand, PolicyOf};
use crate::{
    arguments::{
        Action, Arguments, ExecArguments, ForgetArguments, IdentityAction, LogsArguments, Network,
        PolicyAction, RunArguments, StopArguments,
    },
    command::explain::check_explain,
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
    Exec(ExecCommand),
    Ps,
    Wait(SandboxName),
    Stop(StopTarget, StopRequest),
    Status,
    Doctor,
    DoctorProbe,
    Logs(LogQuery),
    PolicyValidate {
        file: PathBuf,
        strict: bool,
    },
    PolicyShow {
        file: PathBuf,
        effective: bool,
    },
    PolicyExplain(ExplainCommand),
    Completions(clap_complete::Shell),
    Man(PathBuf),
    PolicyDiff {
        old: Old,
        new: PathBuf,
    },
    PolicyPush(PushCommand),
    /// Of that generation, or of the one in force.
    PolicyPull(SandboxName, Option<u64>),
    PolicyHistory(SandboxName),
    PolicyRollback(SandboxName, RollbackRequest),
    IdentityList,
    IdentityForget(ForgetRequest),
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
    /// Whether it gets a terminal of its own.
    pub(crate) terminal: bool,
    /// Whether clawctl leaves it running.
    pub(crate) detach: bool,
    pub(crate) command: Vec<String>,
}

/// What to run in a sandbox that runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExecCommand {
    pub(crate) sandbox: SandboxName,
    /// As given, then the terminal's name unless it was given.
    pub(crate) env: Vec<(String, String)>,
    /// Whether it gets a terminal of its own.
    pub(crate) terminal: bool,
    pub(crate) command: Vec<String>,
}

/// What a policy is compared with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Old {
    File(PathBuf),
    /// What is in force for it.
    Sandbox(SandboxName),
}

/// What to put in force.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PushCommand {
    pub(crate) sandbox: SandboxName,
    pub(crate) file: PathBuf,
    /// What must be in force; where `None`, anything.
    pub(crate) if_generation: Option<u64>,
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
        Action::Exec(exec) => Command::Exec(check_exec(exec, environment::term())?),
        Action::Ps => Command::Ps,
        // The parser sees to it that there is one of the two.
        Action::Wait { name: text } => Command::Wait(name(&text)?),
        Action::Stop(stop) => {
            let request = check_stop(&stop)?;
            let target = match stop.name {
                Some(text) => StopTarget::One(name(&text)?),
                None => StopTarget::All,
            };
            Command::Stop(target, request)
        }
        Action::Status => Command::Status,
        Action::Doctor => Command::Doctor,
        Action::Completions { shell } => Command::Completions(shell),
        Action::Man { dir } => Command::Man(dir),
        Action::DoctorProbe => Command::DoctorProbe,
        Action::Logs(logs) => Command::Logs(check_logs(logs, SystemTime::now().into())?),
        Action::Policy(policy) => check_policy(policy)?,
        Action::Identity(IdentityAction::List) => Command::IdentityList,
        Action::Identity(IdentityAction::Forget(forget)) => {
            Command::IdentityForget(check_forget(forget)?)
        }
    })
}

fn check_policy(action: PolicyAction) -> Result<Command, Failure> {
    Ok(match action {
        PolicyAction::Validate { file, strict } => Command::PolicyValidate { file, strict },
        PolicyAction::Show { file, effective } => Command::PolicyShow { file, effective },
        PolicyAction::Diff { sandbox, files } => check_diff(sandbox.as_deref(), files)?,
        PolicyAction::Push {
            sandbox,
            if_generation,
            file,
        } => Command::PolicyPush(PushCommand {
            sandbox: name(&sandbox)?,
            file,
            if_generation,
        }),
        PolicyAction::Explain(arguments) => Command::PolicyExplain(check_explain(arguments)?),
        PolicyAction::Pull {
            generation,
            sandbox,
        } => Command::PolicyPull(name(&sandbox)?, generation),
        PolicyAction::History { name: text } => Command::PolicyHistory(name(&text)?),
        PolicyAction::Rollback {
            to,
            if_generation,
            name: text,
        } => Command::PolicyRollback(name(&text)?, RollbackRequest { to, if_generation }),
    })
}

fn check_diff(sandbox: Option<&str>, files: Vec<PathBuf>) -> Result<Command, Failure> {
    let mut files = files.into_iter();
    let (old, new) = match (sandbox, files.next(), files.next()) {
        (Some(text), Some(new), None) => (Old::Sandbox(name(text)?), new),
        (None, Some(old), Some(new)) => (Old::File(old), new),
        _ => {
            return Err(Failure::usage(
                "`policy diff` takes OLD and NEW, or `--sandbox NAME` and NEW",
            ));
        }
    };
    Ok(Command::PolicyDiff { old, new })
}

fn check_run(run: RunArguments, term: Option<String>) -> Result<RunCommand, Failure> {
    let env = variables(&run.env, term)?;
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
        terminal: run.terminal.terminal,
        detach: run.detach,
        command: run.command,
    })
}

fn check_exec(exec: ExecArguments, term: Option<String>) -> Result<ExecCommand, Failure> {
    Ok(ExecCommand {
        sandbox: name(&exec.sandbox)?,
        env: variables(&exec.env, term)?,
        terminal: exec.terminal.terminal,
        command: exec.command,
    })
}

/// The variables typed, and the terminal's name unless it is among them.
fn variables(typed: &[String], term: Option<String>) -> Result<Vec<(String, String)>, Failure> {
    let mut env = typed
        .iter()
        .map(|text| variable(text))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(term) = term.filter(|_| env.iter().all(|(name, _)| name != "TERM")) {
        env.push(("TERM".to_owned(), term));
    }
    Ok(env)
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    let Some((name, value)) = text.split_once('=') else {
        // Not shown: it may be a secret that was typed in the wrong place.
        return Err(Failure::usage(
            "`--env` takes NAME=VALUE, but the `=` is missing",
        ));
    };
    // Whether the policy gives leave is told when it is read.
    check_form(name, value).map_err(|error| Failure::usage(error.to_string()))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn check_stop(stop: &StopArguments) -> Result<StopRequest, Failure> {
    let (got, limit) = (stop.timeout, limits::STOP_TIMEOUT_S);
    if got > limit {
        return Err(Failure::usage(format!(
            "`--timeout` is {got}, more than the limit of {limit} seconds"
        )));
    }
    Ok(StopRequest { timeout_s: got })
}

fn check_logs(logs: LogsArguments, now: Timestamp) -> Result<LogQuery, Failure> {
    let filter = Filter {
        since: condition("--since", logs.since, |text| moment(text, now))?,
        until: condition("--until", logs.until, |text| moment(text, now))?,
        binary: condition("--binary", logs.binary, str::parse)?,
        destination: condition("--destination", logs.destination, str::parse)?,
        reason: condition("--reason", logs.reason, str::parse)?,
        action: condition("--action", logs.action, str::parse)?,
    };
    let default = match filter.since {
        Some(_) => limits::LOG_RECORDS,
        None => DEFAULT_RECORDS,
    };
    let last = logs.last.unwrap_or(default);
    if last > limits::LOG_RECORDS {
        return Err(Failure::usage(format!(
            "`-n` is {last}, more than the limit of {}",
            limits::LOG_RECORDS
        )));
    }
    Ok(LogQuery {
        follow: logs.follow,
        sandbox: logs.sandbox.as_deref().map(name).transpose()?,
        last,
        filter,
    })
}

/// What stands after `flag`, read.
fn condition<T, E: Display>(
    flag: &str,
    typed: Option<String>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let Some(text) = typed else {
        return Ok(None);
    };
    match read(&text) {
        Ok(condition) => Ok(Some(condition)),
        Err(error) => Err(Failure::usage(format!("`{flag}` is {text:?}: {error}"))),
    }
}

/// A time of RFC 3339, or how long before `now`, as `10m`.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    const WANTED: &str =
        "not a time; expected the form 2026-11-20T22:29:11Z, or how long ago: 30s, 10m, 2h, 7d";
    if let Ok(time) = Timestamp::from_rfc3339(text) {
        return Ok(time);
    }
    let unit = text.char_indices().next_back().ok_or(WANTED)?;
    let (number, unit_s) = match unit {
        (at, 's') => (text.get(..at), 1),
        (at, 'm') => (text.get(..at), 60),
        (at, 'h') => (text.get(..at), 3600),
        (at, 'd') => (text.get(..at), 86_400),
        _ => return Err(WANTED),
    };
    let number = number.filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
    let number: u64 = number.and_then(|text| text.parse().ok()).ok_or(WANTED)?;
    let ago_ns = i128::from(number) * unit_s * 1_000_000_000;
    Ok(Timestamp::from_unix_ns(now.unix_ns() - ago_ns))
}

fn check_forget(forget: ForgetArguments) -> Result<ForgetRequest, Failure> {
    let request = ForgetRequest {
        paths: forget.paths,
        all: forget.all,
    };
    match request.check() {
        Ok(()) => Ok(request),
        Err(error) => Err(Failure::usage(error.to_string())),
    }
}

fn name(text: &str) -> Result<SandboxName, Failure> {
    SandboxName::new(text).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests;
