//! Man pages and completion scripts, from the table that `--help` is made from.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clawd_control::ExitCode;

use crate::{arguments::Arguments, failure::Failure, output::print};

/// Prints the script that has `shell` complete clawctl's commands and options.
pub(crate) fn completions(shell: Shell) -> Result<u8, Failure> {
    print(script(shell).trim_end())?;
    Ok(ExitCode::Ok.code())
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "clawctl", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes `clawctl.1` and a page for each command into `dir`, which must exist.
pub(crate) fn man(dir: &Path) -> Result<u8, Failure> {
    let command = Arguments::command();
    clap_mangen::generate_to(command, dir).map_err(|error| {
        let dir = dir.display();
        Failure::failed(format!("cannot write man pages into {dir}: {error}"))
    })?;
    Ok(ExitCode::Ok.code())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{CommandFactory as _, ValueEnum as _};
    use clap_complete::Shell;

    use super::{man, script};
    use crate::arguments::Arguments;

    fn shown_commands() -> Vec<String> {
        let command = Arguments::command();
        let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
        shown.map(|it| it.get_name().to_owned()).collect()
    }

    #[test]
    fn completions_of_every_shell_know_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for name in shown_commands() {
                assert!(script.contains(&name), "{shell}: {name}");
            }
        }
    }

    #[test]
    fn every_command_has_a_man_page_and_a_hidden_one_has_none() {
        let dir = tempfile::tempdir().expect("a directory");
        man(dir.path()).expect("written");
        let page = |name: &str| fs::read_to_string(dir.path().join(name));
        let main = page("clawctl.1").expect("a page");
        assert!(main.contains("Exit codes"), "{main}");
        for name in shown_commands() {
            let text = page(&format!("clawctl-{name}.1")).expect(&name);
            assert!(text.starts_with(".ie"), "{text}");
        }
        assert!(page("clawctl-doctor-probe.1").is_err());
        let nowhere = dir.path().join("nowhere");
        let failure = man(&nowhere).expect_err("no such directory");
        assert!(failure.message.contains("nowhere"), "{}", failure.message);
    }
}
