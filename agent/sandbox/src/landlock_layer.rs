//! Landlock, on top of the mount view.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::{
    error::{Failed, InLayer, Layer},
    spec::{Compatibility, HOME, LandlockState},
    view::{Access, Plan, What, open_plain},
};

/// The first ABI that keeps a sandbox away from abstract unix sockets outside it (Linux 6.12).
const ABI_WITH_SCOPES: u32 = 6;

/// Rules that are opened and not yet in force.
#[derive(Debug)]
pub(crate) struct Prepared {
    rules: Option<RulesetCreated>,
    abi: u32,
    promised_abi: u32,
}

/// Opens all that the rules name; inside the view, as root, because the user may not be allowed to
/// walk to its own trees.
pub(crate) fn prepare(
    plan: &Plan,
    own_network: bool,
    compatibility: Compatibility,
) -> Result<Prepared, Failed> {
    let kernel = clawd_sys::limits::landlock_abi();
    // The host's abstract sockets are in the network namespace, which `direct` shares.
    let promised_abi = if own_network { 1 } else { ABI_WITH_SCOPES };
    if compatibility == Compatibility::HardRequirement && kernel < promised_abi {
        return Err(too_old(kernel, promised_abi));
    }
    let (abi, number) = known(kernel);
    if abi == ABI::Unsupported {
        return Ok(Prepared {
            rules: None,
            abi: 0,
            promised_abi,
        });
    }
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .in_layer(Layer::Landlock, "handle file rights")?;
    if number >= ABI_WITH_SCOPES {
        rules = rules
            .scope(Scope::from_all(abi))
            .in_layer(Layer::Landlock, "scope sockets and signals")?;
    }
    let mut rules = rules
        .create()
        .in_layer(Layer::Landlock, "create a ruleset")?;
    for (path, access) in grants(plan, abi) {
        rules = add(rules, &path, access, abi)?;
    }
    Ok(Prepared {
        rules: Some(rules),
        abi: number,
        promised_abi,
    })
}

// === impl Prepared ===

impl Prepared {
    /// Puts the rules in force for this process and all that it starts.
    pub(crate) fn enforce(self) -> Result<(u32, LandlockState), Failed> {
        let Some(rules) = self.rules else {
            return Ok((0, LandlockState::NotEnforced));
        };
        let status = rules
            .restrict_self()
            .in_layer(Layer::Landlock, "put the rules in force")?;
        if !status.no_new_privs || status.ruleset == RulesetStatus::NotEnforced {
            return Err(Failed::new(
                Layer::Landlock,
                "the kernel took the rules and does not enforce them",
            ));
        }
        let whole = status.ruleset == RulesetStatus::FullyEnforced && self.abi >= self.promised_abi;
        let state = if whole {
            LandlockState::FullyEnforced
        } else {
            LandlockState::PartiallyEnforced
        };
        Ok((self.abi, state))
    }
}

fn too_old(kernel: u32, promised: u32) -> Failed {
    let message = if kernel == 0 {
        "this kernel has no Landlock: boot it with `lsm=landlock,...`, or accept less with \
         `landlock: {compatibility: best_effort}`"
            .to_owned()
    } else {
        format!(
            "network mode `direct` needs Landlock ABI {promised} (Linux 6.12), this kernel has {kernel}: \
             the host's abstract unix sockets would be reachable; use network mode `none`, or accept \
             that with `landlock: {{compatibility: best_effort}}`"
        )
    };
    Failed::new(Layer::Landlock, message)
}

/// The newest ABI that both kernel and crate know, and its number.
fn known(kernel: u32) -> (ABI, u32) {
    match kernel {
        0 => (ABI::Unsupported, 0),
        1 => (ABI::V1, 1),
        2 => (ABI::V2, 2),
        3 => (ABI::V3, 3),
        4 => (ABI::V4, 4),
        5 => (ABI::V5, 5),
        6 => (ABI::V6, 6),
        7 => (ABI::V7, 7),
        8 => (ABI::V8, 8),
        _ => (ABI::V9, 9),
    }
}

