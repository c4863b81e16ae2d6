//! The kernel side at the start: install it, or take over what a daemon before left.

use anyhow::{Context as _, bail};
use clawd_common::ABI_VERSION;
use clawd_kernel::{Attachment, Installed, PinState, Pins};

use crate::{cgroup::Parent, config::Config};

/// How the kernel side came to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Origin {
    /// This daemon loaded the programs.
    Installed,
    /// They were there, pinned by a daemon of the same build.
    TakenOver,
}

/// Sees to it that every hook is attached and pinned.
pub(crate) fn provide(pins: &Pins, parent: &Parent, config: &Config) -> anyhow::Result<Origin> {
    match pins.state()? {
        PinState::Ours => {
            let attached_to = pins.meta()?.parent_cgroup_id;
            if attached_to != parent.id {
                return replace_misplaced(pins, parent, attached_to);
            }
            if let Some(missing) = pins.hooks().iter().find(|hook| hook.program_id.is_none()) {
                bail!(
                    "the pinned link of {} is gone from {}, so its hook is not enforced; stop all sandboxes, \
                     remove that folder and start again",
                    missing.name,
                    pins.dir().display()
                );
            }
            Ok(Origin::TakenOver)
        }
        PinState::Other { abi_version } => replace_foreign(pins, parent, config, abi_version),
        PinState::Unfinished => {
            pins.remove()
                .context("cannot remove the pins of a start that did not finish")?;
            install(pins, parent)
        }
        PinState::Absent => install(pins, parent),
    }
}

/// Pins of another build: replaced where no sandbox lives by them, else left in force and refused.
fn replace_foreign(
    pins: &Pins,
    parent: &Parent,
    config: &Config,
    abi_version: u32,
) -> anyhow::Result<Origin> {
    let sandboxes = parent.children()?;
    if !sandboxes.is_empty() {
        bail!(
            "the pins in {} are of another build of clawd (ABI version {abi_version}, this one has {ABI_VERSION}), \
             and sandboxes live by them: {}; stop them with that build's `clawctl --socket {} stop --all`, \
             then start this one. Until then they stay enforced",
            pins.dir().display(),
            sandboxes.join(", "),
            config.socket.display()
        );
    }
    tracing::info!(
        abi_version,
        "replacing the pins of another build; no sandbox lives by them"
    );
    pins.remove()
        .context("cannot remove the pins of another build")?;
    install(pins, parent)
}

/// Pins of this build whose programs are attached to another cgroup: they would judge nothing here.
fn replace_misplaced(pins: &Pins, parent: &Parent, attached_to: u64) -> anyhow::Result<Origin> {
    if let Some(path) = parent.find(attached_to)? {
        bail!(
            "the programs pinned in {} judge the sandboxes below {}, not those below {}; give that as \
             --cgroup-parent, or another folder as --bpffs",
            pins.dir().display(),
            path.display(),
            parent.path().display()
        );
    }
    tracing::info!("replacing pins whose cgroup is gone; no sandbox lives by them");
    pins.remove()
        .context("cannot remove the pins of a cgroup that is gone")?;
    install(pins, parent)
}

fn install(pins: &Pins, parent: &Parent) -> anyhow::Result<Origin> {
    let to = Attachment {
        parent: parent.dir(),
        parent_cgroup_id: parent.id,
        sandbox_cgroup_level: parent.sandbox_level,
    };
    let Installed { programs } = clawd_kernel::install(pins, to)
        .context("cannot put the programs in place; nothing was left attached")?;
    for program in programs {
        tracing::debug!(
            program = program.name,
            instructions = program.instructions,
            "attached"
        );
    }
    Ok(Origin::Installed)
}

/// `clawd verify`.
pub(crate) fn print_verified() -> anyhow::Result<()> {
    require_root()?;
    for program in clawd_kernel::verify().context("the kernel does not take the programs")? {
        let instructions = program
            .instructions
            .map_or_else(|| "?".to_owned(), |count| count.to_string());
        println!("{:<14} {instructions:>8}", program.name);
    }
    Ok(())
}

/// Everything here needs root; say so before anything fails for want of it.
pub(crate) fn require_root() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "clawd must run as root: it loads eBPF programs and makes cgroups and namespaces; try `sudo clawd`"
        );
    }
    Ok(())
}
