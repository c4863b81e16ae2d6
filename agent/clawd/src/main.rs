//! The daemon: configuration, the kernel side, the sandboxes, the control API.
//!
//! `clawd` runs in the foreground until SIGTERM or SIGINT. Sandboxes, and what decides for them in
//! the kernel, outlive it; the next `clawd` with the same paths takes over.
#![forbid(unsafe_code)]

mod adopt;
mod audit;
mod bpffs;
mod cgroup;
mod config;
mod daemon;
mod ends;
mod enforcement;
mod enter;
mod entrances;
mod events;
mod files;
mod flows;
mod gate;
mod generations;
mod hearing;
mod history;
mod ids;
mod launch;
mod limits;
mod pins;
mod plan;
mod promises;
mod pull;
mod push;
mod refusals;
mod registry;
mod sandboxes;
mod server;
mod starts;
mod state;
mod status;
mod stop;

use std::process::ExitCode;

use config::Mode;

/// Exit code of a start that failed, and of a sandbox that could not be set up.
const EXIT_SETUP: u8 = 125;
/// Exit code of wrong usage.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let mode = match Mode::from_environment() {
        Ok(mode) => mode,
        Err(error) => {
            eprintln!("clawd: {error}\nTry `clawd --help`.");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let result = match mode {
        Mode::SandboxInit => clawd_sandbox::init::main(),
        Mode::Print(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Mode::Gate(config) => gate::process::run(&config),
        Mode::Verify => enforcement::print_verified(),
        Mode::Daemon(config) => daemon::run(*config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clawd: {error:#}");
            ExitCode::from(EXIT_SETUP)
        }
    }
}

/// An error with its causes, in one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What the daemon's processes have to say goes to standard error.
fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("CLAWD_LOG")
                .unwrap_or_else(|_unset| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
