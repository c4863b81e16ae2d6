//! Patterns for paths: which files a `path` with wildcards names.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use self::name::NamePattern;
use crate::limits::{MAX_PATH_BYTES, MAX_PATTERN_ANY_DEPTHS, MAX_PATTERN_WILDCARDS};

mod name;

#[cfg(test)]
mod tests;

/// An absolute path with wildcards, such as `/opt/*/bin/node` or `/home/agent/**/python3.1[0-9]`.
///
/// | in a pattern | matches |
/// |---|---|
/// | `*` | any number of bytes, also none, within one name |
/// | `?` | one byte within a name; a letter outside ASCII has several |
/// | `[a-z_]`, `[!a-z]` | one byte that is, or is not, among these; ASCII alone |
/// | `**` as a whole segment | any number of names, also none |
/// | anything else | itself |
///
/// None of them treats a leading dot apart: `*` matches `.git`, and `**` goes through it. `[*]` is
/// the character itself, since nothing escapes. Names are bytes, as for the kernel: UTF-8 or not.
///
/// No byte of the pattern meets the same byte of the path twice: the work of a match is at most the
/// product of the two lengths, whatever the pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    literal_prefix: PathBuf,
}

/// What stands between two `/` of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A name without wildcards.
    Literal(String),
    /// A name with wildcards.
    Pattern(NamePattern),
    /// `**`: any number of names, also none.
    AnyDepth,
}

/// Why a text is not a pattern for paths. Displays as what is wrong, then what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {}; {}", self.what(), self.help())]
pub enum PatternError {
    /// Longer than [`MAX_PATH_BYTES`].
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A line break, an escape or another control character.
    ControlCharacter,
    /// It does not start with `/`.
    NotAbsolute,
    /// Nothing stands between two `/`, or behind the last.
    EmptySegment,
    /// A segment is `.` or `..`.
    DotSegment,
    /// `{` or `}`.
    Braces,
    /// A backslash.
    Backslash,
    /// `**` beside other characters of a name.
    AnyDepthInName,
    /// `[` without its `]` in the same name.
    UnclosedClass,
    /// `[^`, which some tools read as `[!` and others as a set that holds `^`.
    Caret,
    /// `[:`, `[.` or `[=` within a set.
    NamedClass,
    /// A character outside ASCII within a set.
    ClassNotAscii,
    /// A range whose end is before its start.
    RangeBackwards {
        /// As written.
        range: String,
    },
    /// More than [`MAX_PATTERN_WILDCARDS`] segments have wildcards.
    TooManyWildcards {
        /// How many.
        found: usize,
    },
    /// More than [`MAX_PATTERN_ANY_DEPTHS`] segments are `**`.
    TooManyAnyDepths {
        /// How many.
        found: usize,
    },
}

// === impl PathPattern ===

impl PathPattern {
    /// Reads a pattern. One without wildcards is valid: it matches the path that it spells.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let bytes = text.len();
        if bytes > MAX_PATH_BYTES {
            return Err(PatternError::TooLong { bytes });
        }
        if text.contains(char::is_control) {
            return Err(PatternError::ControlCharacter);
        }
        if text.contains(['{', '}']) {
            return Err(PatternError::Braces);
        }
        if text.contains('\\') {
            return Err(PatternError::Backslash);
        }
        let relative = text.strip_prefix('/').ok_or(PatternError::NotAbsolute)?;
        let segments = relative
            .split('/')
            .map(Segment::parse)
            .collect::<Result<Vec<_>, _>>()?;
        let count = |is: fn(&Segment) -> bool| segments.iter().filter(|it| is(it)).count();
        let wildcards = count(|it| !matches!(it, Segment::Literal(_)));
        if wildcards > MAX_PATTERN_WILDCARDS {
            return Err(PatternError::TooManyWildcards { found: wildcards });
        }
        let any_depths = count(|it| matches!(it, Segment::AnyDepth));
        if any_depths > MAX_PATTERN_ANY_DEPTHS {
            return Err(PatternError::TooManyAnyDepths { found: any_depths });
        }
        Ok(Self {
            text: text.to_owned(),
            literal_prefix: literal_prefix(&segments),
            segments,
        })
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a path matches. One that is not absolute, or not in its shortest form (`//`, `.`,
    /// `..`, a slash at its end), matches nothing.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        let Some(relative) = path.as_os_str().as_bytes().strip_prefix(b"/") else {
            return false;
        };
        let names: Vec<&OsStr> = if relative.is_empty() {
            Vec::new()
        } else {
            let names = relative.split(|byte| *byte == b'/');
            names.map(OsStr::from_bytes).collect()
        };
        names.iter().all(|name| is_name(name))
            && matches_all(
                &self.segments,
                &names,
                |segment| *segment == Segment::AnyDepth,
                |segment, name| segment.matches(name),
            )
    }

    /// The folder that holds whatever matches: the names before the first segment with wildcards,
    /// without the last name of a pattern that has none.
    ///
    /// A pattern whose first wildcard is `**` matches this very path as well.
    #[must_use]
    pub fn literal_prefix(&self) -> &Path {
        &self.literal_prefix
    }

    /// What stands between the slashes, from the root on; at least one.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether no name and no folder is excluded, apart from ones that are short or near the root.
    pub(crate) fn is_unrestricted(&self) -> bool {
        self.segments.contains(&Segment::AnyDepth)
            && self.segments.iter().all(|segment| match segment {
                Segment::Literal(_) => false,
                Segment::Pattern(name) => name.is_unrestricted(),
                Segment::AnyDepth => true,
            })
    }
}

