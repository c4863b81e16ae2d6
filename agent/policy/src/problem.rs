//! Collects what is wrong with a file while it is read, so that one pass reports all of it.

use std::fmt;

use crate::error::PolicyErrorKind;

/// Problems kept of one file; of more than that only the number is kept, since each takes memory.
const MAX_KEPT: usize = 1000;

/// A place in a policy file; line 0 where none can be named. Displays as `line:col`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub col: u32,
}

/// A mistake, before the file's name and text are added to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Position,
    pub(crate) kind: PolicyErrorKind,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.col)
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) errors: Vec<Problem>,
    /// Errors, and what is not enforced, that found [`MAX_KEPT`] before them.
    pub(crate) errors_dropped: usize,
    /// What is right and not enforced by this version.
    pub(crate) not_enforced: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Problems {
    /// Records an error that comes with advice.
    pub(crate) fn error(
        &mut self,
        at: Position,
        kind: PolicyErrorKind,
        message: String,
        help: impl Into<String>,
    ) {
        if self.is_full() {
            self.errors_dropped += 1;
            return;
        }
        self.errors.push(Problem {
            at,
            kind,
            message,
            help: Some(help.into()),
        });
    }

    /// Whether further errors are only counted, so that their words need not be found.
    pub(crate) const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_KEPT
    }

    /// Records an error about a value.
    pub(crate) fn value(&mut self, at: Position, message: String, help: impl Into<String>) {
        self.error(at, PolicyErrorKind::Value, message, help);
    }

    /// Records something that is right and that this version does not enforce.
    pub(crate) fn not_enforced(&mut self, at: Position, message: String, help: impl Into<String>) {
        if self.not_enforced.len() >= MAX_KEPT {
            self.errors_dropped += 1;
            return;
        }
        self.not_enforced.push(Problem {
            at,
            kind: PolicyErrorKind::NotEnforced,
            message,
            help: Some(help.into()),
        });
    }

    /// Records a warning.
    pub(crate) fn warn(&mut self, at: Position, message: String, help: impl Into<String>) {
        self.warnings.push(Problem {
            at,
            kind: PolicyErrorKind::Value,
            message,
            help: Some(help.into()),
        });
    }
}
