//! Patterns for one name of a path.

use super::{PatternError, matches_all};

/// A name with wildcards: `*`, `?`, `[..]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamePattern {
    tokens: Vec<Token>,
}

/// What stands for one byte of a name, or for any number of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Token {
    /// `*`.
    AnyRun,
    /// `?`.
    AnyByte,
    /// A byte that stands for itself.
    Byte(u8),
    /// `[..]` or `[!..]`, as ranges with both ends in them.
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl NamePattern {
    /// Reads what stands between two slashes: neither empty nor `**` alone.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.contains("**") {
            // Within brackets, `**` would be one character twice; nobody means that.
            return Err(PatternError::AnyDepthInName);
        }
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, behind @ ..] = rest {
            rest = behind;
            tokens.push(match first {
                b'*' => Token::AnyRun,
                b'?' => Token::AnyByte,
                b'[' => class(&mut rest)?,
                byte => Token::Byte(*byte),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether the bytes of one name match. The caller has seen to it that it is one name.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        matches_all(
            &self.tokens,
            name,
            |token| *token == Token::AnyRun,
            |token, byte| token.matches(*byte),
        )
    }

    /// Whether only the length of a name counts, if anything.
    pub(super) fn is_unrestricted(&self) -> bool {
        let is_open = |token: &Token| matches!(token, Token::AnyRun | Token::AnyByte);
        self.tokens.contains(&Token::AnyRun) && self.tokens.iter().all(is_open)
    }
}

/// Takes a set from behind its `[` to its `]`.
fn class(rest: &mut &[u8]) -> Result<Token, PatternError> {
    if rest.first() == Some(&b'^') {
        return Err(PatternError::Caret);
    }
    let negated = rest.first() == Some(&b'!');
    let inside = rest.get(usize::from(negated)..).unwrap_or_default();
    // A `]` in the first place is a member: a set has at least one.
    let len = inside
        .iter()
        .skip(1)
        .position(|byte| *byte == b']')
        .ok_or(PatternError::UnclosedClass)?
        + 1;
    let (members, behind) = inside.split_at(len);
    *rest = behind.get(1..).unwrap_or_default();
    Ok(Token::Class {
        negated,
        ranges: ranges(members)?,
    })
}

fn ranges(mut members: &[u8]) -> Result<Vec<(u8, u8)>, PatternError> {
    let mut ranges = Vec::new();
    loop {
        let (range, behind) = match members {
            [] => return Ok(ranges),
            [b'[', b':' | b'.' | b'=', ..] => return Err(PatternError::NamedClass),
            [first, b'-', last, behind @ ..] => ((*first, *last), behind),
            [only, behind @ ..] => ((*only, *only), behind),
        };
        let (first, last) = range;
        if !first.is_ascii() || !last.is_ascii() {
            return Err(PatternError::ClassNotAscii);
        }
        if last < first {
            let range = format!("{}-{}", char::from(first), char::from(last));
            return Err(PatternError::RangeBackwards { range });
        }
        ranges.push(range);
        members = behind;
    }
}

// === impl Token ===

impl Token {
    /// Whether one byte matches. A run matches each byte by itself, too.
    fn matches(&self, byte: u8) -> bool {
        match self {
            Self::AnyRun | Self::AnyByte => true,
            Self::Byte(own) => *own == byte,
            Self::Class { negated, ranges } => {
                let is_member = |(first, last): &(u8, u8)| (*first..=*last).contains(&byte);
                ranges.iter().any(is_member) != *negated
            }
        }
    }
}
