//! Takes mappings apart by key, so that no key is left unread.

use crate::{
    error::PolicyErrorKind,
    escape::quoted,
    node::{Key, Node, Scalar, ScalarKind, Value},
    problem::{Position, Problems},
    suggest::nearest,
};

/// A value with its place.
#[derive(Debug)]
pub(crate) struct At<T> {
    pub(crate) at: Position,
    pub(crate) value: T,
}

/// The value of a key.
#[derive(Debug)]
pub(crate) enum Field<T> {
    /// The key is not there.
    Absent,
    /// The key is there, its value has the wrong shape, and that has been reported.
    Bad,
    /// The value.
    Given(At<T>),
}

/// The keys of one kind of mapping.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The kind of mapping, for messages.
    pub(crate) of: &'static str,
    /// Keys that this version reads.
    pub(crate) known: &'static [&'static str],
    /// Keys of the language that this version does not enforce.
    pub(crate) not_enforced: &'static [&'static str],
}

/// A mapping of which some keys have been taken.
#[derive(Debug)]
pub(crate) struct Fields {
    keys: &'static Keys,
    left: Vec<(Key, Node)>,
}

// === impl Field ===

impl<T> Field<T> {
    /// The value, whatever the reason why there is none.
    pub(crate) fn given(self) -> Option<At<T>> {
        match self {
            Self::Given(given) => Some(given),
            Self::Absent | Self::Bad => None,
        }
    }
}

// === impl Fields ===

impl Fields {
    /// Opens a node that must be a mapping.
    pub(crate) fn open(node: Node, keys: &'static Keys, problems: &mut Problems) -> Option<Self> {
        let at = node.at;
        match node.value {
            Value::Map(left) => Some(Self { keys, left }),
            other => {
                wrong_shape(at, keys.of, "a mapping", &other, problems);
                None
            }
        }
    }

    /// Takes the value of a key.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let index = self.left.iter().position(|(key, _)| key.text == name)?;
        Some(self.left.swap_remove(index).1)
    }

    /// Takes a scalar.
    pub(crate) fn scalar(&mut self, name: &str, problems: &mut Problems) -> Field<Scalar> {
        let Some(node) = self.take(name) else {
            return Field::Absent;
        };
        scalar(node, &format!("`{name}`"), problems).map_or(Field::Bad, Field::Given)
    }

    /// Takes a list.
    pub(crate) fn list(&mut self, name: &str, problems: &mut Problems) -> Field<Vec<Node>> {
        let Some(node) = self.take(name) else {
            return Field::Absent;
        };
        let at = node.at;
        match node.value {
            Value::List(value) => Field::Given(At { at, value }),
            other => {
                wrong_shape(at, &format!("`{name}`"), "a list", &other, problems);
                Field::Bad
            }
        }
    }

    /// Takes a list of scalars; what is no scalar in it is reported and left out.
    pub(crate) fn scalars(
        &mut self,
        name: &str,
        problems: &mut Problems,
    ) -> Field<Vec<At<Scalar>>> {
        match self.list(name, problems) {
            Field::Absent => Field::Absent,
            Field::Bad => Field::Bad,
            Field::Given(At { at, value }) => {
                let what = format!("an entry of `{name}`");
                let value = value
                    .into_iter()
                    .filter_map(|item| scalar(item, &what, problems))
                    .collect();
                Field::Given(At { at, value })
            }
        }
    }

    /// Takes a mapping with keys of its own choice, in the order of the file.
    pub(crate) fn entries(
        &mut self,
        name: &str,
        problems: &mut Problems,
    ) -> Field<Vec<(Key, Node)>> {
        match self.take(name) {
            None => Field::Absent,
            Some(node) => entries_of(node, name, problems),
        }
    }

    /// Takes a mapping with fixed keys and reads it with `read`.
    pub(crate) fn section<T>(
        &mut self,
        name: &str,
        keys: &'static Keys,
        problems: &mut Problems,
        read: impl FnOnce(&mut Self, &mut Problems) -> T,
    ) -> Field<T> {
        let Some(node) = self.take(name) else {
            return Field::Absent;
        };
        read_with(node, keys, problems, read).map_or(Field::Bad, Field::Given)
    }

    /// Reports every key that nothing took.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for (key, _) in self.left {
            if problems.is_full() {
                problems.errors_dropped += 1;
                continue;
            }
            let name = quoted(&key.text);
            let of = self.keys.of;
            if self.keys.not_enforced.contains(&key.text.as_str()) {
                problems.error(
                    key.at,
                    PolicyErrorKind::NotEnforced,
                    format!("{name} of {of} is understood but not enforced by this version"),
                    "remove it: it is refused, because ignoring it would promise what is not done",
                );
                continue;
            }
            let all = self.keys.known.iter().chain(self.keys.not_enforced);
            let help = nearest(&key.text, all.copied()).map_or_else(
                || format!("known here: {}", self.keys.known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            problems.error(
                key.at,
                PolicyErrorKind::UnknownKey,
                format!("{name} is not a key of {of}"),
                help,
            );
        }
    }
}

/// Opens a mapping, reads it with `read`, and reports the keys that `read` did not take.
pub(crate) fn read_with<T>(
    node: Node,
    keys: &'static Keys,
    problems: &mut Problems,
    read: impl FnOnce(&mut Fields, &mut Problems) -> T,
) -> Option<At<T>> {
    let at = node.at;
    let mut fields = Fields::open(node, keys, problems)?;
    let value = read(&mut fields, problems);
    fields.finish(problems);
    Some(At { at, value })
}

/// Reads a node that must be a mapping with keys of its own choice.
pub(crate) fn entries_of(
    node: Node,
    name: &str,
    problems: &mut Problems,
) -> Field<Vec<(Key, Node)>> {
    let at = node.at;
    match node.value {
        Value::Map(value) => Field::Given(At { at, value }),
        other => {
            wrong_shape(at, &format!("`{name}`"), "a mapping", &other, problems);
            Field::Bad
        }
    }
}

/// Reads a node that must be a scalar with a value.
pub(crate) fn scalar(node: Node, what: &str, problems: &mut Problems) -> Option<At<Scalar>> {
    let at = node.at;
    match node.value {
        Value::Scalar(value) if value.kind != ScalarKind::Null => Some(At { at, value }),
        other => {
            wrong_shape(at, what, "a single value", &other, problems);
            None
        }
    }
}

fn wrong_shape(at: Position, what: &str, want: &str, got: &Value, problems: &mut Problems) {
    let got = match got {
        Value::Scalar(scalar) if scalar.kind == ScalarKind::Null => {
            problems.value(
                at,
                format!("{what} has no value"),
                format!("give it {want}, or remove the key"),
            );
            return;
        }
        Value::Scalar(scalar) => quoted(&scalar.text),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    };
    problems.value(
        at,
        format!("{what} must be {want}, not {got}"),
        format!("write {want} here"),
    );
}
