//! The operator tool: arguments as typed, a checked command, one function for each.
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod command;
mod differences;
mod doctor;
mod environment;
mod explain;
mod failure;
mod history;
mod identity;
mod lines;
mod logs;
mod output;
mod pages;
mod policy;
mod ps;
mod run;
mod status;
mod stop;
mod table;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    arguments::Arguments,
    client::Client,
    command::{Command, Invocation},
    failure::Failure,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let json = arguments.json;
    match Invocation::check(arguments).and_then(execute) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(json),
    }
}

/// Carries out a checked command; returns the exit code.
fn execute(invocation: Invocation) -> Result<u8, Failure> {
    let client = Client::new(invocation.socket);
    let json = invocation.json;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::setup(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match invocation.command {
            Command::Run(command) => run::run(&client, *command, json).await,
            Command::Exec(command) => run::exec(&client, command).await,
            Command::Ps => ps::ps(&client, json).await,
            Command::Wait(name) => wait::wait(&client, name, json).await,
            Command::Stop(target, request) => stop::stop(&client, target, request, json).await,
            Command::Status => status::status(&client, json).await,
            Command::Doctor => doctor::doctor(&client, json).await,
            Command::Completions(shell) => pages::completions(shell),
            Command::Man(dir) => pages::man(&dir),
            Command::DoctorProbe => Ok(doctor::probe()),
            Command::Logs(query) => logs::logs(&client, query, json).await,
            Command::IdentityList => identity::list(&client, json).await,
            Command::IdentityForget(request) => identity::forget(&client, &request, json).await,
            Command::PolicyShow { file, effective } => policy::show(&file, effective, json),
            Command::PolicyValidate { file, strict } => policy::validate(&file, strict, json),
            Command::PolicyExplain(command) => explain::explain(&client, command, json).await,
            Command::PolicyDiff { old, new } => differences::diff(&client, old, &new, json).await,
            Command::PolicyPush(push) => policy::push(&client, push, json).await,
            Command::PolicyPull(name, generation) => {
                policy::pull(&client, name, generation, json).await
            }
            Command::PolicyHistory(name) => history::history(&client, name, json).await,
            Command::PolicyRollback(name, request) => {
                history::rollback(&client, name, &request, json).await
            }
        }
    })
}
