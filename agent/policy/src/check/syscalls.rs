//! `process.seccomp_allow` and `process.seccomp_deny`: system calls by name.

use clawd_common::syscall;

use crate::{
    escape::quoted,
    fields::{At, Field},
    model::SeccompProfile,
    node::Scalar,
    problem::Problems,
    suggest::nearest,
};

/// Both lists, each name once and in only one of them.
pub(super) fn exceptions(
    allow: Field<Vec<At<Scalar>>>,
    deny: Field<Vec<At<Scalar>>>,
    profile: SeccompProfile,
    problems: &mut Problems,
) -> (Vec<String>, Vec<String>) {
    let mut seen: Vec<(&'static str, &'static str, u32)> = Vec::new();
    let mut take = |list: &'static str, names: Field<Vec<At<Scalar>>>| {
        let mut taken = Vec::new();
        for given in names.given().map(|names| names.value).unwrap_or_default() {
            let Some(name) = known(&given, problems) else {
                continue;
            };
            if let Some((_, other, line)) = seen.iter().find(|(seen, _, _)| *seen == name) {
                problems.value(
                    given.at,
                    format!("`{name}` is already in `{other}`, line {line}"),
                    "keep one of the two",
                );
                continue;
            }
            seen.push((name, list, given.at.line));
            let fits = match list {
                "seccomp_allow" => may_allow(name, &given, profile, problems),
                _ => may_deny(name, &given, problems),
            };
            if fits {
                taken.push(name.to_owned());
            }
        }
        taken
    };
    let allow = take("seccomp_allow", allow);
    let deny = take("seccomp_deny", deny);
    (allow, deny)
}

/// The name as the table of system calls has it.
fn known(given: &At<Scalar>, problems: &mut Problems) -> Option<&'static str> {
    let text = given.value.text.as_str();
    let found = syscall::names().find(|name| *name == text);
    if found.is_none() && !problems.is_full() {
        let help = nearest(text, syscall::names()).map_or_else(
            || "names are those of the manual pages, as `ptrace` of ptrace(2)".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("{} is not a system call", quoted(text));
        problems.value(given.at, message, help);
    }
    found
}

/// Whether a call can be allowed; one that is not refused is warned of.
fn may_allow(
    name: &str,
    given: &At<Scalar>,
    profile: SeccompProfile,
    problems: &mut Problems,
) -> bool {
    let message = format!("`{name}` cannot be allowed");
    let of_strict = syscall::STRICT.iter().any(|refused| refused.name == name);
    if of_strict && profile == SeccompProfile::Strict {
        let help =
            "`strict` rests on its refusal; use `seccomp: jit` where code is made at run time";
        problems.value(given.at, message, help);
        return false;
    }
    if name == "clone3" {
        let help =
            "no filter can read its flags; it is not there for a sandbox, and programs use `clone`";
        problems.value(given.at, message, help);
        return false;
    }
    match syscall::refused(name).filter(|_| !of_strict) {
        Some(refused) if refused.policy_may_allow => true,
        Some(refused) => {
            let help = format!(
                "what holds the sandbox rests on its refusal: it {}",
                refused.why
            );
            problems.value(given.at, message, help);
            false
        }
        None => {
            problems.warn(
                given.at,
                format!("`{name}` is allowed already"),
                "remove it: the profile does not refuse it",
            );
            true
        }
    }
}

/// Whether a call can be denied; one that is refused anyway is warned of.
fn may_deny(name: &str, given: &At<Scalar>, problems: &mut Problems) -> bool {
    if syscall::ESSENTIAL.contains(&name) {
        problems.value(
            given.at,
            format!("`{name}` cannot be denied"),
            "no program, or not the sandbox's own first process, can live without it",
        );
        return false;
    }
    if syscall::REFUSED.iter().any(|refused| refused.name == name) {
        problems.warn(
            given.at,
            format!("`{name}` is refused already"),
            "remove it: every profile refuses it",
        );
    }
    true
}
