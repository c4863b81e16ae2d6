//! Shows on real programs and servers that the kernel decides as the policy says.

mod agent;
mod attempt;
mod expectation;
mod interrupt;
mod judge;
mod rows;
mod show;
mod stages;
mod table;
mod workload;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use clawd_tests::{Daemon, Internet};

use crate::args::Arguments;
use crate::build::{self, Profile};
use crate::outcome::AlreadyReported;
use crate::setup::{self, Group};
use crate::workspace;
use interrupt::Interrupt;
use show::Show;

pub(crate) const USAGE: &str = "";
pub(crate) const ABOUT: &str = "Run a small agent under a policy and compare all that happens
Installs what is missing, builds clawd, makes an internet of network namespaces with real servers,
and runs policies/demo/agent.sh as `clawctl run --policy demo.yaml -- ./agent.sh`. Prints what was
tried, what the policy says and what happened, then the audit records. Needs root; contacts nothing
outside this machine; leaves nothing behind. Exits with 0 only if all came out as the policy says.
If CLAWD_BIN_DIR names a folder with clawd and clawctl, nothing is installed or built.";

/// `cargo xtask demo`
pub(crate) fn run(raw: &[String]) -> anyhow::Result<()> {
    Arguments::parse(raw, &[])?.expect_flags_only()?;
    if !workspace::is_root() {
        bail!("only root can load programs into the kernel; run `cargo xtask demo` as root");
    }
    if std::env::var_os(workspace::BIN_DIR_VARIABLE).is_none() {
        setup::ensure(&[Group::Build, Group::Demo])?;
        build::build(Profile::Release)?;
        return start_again_with(workspace::release_dir());
    }
    let interrupt = Interrupt::take_over()?;
    let show = with_everything_up(&interrupt)?;
    show.summarise();
    if show.has_failed() {
        return Err(AlreadyReported.into());
    }
    Ok(())
}

/// Becomes this program again, with a variable that tells where the built programs are.
fn start_again_with(programs: PathBuf) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let error = Command::new(own)
        .arg("demo")
        .env(workspace::BIN_DIR_VARIABLE, programs)
        .exec();
    Err(error).context("cannot start the demo with what was built")
}

/// Starts the servers and clawd, goes through the stages, and ends all of it, whatever comes.
fn with_everything_up(interrupt: &Interrupt) -> anyhow::Result<Show> {
    let started = Internet::start()
        .context("cannot make the test internet")
        .and_then(|internet| Ok((Daemon::start(Some(&internet))?, internet)));
    // In this order: clawd ends before its network.
    let (mut daemon, internet) = interrupt.explain(started)?;
    let shown = stages::all(&internet, &mut daemon, interrupt);
    if interrupt.has_come() && daemon.pid().is_some() {
        // A terminal's Ctrl-C went to clawd too: what it left in force is taken over, then ended.
        daemon.kill9()?;
    }
    let ended = daemon.finish().context("clawd did not end in order");
    match ended {
        Ok(()) => println!("\nclawd ended in order: no sandbox, pin or cgroup of it is left."),
        Err(error) => {
            if let Err(earlier) = shown {
                eprintln!("error: {earlier:#}");
            }
            return Err(error);
        }
    }
    interrupt.explain(shown)
}