/// What is granted where; rights add up along a path, and the mount view takes back what an inner
/// tree must not have.
fn grants(plan: &Plan, abi: ABI) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Devices can be made nowhere.
    let write = AccessFs::from_all(abi)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let terminal = device | AccessFs::ReadDir | AccessFs::IoctlDev;
    // The view holds nothing that may not be listed; its skeleton must be readable as one.
    let mut grants: Vec<(PathBuf, BitFlags<AccessFs>)> =
        vec![("/".into(), AccessFs::ReadDir.into())];
    for (at, access) in [("/proc", read), ("/tmp", write), (HOME, write)] {
        // One that is denied is not there.
        if plan.has(Path::new(at)) {
            grants.push((at.into(), access));
        }
    }
    let written = plan.entries.iter();
    let written = written.filter(|entry| matches!(entry.what, What::Written(_)));
    grants.extend(written.map(|entry| (entry.at.clone(), AccessFs::ReadFile.into())));
    if plan.has(Path::new("/dev")) {
        grants.push(("/dev/shm".into(), write));
        grants.extend(["pts", "tty"].map(|name| (Path::new("/dev").join(name), terminal)));
        let devices = ["null", "zero", "full", "random", "urandom"];
        grants.extend(devices.map(|name| (Path::new("/dev").join(name), device)));
    }
    grants.extend(plan.trees.iter().map(|tree| {
        let access = match tree.access {
            Access::ReadOnly => read,
            Access::ReadExecute => read | AccessFs::Execute,
            Access::ReadWrite => write,
            Access::ReadWriteExecute => write | AccessFs::Execute,
        };
        (tree.at.clone(), access)
    }));
    grants
}

fn add(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
    abi: ABI,
) -> Result<RulesetCreated, Failed> {
    let what = format!("grant `{}`", path.display());
    let file = std::fs::File::from(open_plain(path).in_layer(Layer::Landlock, &what)?);
    let data = file.metadata().in_layer(Layer::Landlock, &what)?;
    let possible = if data.is_dir() {
        AccessFs::from_all(abi)
    } else {
        AccessFs::from_file(abi)
    };
    rules
        .add_rule(PathBeneath::new(file, access & possible))
        .in_layer(Layer::Landlock, &what)
}

#[cfg(test)]
mod tests {
    use landlock::{ABI, AccessFs};

    use super::{grants, known};
    use crate::view::{Access, Plan, Tree};

    #[test]
    fn grants_join_write_and_execute_in_one_kind_of_tree_only() {
        let tree = |access| Tree {
            at: "/t".into(),
            source: "/t".into(),
            access,
        };
        let trees = [
            Access::ReadOnly,
            Access::ReadExecute,
            Access::ReadWrite,
            Access::ReadWriteExecute,
        ]
        .map(tree);
        let plan = |trees: &[Tree]| Plan {
            trees: trees.to_vec(),
            entries: Vec::new(),
        };
        let (joined, apart) = trees.split_last().expect("four");
        for number in 1..=9 {
            let abi = known(number).0;
            for (path, access) in grants(&plan(apart), abi) {
                let both = AccessFs::Execute | AccessFs::WriteFile;
                assert!(!access.contains(both), "{}", path.display());
            }
            let of = |tree: &Tree| {
                let mut all = grants(&plan(std::slice::from_ref(tree)), abi);
                all.pop().expect("the tree").1
            };
            assert_eq!(of(joined), of(&trees[2]) | AccessFs::Execute);
        }
        let read_only = grants(&plan(&trees[..1]), ABI::V9)
            .pop()
            .expect("the tree")
            .1;
        assert_eq!(read_only, AccessFs::ReadFile | AccessFs::ReadDir);
    }
}
