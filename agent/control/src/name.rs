//! The name of a sandbox, checked.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Bytes of the longest name: it becomes a directory of the cgroup tree and a host name (63).
pub const NAME_BYTES: usize = 63;

/// A sandbox's name: `[a-z0-9][a-z0-9_.-]{0,62}`.
///
/// So it is never `.` or `..`, holds no separator and no control character, and needs no quoting
/// in paths, URLs and terminals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxName(String);

/// Why a text is no sandbox name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters.
    #[error("a sandbox name is empty; expected 1 to {NAME_BYTES} characters")]
    Empty,
    /// More than [`NAME_BYTES`].
    #[error("a sandbox name is {got} bytes long; expected at most {NAME_BYTES}")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// It begins with `.`, `-` or `_`.
    #[error("a sandbox name begins with {got:?}; expected a lower-case letter or a digit")]
    BadStart {
        /// The first character.
        got: char,
    },
    /// A character outside the set.
    #[error(
        "a sandbox name contains {got:?}; expected only lower-case letters, digits, `_`, `.` and `-`"
    )]
    BadCharacter {
        /// The first such character.
        got: char,
    },
}

// === impl SandboxName ===

impl SandboxName {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameError`] says which rule `text` breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let first = text.chars().next().ok_or(NameError::Empty)?;
        let bad = |c: &char| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-');
        if let Some(got) = text.chars().find(bad) {
            return Err(NameError::BadCharacter { got });
        }
        if matches!(first, '_' | '.' | '-') {
            return Err(NameError::BadStart { got: first });
        }
        if text.len() > NAME_BYTES {
            return Err(NameError::TooLong { got: text.len() });
        }
        Ok(Self(text))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for SandboxName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for SandboxName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for SandboxName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<SandboxName> for String {
    fn from(name: SandboxName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{NameError, SandboxName};

    proptest! {
        #[test]
        fn name_of_the_documented_form_is_accepted(text in "[a-z0-9][a-z0-9_.-]{0,62}") {
            let name = SandboxName::new(text.clone()).expect("documented form");
            prop_assert_eq!(name.as_str(), text);
        }

        #[test]
        fn name_accepted_is_one_plain_path_component(text in ".{0,70}") {
            if let Ok(name) = SandboxName::new(text) {
                let name = name.as_str();
                prop_assert!(!name.is_empty() && name.len() <= 63);
                prop_assert!(!name.starts_with('.') && !name.starts_with('-'));
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic() && b != b'/'));
            }
        }
    }

    #[test]
    fn name_that_breaks_a_rule_is_refused_with_that_rule() {
        for (text, want) in [
            ("", NameError::Empty),
            ("..", NameError::BadStart { got: '.' }),
            ("-x", NameError::BadStart { got: '-' }),
            ("a/b", NameError::BadCharacter { got: '/' }),
            ("A", NameError::BadCharacter { got: 'A' }),
            ("a\u{1b}[31m", NameError::BadCharacter { got: '\u{1b}' }),
            ("é", NameError::BadCharacter { got: 'é' }),
        ] {
            assert_eq!(SandboxName::new(text), Err(want), "{text:?}");
        }
        assert_eq!(
            SandboxName::new("a".repeat(64)),
            Err(NameError::TooLong { got: 64 })
        );
    }

    #[test]
    fn name_read_from_json_is_checked() {
        serde_json::from_str::<SandboxName>("\"../x\"").expect_err("a path is no name");
        let name: SandboxName = serde_json::from_str("\"agent-1\"").expect("a name");
        assert_eq!(
            serde_json::to_string(&name).expect("serialises"),
            "\"agent-1\""
        );
    }
}
