//! From text to YAML nodes that know where they stand.
//!
//! Scalars keep their text as written. YAML's guesses about unquoted scalars (64 hex digits may
//! read as a number, `1.10` as 1.1) must not change what a policy says.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    Location, MessageFormatter as _, Options, Spanned, UserMessageFormatter,
    options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy},
};

use crate::{
    error::PolicyErrorKind,
    escape::{escaped, quoted},
    limits::{MAX_ALIAS_EVENTS, MAX_ALIASES, MAX_DEPTH, MAX_NODES, MAX_TEXT_BYTES},
    problem::{Position, Problem},
    secret::without_values,
};

/// One YAML node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A scalar as written.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) kind: ScalarKind,
}

/// What YAML takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Text,
    Number,
    Bool(bool),
    Null,
}

/// A key of a mapping.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) at: Position,
    pub(crate) text: String,
}

/// Reads one YAML document.
///
/// # Errors
/// The first violation of YAML's grammar or of the limits: after it, positions mean nothing.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Problem {
            at: Position::default(),
            kind: PolicyErrorKind::Limit,
            message: format!(
                "the file has {} bytes, the limit is {MAX_TEXT_BYTES}",
                text.len()
            ),
            help: Some("split the policy, or list prefixes in place of addresses".to_owned()),
        });
    }
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options())
        .map(|raw| node(raw, text))
        .map_err(|error| syntax_problem(&error, text))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_recorded_anchor_events: MAX_ALIAS_EVENTS,
            max_documents: 2, // the second has an error of its own
            max_total_scalar_bytes: 4 * MAX_TEXT_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_EVENTS,
            max_replay_stack_depth: MAX_DEPTH,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

fn syntax_problem(error: &serde_saphyr::Error, text: &str) -> Problem {
    use serde_saphyr::Error;
    let (kind, message, help) = match error.without_snippet() {
        Error::DuplicateMappingKey { key, .. } => (
            PolicyErrorKind::Syntax,
            format!(
                "key {} is written twice",
                quoted(key.as_deref().unwrap_or("(not a scalar)"))
            ),
            "merge the two; which of them would count is not defined",
        ),
        Error::MultipleDocuments { .. } => (
            PolicyErrorKind::Syntax,
            "the file holds more than one YAML document".to_owned(),
            "a policy is one document: remove the `---` line and what follows it",
        ),
        Error::MergeKeyNotAllowed { .. } => (
            PolicyErrorKind::Syntax,
            "merge keys (`<<`) are not read".to_owned(),
            "write the merged keys out",
        ),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => (
            PolicyErrorKind::Limit,
            format!("the file is too complex: {}", text_of(error, text)),
            "a policy nests 5 levels deep; write it with fewer nodes and aliases",
        ),
        _ => (
            PolicyErrorKind::Syntax,
            format!("not valid YAML: {}", text_of(error, text)),
            "see the indentation, quotes and brackets at and just before this place",
        ),
    };
    Problem {
        at: error.location().map_or_else(Position::default, position),
        kind,
        message,
        help: Some(help.to_owned()),
    }
}

/// The library's own words: without its rendering of the place, since ours follows.
fn text_of(error: &serde_saphyr::Error, text: &str) -> String {
    let message = UserMessageFormatter.format_message(error).into_owned();
    escaped(&without_values(message, text))
}

fn position(location: Location) -> Position {
    Position {
        line: u32::try_from(location.line()).unwrap_or(u32::MAX),
        col: u32::try_from(location.column()).unwrap_or(u32::MAX),
    }
}

// === impl Raw ===

/// A node as the library hands it out: the text of unquoted scalars is not in it yet.
enum Raw {
    Text(String),
    Typed(ScalarKind),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>, source: &str) -> Node {
    // Where it is defined, so that a mistake behind an alias is shown where its text stands.
    let location = raw.defined;
    let value = match raw.value {
        Raw::Text(text) => Value::Scalar(Scalar {
            text,
            kind: ScalarKind::Text,
        }),
        Raw::Typed(kind) => Value::Scalar(Scalar {
            text: source_of(location, source).to_owned(),
            kind,
        }),
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, source)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let at = position(key.defined);
                    let text = key.value;
                    (Key { at, text }, node(value, source))
                })
                .collect(),
        ),
    };
    Node {
        at: position(location),
        value,
    }
}

/// The text of an unquoted scalar. Empty where the library names no place, and no key takes that.
fn source_of(location: Location, source: &str) -> &str {
    let span = location.span();
    let range = || {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let len = usize::try_from(span.byte_len()?).ok()?;
        source.get(start..start.checked_add(len)?)
    };
    range().unwrap_or_default().trim()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(ScalarKind::Bool(value)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(ScalarKind::Number))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(ScalarKind::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(ScalarKind::Number))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Typed(ScalarKind::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Typed(ScalarKind::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
