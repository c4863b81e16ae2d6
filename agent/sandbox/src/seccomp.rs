//! The system call filter. It hands what it refuses to a listener, which answers EPERM and tells of it
//! (see [`crate::init`]), and says ENOSYS to `clone3` (programs then use `clone`, whose flags a filter
//! can read) and to calls that nobody has judged yet.
//!
//! A further command is born of the sandbox's pid 1 (see [`crate::enter`]), so it has this very filter
//! and the same listener: nothing is installed twice.

mod deny;
mod program;

use std::{collections::BTreeMap, os::fd::OwnedFd};

use clawd_common::syscall::{self, Arch};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::{
    error::{Failed, Layer},
    spec::{Profile, Syscalls},
};
use deny::{Condition, Deny, Test};

/// A system call that a profile refuses, in some or all of its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// As in its manual page.
    pub call: &'static str,
    /// Its number on this architecture.
    pub number: u32,
    /// Whether it is refused whatever its arguments.
    pub always: bool,
    /// What it would be good for.
    pub why: &'static str,
}

/// What a profile answers with EPERM, for people and for tests; empty on an architecture that no
/// sandbox runs on.
#[must_use]
pub fn denials(profile: Profile) -> Vec<Denial> {
    let rules = Syscalls {
        profile,
        ..Syscalls::default()
    };
    let list = Arch::native().map_or_else(Vec::new, |arch| deny::list(&rules, arch));
    let list = list.into_iter();
    list.map(|deny| Denial {
        call: deny.name,
        number: deny.number,
        always: deny.when.is_empty(),
        why: deny.why,
    })
    .collect()
}

/// The compiled filter.
#[derive(Debug)]
pub(crate) struct Filter(BpfProgram);

/// Compiles the filter for this machine.
///
/// # Errors
/// A name that may not be allowed or denied, or that there is not.
pub(crate) fn compile(rules: &Syscalls) -> Result<Filter, Failed> {
    let arch = Arch::native()
        .ok_or_else(|| Failed::new(Layer::Seccomp, "there is no table for this architecture"))?;
    compile_for(rules, arch)
}

fn compile_for(rules: &Syscalls, arch: Arch) -> Result<Filter, Failed> {
    check(rules)?;
    let marked = compile_deny(&deny::list(rules, arch), arch).map_err(wrong_table)?;
    program::complete(arch, marked)
        .map(Filter)
        .ok_or_else(|| Failed::new(Layer::Seccomp, "the compiled table refuses nothing"))
}

// === impl Filter ===

impl Filter {
    /// How many are stacked.
    pub(crate) const COUNT: u32 = 1;

    /// Puts it in force for this thread and all that it starts. Whoever holds the listener must
    /// answer what comes; a refused call of its own would wait for itself.
    pub(crate) fn enforce(&self) -> Result<OwnedFd, Failed> {
        let instruction = |from: &seccompiler::sock_filter| libc::sock_filter {
            code: from.code,
            jt: from.jt,
            jf: from.jf,
            k: from.k,
        };
        let program: Vec<_> = self.0.iter().map(instruction).collect();
        clawd_sys::seccomp::install_with_listener(&program).map_err(|error| {
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            let why = if busy {
                "; clawd itself runs under a filter with a listener, and the kernel allows one: start it outside"
            } else {
                ""
            };
            let message = format!("could not install the filter with a listener: {error}{why}");
            Failed::new(Layer::Seccomp, message)
        })
    }
}

/// The policy was checked when it was read; what holds the boundary is looked at once more.
fn check(rules: &Syscalls) -> Result<(), Failed> {
    let may_allow = |name: &&String| {
        let refused = syscall::refused(name);
        refused.is_none_or(|refused| refused.policy_may_allow) && *name != "clone3"
    };
    let may_deny = |name: &&String| {
        let exists = Arch::ALL
            .iter()
            .any(|arch| syscall::number(*arch, name).is_some());
        exists && !syscall::ESSENTIAL.contains(&name.as_str())
    };
    let wrong = |name: &String, what| {
        let message = format!("system call `{name}` cannot be {what}");
        Err(Failed::new(Layer::Seccomp, message))
    };
    if let Some(name) = rules.allow.iter().find(|name| !may_allow(name)) {
        return wrong(name, "allowed");
    }
    match rules.deny.iter().find(|name| !may_deny(name)) {
        Some(name) => wrong(name, "denied"),
        None => Ok(()),
    }
}

fn compile_deny(list: &[Deny], arch: Arch) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    for deny in list {
        let chain = deny
            .when
            .iter()
            .map(|all| SeccompRule::new(all.iter().map(condition).collect::<Result<_, _>>()?))
            .collect::<Result<Vec<_>, _>>()?;
        rules.insert(i64::from(deny.number), chain);
    }
    let target = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    };
    let mark = SeccompAction::Trace(program::MARK);
    SeccompFilter::new(rules, SeccompAction::Allow, mark, target)?.try_into()
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

fn wrong_table(error: seccompiler::BackendError) -> Failed {
    Failed::new(
        Layer::Seccomp,
        format!("the table does not compile: {error}"),
    )
}

#[cfg(test)]
mod tests;
