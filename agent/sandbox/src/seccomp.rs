//! System call filters: three, stacked, because a filter has one action for what it matches.
//!
//! The deny list answers EPERM, `clone3` ENOSYS (programs then use `clone`, whose flags a filter can
//! read), and the guard kills foreign system call tables and hides numbers nobody has judged yet.

mod deny;
mod guard;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::{
    error::{Failed, InLayer, Layer},
    spec::Profile,
};
use deny::{Condition, Deny, Test};

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// A system call that a profile refuses, in some or all of its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// As in its manual page.
    pub call: &'static str,
    /// Its number on this architecture.
    pub number: i64,
    /// Whether it is refused whatever its arguments.
    pub always: bool,
    /// What it would be good for.
    pub why: &'static str,
}

/// What a profile answers with EPERM, for people and for tests.
#[must_use]
pub fn denials(profile: Profile) -> Vec<Denial> {
    let list = deny::list(profile).into_iter();
    list.map(|deny| Denial {
        call: deny.name,
        number: deny.number,
        always: deny.when.is_empty(),
        why: deny.why,
    })
    .collect()
}

/// Compiled filters.
#[derive(Debug)]
pub(crate) struct Filters(Vec<BpfProgram>);

/// Compiles the filters of a profile.
pub(crate) fn compile(profile: Profile) -> Result<Filters, Failed> {
    let denied = compile_deny(&deny::list(profile)).map_err(wrong_table)?;
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = filter(clone3, libc::ENOSYS).map_err(wrong_table)?;
    Ok(Filters(vec![denied, clone3, guard::program()]))
}

// === impl Filters ===

impl Filters {
    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Puts them in force for this thread and all that it starts.
    pub(crate) fn enforce(&self) -> Result<(), Failed> {
        for program in &self.0 {
            apply_filter(program).in_layer(Layer::Seccomp, "install a filter")?;
        }
        Ok(())
    }
}

fn compile_deny(list: &[Deny]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    for deny in list {
        let chain = deny
            .when
            .iter()
            .map(|all| SeccompRule::new(all.iter().map(condition).collect::<Result<_, _>>()?))
            .collect::<Result<Vec<_>, _>>()?;
        rules.insert(deny.number, chain);
    }
    filter(rules, libc::EPERM)
}

/// Arguments here are all of type `int`: the kernel ignores their upper half, so must the filter.
fn condition(condition: &Condition) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = match condition.test {
        Test::Is => SeccompCmpOp::Eq,
        Test::IsNot => SeccompCmpOp::Ne,
        Test::MaskedIs(mask) => SeccompCmpOp::MaskedEq(mask.into()),
    };
    SeccompCondition::new(
        condition.argument,
        SeccompCmpArgLen::Dword,
        operator,
        condition.value.into(),
    )
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, errno, ARCH)?.try_into()
}

fn wrong_table(error: seccompiler::BackendError) -> Failed {
    Failed::new(
        Layer::Seccomp,
        format!("the table does not compile: {error}"),
    )
}

#[cfg(test)]
mod tests;
