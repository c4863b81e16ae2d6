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
    /// Another build's were there, and this one's are in their place.
    Replaced,
}

/// Sees to it that every hook is attached and pinned.
pub(crate) fn provide(pins: &Pins, parent: &Parent, config: &Config) -> anyhow::Result<Origin> {
    match pins.state()? {
        PinState::Ours => {
            let attached_to = pins.meta()?.parent_cgroup_id;
            if attached_to != parent.id {
                return replace_misplaced(pins, parent, attached_to);
            }
            let hooks = pins.hooks();
            if let Some(missing) = hooks.iter().find(|hook| hook.program_id.is_none()) {
                bail!(
                    "the pinned link of {} is gone from {}, so its hook is not enforced; stop all sandboxes, \
                     remove that folder and start again",
                    missing.name,
                    pins.dir().display()
                );
            }
            if let Some(hook) = hooks.iter().find(|hook| !hook.is_known) {
                tracing::warn!(
                    hook = hook.name,
                    "a hook has another program than clawd put there; all are replaced"
                );
                return replace(pins, parent);
            }
            Ok(Origin::TakenOver)
        }
        PinState::Replaceable => {
            let attached_to = pins.meta()?.parent_cgroup_id;
            if attached_to != parent.id {
                return replace_misplaced(pins, parent, attached_to);
            }
            replace(pins, parent)
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

/// Pins of another ABI version: replaced where no sandbox lives by them, else left in force and refused.
fn replace_foreign(
    pins: &Pins,
    parent: &Parent,
    config: &Config,
    abi_version: u32,
) -> anyhow::Result<Origin> {
    let sandboxes = parent.children()?;
    if !sandboxes.is_empty() {
        bail!(
            "the pins in {} are of another ABI version ({abi_version}, this clawd has {ABI_VERSION}), \
             and sandboxes live by them: {}; start the clawd that made them, stop them with \
             `clawctl --socket {} stop --all`, then start this one. Until then they stay enforced",
            pins.dir().display(),
            sandboxes.join(", "),
            config.socket.display()
        );
    }
    tracing::info!(
        abi_version,
        "replacing the pins of another ABI version; no sandbox lives by them"
    );
    pins.remove()
        .context("cannot remove the pins of another ABI version")?;
    install(pins, parent)
}

/// Pins whose programs are attached to another cgroup: they would judge nothing here.
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
    let installed = clawd_kernel::install(pins, attachment(parent))
        .context("cannot put the programs in place; nothing was left attached")?;
    tell_programs(installed);
    Ok(Origin::Installed)
}

/// Puts this build's programs in the place of those that run, under whatever sandboxes live.
fn replace(pins: &Pins, parent: &Parent) -> anyhow::Result<Origin> {
    let installed = clawd_kernel::replace(pins, attachment(parent)).context(
        "cannot put this build's programs in the place of those that run; every hook still has one, \
         and the sandboxes go on under them",
    )?;
    tell_programs(installed);
    Ok(Origin::Replaced)
}

fn attachment(parent: &Parent) -> Attachment<'_> {
    Attachment {
        parent: parent.dir(),
        parent_cgroup_id: parent.id,
        sandbox_cgroup_level: parent.sandbox_level,
    }
}

fn tell_programs(Installed { programs }: Installed) {
    for program in programs {
        tracing::debug!(
            program = program.name,
            instructions = program.instructions,
            "attached"
        );
    }
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
