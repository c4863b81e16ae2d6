//! Arguments as typed, split into what a subcommand knows.

use std::fmt;

/// The caller asked for something that a subcommand does not know. Nothing was done.
#[derive(Debug)]
pub(crate) struct UsageError(String);

/// Arguments before `--`, sorted into flags and words, with what follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Flags that were given, each one of the `known` flags.
    pub(crate) flags: Vec<String>,
    /// Everything else before `--`.
    pub(crate) words: Vec<String>,
    /// What follows `--`, handed on untouched.
    pub(crate) trailing: Vec<String>,
}

// === impl UsageError ===

impl UsageError {
    /// An error whose text tells what was wrong and what to type instead.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

// === impl Arguments ===

impl Arguments {
    /// Sorts `raw`; every flag must be one of `known_flags`.
    ///
    /// # Errors
    /// [`UsageError`] names the first flag that is not known.
    pub(crate) fn parse(raw: &[String], known_flags: &[&str]) -> Result<Self, UsageError> {
        let mut arguments = Self::default();
        let mut rest = raw.iter();
        for argument in rest.by_ref() {
            if argument == "--" {
                break;
            }
            if known_flags.contains(&argument.as_str()) {
                arguments.flags.push(argument.clone());
            } else if argument.starts_with('-') {
                return Err(UsageError::new(format!(
                    "unknown flag `{argument}`; `--help` lists the flags"
                )));
            } else {
                arguments.words.push(argument.clone());
            }
        }
        arguments.trailing = rest.cloned().collect();
        Ok(arguments)
    }

    /// Whether `flag` was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// Refuses words and a trailing part, for subcommands that take flags alone.
    ///
    /// # Errors
    /// [`UsageError`] names the first argument that is too many.
    pub(crate) fn expect_flags_only(&self) -> Result<(), UsageError> {
        match self.words.iter().chain(&self.trailing).next() {
            None => Ok(()),
            Some(word) => Err(UsageError::new(format!(
                "`{word}` is one argument too many; see `--help`"
            ))),
        }
    }
}

/// Whether `argument` asks for help.
pub(crate) fn is_help(argument: &str) -> bool {
    matches!(argument, "--help" | "-h")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[&str]) -> Result<Arguments, UsageError> {
        let raw: Vec<String> = raw.iter().map(|&argument| argument.to_owned()).collect();
        Arguments::parse(&raw, &["--check"])
    }

    #[test]
    fn flags_words_and_trailing_are_told_apart() {
        let arguments = parse(&["6.1", "--check", "6.12", "--", "--exact", "--", "name"]).unwrap();
        assert_eq!(arguments.words, ["6.1", "6.12"]);
        assert!(arguments.has("--check"));
        assert_eq!(arguments.trailing, ["--exact", "--", "name"]);
    }

    #[test]
    fn unknown_flag_is_refused_by_name() {
        let error = parse(&["--chekc"]).unwrap_err();
        assert!(error.to_string().contains("`--chekc`"), "{error}");
    }

    #[test]
    fn words_are_refused_where_only_flags_are_known() {
        assert!(parse(&["--check"]).unwrap().expect_flags_only().is_ok());
        assert!(parse(&["now"]).unwrap().expect_flags_only().is_err());
        assert!(parse(&["--", "now"]).unwrap().expect_flags_only().is_err());
    }
}
