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
mod enforcement;
mod events;
mod files;
mod ids;
mod launch;
mod plan;
mod push;
mod registry;
mod sandboxes;
mod server;
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
