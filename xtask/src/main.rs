//! The project's only automation: one subcommand for each thing that a developer or CI does.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod build;
mod demo;
mod dependencies;
#[cfg(test)]
mod escapes;
mod fuzz;
mod outcome;
mod process;
mod setup;
mod soak;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use args::UsageError;
use outcome::AlreadyReported;

/// One thing that `cargo xtask` can do.
struct Subcommand {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

/// The table of subcommands: each is a module with `ABOUT`, `USAGE`, and `run`.
macro_rules! subcommands {
    ($($module:ident),+ $(,)?) => {
        const SUBCOMMANDS: &[Subcommand] = &[$(Subcommand {
            name: stringify!($module),
            usage: $module::USAGE,
            about: $module::ABOUT,
            run: $module::run,
        }),+];
    };
}

subcommands!(setup, build, demo, test, fuzz, bench, vm, soak);

/// Exit code for arguments that make no sense.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Err(error) = dispatch(&arguments) else {
        return ExitCode::SUCCESS;
    };
    if error.is::<AlreadyReported>() {
        return ExitCode::FAILURE;
    }
    eprintln!("error: {error:#}");
    if error.is::<UsageError>() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::FAILURE
    }
}

fn dispatch(arguments: &[String]) -> anyhow::Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", overview());
        return Ok(());
    };
    if args::is_help(name) || name == "help" {
        print!("{}", overview());
        return Ok(());
    }
    let subcommand = SUBCOMMANDS
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| {
            UsageError::new(format!(
                "there is no subcommand `{name}`; `cargo xtask --help` lists them"
            ))
        })?;
    if rest
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| args::is_help(argument))
    {
        println!(
            "{}\n\nUsage: cargo xtask {} {}",
            subcommand.about, subcommand.name, subcommand.usage
        );
        return Ok(());
    }
    (subcommand.run)(rest)
}

fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask <subcommand> [--help]\n\n");
    for Subcommand { name, about, .. } in SUBCOMMANDS {
        let headline = about.lines().next().unwrap_or_default();
        text.push_str(&format!("  {name:<7} {headline}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overview_names_every_subcommand() {
        let text = overview();
        for subcommand in SUBCOMMANDS {
            assert!(
                text.contains(&format!("  {:<7} ", subcommand.name)),
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_subcommand_is_a_usage_error() {
        let error = dispatch(&["biuld".to_owned()]).unwrap_err();
        assert!(error.is::<UsageError>(), "{error}");
    }

    #[test]
    fn help_after_a_double_dash_belongs_to_the_tests() {
        let arguments = ["setup", "--", "--help"].map(str::to_owned);
        assert!(dispatch(&arguments).unwrap_err().is::<UsageError>());
    }
}
