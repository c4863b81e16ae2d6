//! Patterns for host names: which names a `host` with wildcards means.

use std::fmt;

/// Bytes of a name without its last dot (RFC 1035, 2.3.4, as text).
const MAX_NAME_BYTES: usize = 253;
/// Bytes of a label.
const MAX_LABEL_BYTES: usize = 63;

/// A host name, or names by a pattern: `api.example.com`, `*.example.com`, `**.example.com`.
///
/// | label of a pattern | matches |
/// |---|---|
/// | `*` | one label, whatever it is |
/// | `**`, the first one only | one or more labels |
/// | anything else | itself, in either case |
///
/// The last two labels are never wildcards, so that no pattern means all names of a top-level domain. None
/// matches the name that is left without its wildcards: `*.example.com` is not `example.com`.
///
/// Displays as written, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern {
    /// In lower case.
    labels: Vec<String>,
}

/// Why a text is not a pattern for host names. Displays as what is wrong, to be read behind the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// No character.
    #[error("is empty")]
    Empty,
    /// Longer than a name can be.
    #[error("has {bytes} bytes, a name has at most {MAX_NAME_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Nothing between two dots, before the first or behind the last.
    #[error("has a dot with nothing before or behind it")]
    EmptyLabel,
    /// A label that is longer than one can be.
    #[error("has a part of {bytes} bytes between its dots, the limit is {MAX_LABEL_BYTES}")]
    LabelTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that no name has.
    #[error("holds a character that host names do not have")]
    Character,
    /// A character outside ASCII.
    #[error("holds a character outside ASCII")]
    NotAscii,
    /// A label that begins or ends with `-`.
    #[error("has a `-` beside a dot or at an end")]
    Hyphen,
    /// The last label is a number, as in an address.
    #[error("ends with a number, as an address does")]
    Number,
    /// `*` beside other characters.
    #[error("has a `*` beside other characters")]
    PartialWildcard,
    /// `**` that is not the first label.
    #[error("has `**` behind its first dot")]
    AnyDepthInside,
    /// One of the last two labels is a wildcard.
    #[error("has a wildcard in its last two parts")]
    TooWide,
}

const ANY_LABEL: &str = "*";
const ANY_DEPTH: &str = "**";

// === impl HostPattern ===

impl HostPattern {
    /// Reads a pattern. One without wildcards is valid: it matches the name that it spells.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        if text.is_empty() {
            return Err(HostPatternError::Empty);
        }
        if !text.is_ascii() {
            return Err(HostPatternError::NotAscii);
        }
        let bytes = text.len();
        if bytes > MAX_NAME_BYTES {
            return Err(HostPatternError::TooLong { bytes });
        }
        let labels: Vec<String> = text.split('.').map(str::to_ascii_lowercase).collect();
        for (at, label) in labels.iter().enumerate() {
            check_label(label, at == 0)?;
        }
        let last = labels.iter().rev();
        if last.clone().take(2).any(|label| is_wildcard(label)) {
            return Err(HostPatternError::TooWide);
        }
        let is_number = |label: &String| label.bytes().all(|byte| byte.is_ascii_digit());
        if last.take(1).any(is_number) {
            return Err(HostPatternError::Number);
        }
        Ok(Self { labels })
    }

    /// Whether a name is meant, in whatever case, with its last dot or without. What is no host name
    /// matches nothing.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > MAX_NAME_BYTES {
            return false;
        }
        let names: Vec<&str> = name.split('.').collect();
        if !names.iter().all(|label| is_label(label)) {
            return false;
        }
        let (own, names) = match self.labels.split_first() {
            // One label at least is left to `**`; the others are compared from the end.
            Some((first, rest)) if first == ANY_DEPTH => {
                let Some(from) = names.len().checked_sub(rest.len()).filter(|from| *from > 0)
                else {
                    return false;
                };
                (rest, names.get(from..).unwrap_or_default())
            }
            _ => (self.labels.as_slice(), names.as_slice()),
        };
        let is_same =
            |(own, name): (&String, &&str)| own == ANY_LABEL || own.eq_ignore_ascii_case(name);
        own.len() == names.len() && own.iter().zip(names).all(is_same)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.labels.join("."))
    }
}

fn check_label(label: &str, is_first: bool) -> Result<(), HostPatternError> {
    let bytes = label.len();
    match label {
        "" => Err(HostPatternError::EmptyLabel),
        ANY_LABEL => Ok(()),
        ANY_DEPTH if is_first => Ok(()),
        ANY_DEPTH => Err(HostPatternError::AnyDepthInside),
        _ if label.contains('*') => Err(HostPatternError::PartialWildcard),
        _ if bytes > MAX_LABEL_BYTES => Err(HostPatternError::LabelTooLong { bytes }),
        _ if !label.bytes().all(is_of_name) => Err(HostPatternError::Character),
        _ if label.starts_with('-') || label.ends_with('-') => Err(HostPatternError::Hyphen),
        _ => Ok(()),
    }
}

fn is_wildcard(label: &str) -> bool {
    label.contains('*')
}

/// Letters, digits and `-` (RFC 1123, 2.1), and `_`, which names of services have (RFC 8552).
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.bytes().all(is_of_name)
}

// === impl HostPatternError ===

impl HostPatternError {
    /// What to do about it.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Empty => "write a name such as api.example.com, or leave the key out",
            Self::TooLong { .. } | Self::LabelTooLong { .. } => "no host has a longer name",
            Self::EmptyLabel => "write the name without a dot at its ends, as in api.example.com",
            Self::Character => {
                "write the name alone, without scheme, port and path: letters, digits, `-` and `_`"
            }
            Self::NotAscii => "write the name as DNS has it, in its form that begins with `xn--`",
            Self::Hyphen => "no host has such a name",
            Self::Number => "write an address as four decimal numbers, such as 192.0.2.1",
            Self::PartialWildcard => "a `*` stands for the whole part between two dots",
            Self::AnyDepthInside => "write `**` first, as in **.example.com",
            Self::TooWide => "write at least the domain, as in *.example.com",
        }
    }
}

#[cfg(test)]
mod tests;
