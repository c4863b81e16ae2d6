//! What is wrong with a policy file, and where.

use std::fmt;

use crate::{
    escape::{escaped, push_escaped},
    limits::MAX_ERRORS,
    problem::{Position, Problem},
    secret,
};

/// What kind of mistake a [`PolicyError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyErrorKind {
    /// Not YAML, or YAML of a form that policies do not use.
    Syntax,
    /// A limit of [`crate::limits`] is exceeded.
    Limit,
    /// Another version of the language.
    Version,
    /// A key that the language does not have.
    UnknownKey,
    /// A key or value of the language that this version does not enforce, and so refuses.
    NotEnforced,
    /// A required key is missing, or keys exclude each other.
    Missing,
    /// A value that its key does not take.
    Value,
}

/// One mistake in a policy file.
///
/// Displays as `file:line:col: message`, the source line with a caret, and the help; characters of
/// the file that a terminal would obey are shown escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// What kind of mistake.
    pub kind: PolicyErrorKind,
    /// The file's name as given to [`crate::parse`].
    pub file: String,
    /// Line, from 1; 0 where no place can be named.
    pub line: u32,
    /// Column in characters, from 1; 0 where no place can be named.
    pub col: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    excerpt: Excerpt,
}

/// Every mistake that was found in one pass, in the order of the file; at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyErrors {
    errors: Vec<PolicyError>,
    left_out: usize,
}

/// Something in a valid policy that is probably not meant so. Displays like [`PolicyError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file's name as given to [`crate::parse`].
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub col: u32,
    /// What is odd.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    excerpt: Excerpt,
}

// === impl PolicyErrors ===

impl PolicyErrors {
    /// `dropped` are errors beyond those in `errors`.
    pub(crate) fn new(file: &str, text: &str, mut errors: Vec<Problem>, dropped: usize) -> Self {
        errors.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
        errors.dedup(); // one wrong value, used twice through an alias
        let left_out = errors.len().saturating_sub(MAX_ERRORS) + dropped;
        let errors = errors
            .into_iter()
            .take(MAX_ERRORS)
            .map(|problem| PolicyError {
                kind: problem.kind,
                file: file.to_owned(),
                line: problem.at.line,
                col: problem.at.col,
                message: problem.message,
                help: problem.help,
                excerpt: Excerpt::new(text, problem.at),
            })
            .collect();
        Self { errors, left_out }
    }

    /// The mistakes, in the order of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[PolicyError] {
        &self.errors
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more errors", self.left_out)?;
        }
        Ok(())
    }
}

// === impl PolicyError, Warning ===

impl Warning {
    pub(crate) fn new(file: &str, text: &str, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            line: problem.at.line,
            col: problem.at.col,
            message: problem.message,
            help: problem.help,
            excerpt: Excerpt::new(text, problem.at),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Position {
            line: self.line,
            col: self.col,
        };
        write_place(f, &self.file, at)?;
        write!(f, "{}", self.message)?;
        write_rest(f, &self.excerpt, self.help.as_deref())
    }
}

impl std::error::Error for PolicyError {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Position {
            line: self.line,
            col: self.col,
        };
        write_place(f, &self.file, at)?;
        write!(f, "warning: {}", self.message)?;
        write_rest(f, &self.excerpt, self.help.as_deref())
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, file: &str, at: Position) -> fmt::Result {
    write!(f, "{}:", escaped(file))?;
    if at.line > 0 {
        write!(f, "{}:{}:", at.line, at.col)?;
    }
    write!(f, " ")
}

fn write_rest(f: &mut fmt::Formatter<'_>, excerpt: &Excerpt, help: Option<&str>) -> fmt::Result {
    if !excerpt.line.is_empty() {
        write!(f, "\n  {}\n  {}^", excerpt.line, " ".repeat(excerpt.caret))?;
    }
    if let Some(help) = help {
        write!(f, "\nhelp: {help}")?;
    }
    Ok(())
}

// === impl Excerpt ===

/// The source line of a mistake, escaped and cut around it; not of one that may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    /// Empty where there is nothing to show.
    line: String,
    /// Characters of `line` before the mistake.
    caret: usize,
}

/// Characters shown before and after the mistake; a line may be a megabyte.
const EXCERPT_CHARS: usize = 60;

impl Excerpt {
    fn new(text: &str, at: Position) -> Self {
        let nothing = Self {
            line: String::new(),
            caret: 0,
        };
        let (Some(line_index), Some(char_index)) = (at.line.checked_sub(1), at.col.checked_sub(1))
        else {
            return nothing;
        };
        let mut lines = secret::lines(text);
        let (Ok(line_index), Ok(char_index)) =
            (usize::try_from(line_index), usize::try_from(char_index))
        else {
            return nothing;
        };
        let Some((source, false)) = lines.nth(line_index) else {
            return nothing;
        };
        let from = char_index.saturating_sub(EXCERPT_CHARS);
        let mut line = String::new();
        let mut caret = 0;
        if from > 0 {
            line.push('…');
            caret += 1;
        }
        let mut chars = source.chars().skip(from);
        for c in chars.by_ref().take(char_index - from) {
            caret += push_shown(&mut line, c);
        }
        for c in chars.by_ref().take(EXCERPT_CHARS) {
            push_shown(&mut line, c);
        }
        if chars.next().is_some() {
            line.push('…');
        }
        Self { line, caret }
    }
}

/// A tab is shown as one blank: it is common in source text and would shift the caret.
fn push_shown(line: &mut String, c: char) -> usize {
    push_escaped(line, if c == '\t' { ' ' } else { c })
}