fn literal_prefix(segments: &[Segment]) -> PathBuf {
    let names = segments.iter().map_while(|segment| match segment {
        Segment::Literal(name) => Some(name.as_str()),
        Segment::Pattern(_) | Segment::AnyDepth => None,
    });
    // The last name of a pattern without wildcards is the file's, not a folder's.
    let folders = names.take(segments.len().saturating_sub(1));
    std::iter::once("/").chain(folders).collect()
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::parse(&text)
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.text
    }
}

// === impl Segment ===

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        match text {
            "" => Err(PatternError::EmptySegment),
            "." | ".." => Err(PatternError::DotSegment),
            "**" => Ok(Self::AnyDepth),
            _ if text.contains(['*', '?', '[']) => NamePattern::parse(text).map(Self::Pattern),
            _ => Ok(Self::Literal(text.to_owned())),
        }
    }

    /// Whether one name of a path matches; for `**`, whether the name may be among those that it
    /// stands for. What is no name of a file (empty, `.`, `..`, with a slash) never matches.
    #[must_use]
    pub fn matches(&self, name: &OsStr) -> bool {
        is_name(name)
            && match self {
                Self::Literal(text) => text.as_bytes() == name.as_bytes(),
                Self::Pattern(pattern) => pattern.matches(name.as_bytes()),
                Self::AnyDepth => true,
            }
    }
}

fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/')
}

/// Whether `items` match `pattern` from end to end. Where `is_run` holds, an element of the
/// pattern stands for any number of items; any other stands for one item that `is_one` accepts.
///
/// After a mismatch, the last run takes one item more. An earlier run never has to: whatever the
/// elements between the two could match later, the last run can skip. So no element that stands
/// for one item meets the same item twice.
fn matches_all<P, I>(
    pattern: &[P],
    items: &[I],
    is_run: impl Fn(&P) -> bool,
    is_one: impl Fn(&P, &I) -> bool,
) -> bool {
    let (mut at, mut item) = (0, 0);
    // Behind the last run: the element, and the first item that the run leaves to it.
    let mut resume = None;
    loop {
        match (pattern.get(at), items.get(item)) {
            (None, None) => return true,
            (Some(run), _) if is_run(run) => {
                at += 1;
                resume = Some((at, item));
                continue;
            }
            (Some(_), None) => return false, // a longer run would leave even fewer items
            (Some(one), Some(found)) if is_one(one, found) => {
                at += 1;
                item += 1;
                continue;
            }
            (_, Some(_)) => {}
        }
        let Some((behind_run, first_left)) = resume else {
            return false;
        };
        (at, item) = (behind_run, first_left + 1);
        resume = Some((at, item));
    }
}

// === impl PatternError ===

impl PatternError {
    /// What is wrong, to be read behind the pattern's name.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::TooLong { bytes } => {
                format!("has {bytes} bytes, the limit is {MAX_PATH_BYTES}")
            }
            Self::ControlCharacter => "holds a control character".to_owned(),
            Self::NotAbsolute => "is not absolute".to_owned(),
            Self::EmptySegment => "has nothing between two slashes or behind the last".to_owned(),
            Self::DotSegment => "holds `.` or `..` as a name".to_owned(),
            Self::Braces => "holds `{` or `}`".to_owned(),
            Self::Backslash => "holds a backslash".to_owned(),
            Self::AnyDepthInName => "has `**` beside other characters of a name".to_owned(),
            Self::UnclosedClass => "has a `[` without `]` in the same name".to_owned(),
            Self::Caret => "holds `[^`".to_owned(),
            Self::NamedClass => "has `[:`, `[.` or `[=` within brackets".to_owned(),
            Self::ClassNotAscii => "has a character outside ASCII within brackets".to_owned(),
            Self::RangeBackwards { range } => format!("has a range that ends early: `{range}`"),
            Self::TooManyWildcards { found } => {
                format!("has wildcards in {found} segments, the limit is {MAX_PATTERN_WILDCARDS}")
            }
            Self::TooManyAnyDepths { found } => {
                format!("has {found} segments `**`, the limit is {MAX_PATTERN_ANY_DEPTHS}")
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "the kernel takes no longer paths",
            Self::ControlCharacter => "look for an escape or a line break inside the quotes",
            Self::NotAbsolute => "write it from `/` on; `~` and variables are not replaced",
            Self::EmptySegment => "write one slash between two names, and none at the end",
            Self::DotSegment => "write the path that it leads to",
            Self::Braces => "choices are not read: write two entries, one for each",
            Self::Backslash => {
                "a backslash escapes nothing: write `[*]`, `[?]` or `[[]` for the character itself"
            }
            Self::AnyDepthInName => {
                "write `*` for any part of a name, or `/**/` for any number of folders"
            }
            Self::UnclosedClass => "close the set, or write `[[]` for the character itself",
            Self::Caret => "write `[!` for what is not in the set, or put `^` behind another",
            Self::NamedClass => "write the set as ranges, such as `[0-9]` or `[A-Za-z]`",
            Self::ClassNotAscii => "a set matches one byte: write `*`, or an entry for each name",
            Self::RangeBackwards { .. } => {
                "write the lower end first, or `-` at the end of the set"
            }
            Self::TooManyWildcards { .. } => "write out the folders that are known",
            Self::TooManyAnyDepths { .. } => "one `**` already stands for any number of folders",
        }
    }
}
