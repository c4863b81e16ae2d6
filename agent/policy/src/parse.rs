//! From the text of a policy file to a checked policy.

use crate::{
    check::check,
    error::{PolicyErrors, Warning},
    file::PolicyFile,
    model::Policy,
    node,
    places::GroupPlaces,
    problem::Problems,
};

/// A valid policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub policy: Policy,
    /// Where its rules stand, in the order of [`Policy::rules`].
    pub places: Vec<GroupPlaces>,
    /// What in it is probably not meant so, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// A valid policy file, of which this version may not enforce everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it says.
    pub parsed: Parsed,
    /// What of it is not enforced; such a policy cannot be put in force.
    pub not_enforced: Option<PolicyErrors>,
}

/// Reads and checks a policy that is to be put in force. `file_name` is only shown in errors and warnings.
///
/// # Errors
/// Every mistake that one pass finds, and everything that this version does not enforce: mistakes in
/// YAML's grammar end the pass, others do not.
pub fn parse(file_name: &str, text: &str) -> Result<Parsed, PolicyErrors> {
    let Checked {
        parsed,
        not_enforced,
    } = read(file_name, text)?;
    match not_enforced {
        None => Ok(parsed),
        Some(errors) => Err(errors),
    }
}

/// Reads and checks a policy to see what it says, whether or not it can be put in force.
///
/// # Errors
/// As [`parse`], but for what is right and only not enforced.
pub fn read(file_name: &str, text: &str) -> Result<Checked, PolicyErrors> {
    // Editors add it; it is no part of the text, and columns are counted without it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut problems = Problems::default();
    let policy = match node::read(text) {
        Ok(root) => PolicyFile::read(root, &mut problems).map(|file| check(file, &mut problems)),
        Err(problem) => {
            problems.errors.push(problem);
            None
        }
    };
    let Problems {
        mut errors,
        errors_dropped,
        not_enforced,
        mut warnings,
    } = problems;
    let refusal = |errors| PolicyErrors::new(file_name, text, errors, errors_dropped);
    match policy {
        Some((policy, places)) if errors.is_empty() => {
            warnings.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
            warnings.dedup(); // one odd value, used twice through an alias
            let warnings = warnings
                .into_iter()
                .map(|warning| Warning::new(file_name, text, warning))
                .collect();
            let parsed = Parsed {
                policy,
                places,
                warnings,
            };
            Ok(Checked {
                parsed,
                not_enforced: (!not_enforced.is_empty()).then(|| refusal(not_enforced)),
            })
        }
        _ => {
            errors.extend(not_enforced);
            Err(refusal(errors))
        }
    }
}
