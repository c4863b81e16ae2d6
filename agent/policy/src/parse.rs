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

/// Reads and checks a policy. `file_name` is only shown in errors and warnings.
///
/// # Errors
/// Every mistake that one pass finds: mistakes in YAML's grammar end the pass, others do not.
pub fn parse(file_name: &str, text: &str) -> Result<Parsed, PolicyErrors> {
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
    match policy {
        Some((policy, places)) if problems.errors.is_empty() => {
            let mut warnings = problems.warnings;
            warnings.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
            warnings.dedup(); // one odd value, used twice through an alias
            let warnings = warnings
                .into_iter()
                .map(|warning| Warning::new(file_name, text, warning))
                .collect();
            Ok(Parsed {
                policy,
                places,
                warnings,
            })
        }
        _ => Err(PolicyErrors::new(
            file_name,
            text,
            problems.errors,
            problems.errors_dropped,
        )),
    }
}
