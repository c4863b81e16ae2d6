//! The `binaries` entries of a policy: which contents they mean.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clawd_common::decide::{GrantMask, MaskValue};
use clawd_policy::PathPattern;
use serde::{Deserialize, Serialize};

use crate::pins::Pins;

/// Which executables an entry means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matcher {
    /// This content.
    Sha256(#[serde(with = "crate::pins::hexadecimal")] [u8; 32]),
    /// The content that was pinned for this path.
    Path(PathBuf),
    /// The contents that were pinned for paths that match.
    Pattern(PathPattern),
}

/// One entry; its position is its bit in a [`GrantMask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where the policy says it.
    pub label: String,
    /// Which executables.
    pub matcher: Matcher,
    /// Whether it grants to their descendants too.
    pub descendants: bool,
    /// Whether it denies in place of granting: what is not known then counts against a program.
    pub denies: bool,
}

/// A path as a policy names it, and the file that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    /// Index of the entry.
    pub(crate) entry: usize,
    /// As the policy's path or pattern names it.
    pub(crate) named: PathBuf,
    /// With every link of the sandbox's view resolved.
    pub(crate) resolved: PathBuf,
    /// No sandbox has a say in where it leads.
    pub(crate) is_trusted: bool,
}

/// An entry that names a file which is executed.
pub(crate) struct Named {
    /// Index of the entry.
    pub(crate) entry: usize,
    /// The path that it names it by.
    pub(crate) path: PathBuf,
    /// Whether the path may be pinned; else it can only be found to hold something else.
    pub(crate) is_trusted: bool,
    /// [`Entry::denies`].
    pub(crate) denies: bool,
}

/// What is known of a line of executables.
pub(crate) struct Line {
    /// Number and content of each, the running one first.
    pub(crate) contents: Vec<(u32, [u8; 32])>,
    /// All of them: none fell off, and none was forgotten.
    pub(crate) is_whole: bool,
}

/// A policy as the gate knows it.
pub(crate) struct PolicyBook {
    pub(crate) sandbox_id: u32,
    pub(crate) entries: Arc<[Entry]>,
    /// Links that were found when the policy was loaded.
    pub(crate) aliases: Vec<Alias>,
    /// What was written to `MASK`, by chain.
    pub(crate) masked: HashMap<u32, MaskValue>,
    /// Entries whose path now holds the file in place of what was pinned, by file id; and those that
    /// deny what is at a path, where nothing is pinned for it.
    pub(crate) changed: HashMap<u32, GrantMask>,
}

impl PolicyBook {
    pub(crate) fn new(sandbox_id: u32, entries: Arc<[Entry]>, aliases: Vec<Alias>) -> Self {
        Self {
            sandbox_id,
            entries,
            aliases,
            masked: HashMap::new(),
            changed: HashMap::new(),
        }
    }

    /// What a line of executables is granted, and denied.
    pub(crate) fn mask(&self, line: &Line, pins: &Pins) -> MaskValue {
        let mut mask = MaskValue::ZERO;
        let Some(((file_id, running), ancestors)) = line.contents.split_first() else {
            return mask;
        };
        for (index, entry) in self.entries.iter().enumerate() {
            if means(&entry.matcher, running, pins) {
                mask.own.insert(index);
            }
            let is_ancestor = |(file_id, sha256): &(u32, [u8; 32])| {
                means(&entry.matcher, sha256, pins)
                    || (entry.denies && self.is_changed(*file_id, index))
            };
            // One that fell off may have been denied.
            let may_descend = entry.denies && !line.is_whole;
            if entry.descendants && (may_descend || ancestors.iter().any(is_ancestor)) {
                mask.lineage.insert(index);
            }
        }
        if let Some(changed) = self.changed.get(file_id) {
            mask.changed = *changed;
        }
        mask
    }

    fn is_changed(&self, file_id: u32, entry: usize) -> bool {
        let changed = self.changed.get(&file_id);
        changed.is_some_and(|changed| changed.contains(entry))
    }

    /// The entries that name a file that is executed as `path`; `is_trusted` says whether no sandbox
    /// had a say in that. `links` are entries' own paths that lead to it now.
    pub(crate) fn naming<'a>(
        &'a self,
        (path, is_trusted): (&'a Path, bool),
        links: &'a [Alias],
    ) -> impl Iterator<Item = Named> + 'a {
        let direct = self
            .entries
            .iter()
            .enumerate()
            .filter(move |(_, entry)| match &entry.matcher {
                Matcher::Sha256(_) => false,
                Matcher::Path(named) => named == path,
                Matcher::Pattern(pattern) => pattern.matches(path),
            })
            .map(move |(index, entry)| Named {
                entry: index,
                path: path.to_path_buf(),
                is_trusted,
                denies: entry.denies,
            });
        let linked = self
            .aliases
            .iter()
            .chain(links)
            .filter(move |alias| alias.resolved == path && alias.named != path)
            // `links` are of all policies of the sandbox, and their numbers of each one's own entries.
            .filter(|alias| {
                let entry = self.entries.get(alias.entry);
                entry.is_some_and(|entry| match &entry.matcher {
                    Matcher::Sha256(_) => false,
                    Matcher::Path(named) => *named == alias.named,
                    Matcher::Pattern(pattern) => pattern.matches(&alias.named),
                })
            })
            .map(|alias| Named {
                entry: alias.entry,
                path: alias.named.clone(),
                is_trusted: alias.is_trusted,
                denies: (self.entries.get(alias.entry)).is_some_and(|entry| entry.denies),
            });
        direct.chain(linked)
    }
}

/// Whether an entry means a content.
pub(crate) fn means(matcher: &Matcher, sha256: &[u8; 32], pins: &Pins) -> bool {
    match matcher {
        Matcher::Sha256(listed) => listed == sha256,
        Matcher::Path(path) => pins.get(path).is_some_and(|pin| pin.sha256 == *sha256),
        Matcher::Pattern(pattern) => pins.paths_of(sha256).any(|path| pattern.matches(path)),
    }
}

#[cfg(test)]
mod tests;
