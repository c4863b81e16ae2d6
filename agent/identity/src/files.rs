//! Contents, numbered, and the keys of the files that have them.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Instant,
};

use clawd_common::record::{FileKey, FileValue, PATH_BYTES};

use crate::{
    mounts::{Dev, Place},
    settle::is_overlay,
};

/// What is remembered of a file that no sandbox can write.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) sha256: [u8; 32],
    /// `None` where a gate before this one hashed it.
    pub(crate) place: Option<Place>,
    /// It has further names, so it may be in other places too.
    pub(crate) linked: bool,
    /// Whether the kernel has it in `IDENTITY`.
    pub(crate) published: bool,
}

/// One content.
pub(crate) struct Content {
    pub(crate) sha256: [u8; 32],
    /// The sandbox that first executed it; 0 where a gate before this one numbered it.
    pub(crate) sandbox_id: u32,
    pub(crate) last_used: Instant,
}

/// All contents and keys.
#[derive(Default)]
pub(crate) struct Files {
    numbers: HashMap<[u8; 32], u32>,
    contents: HashMap<u32, Content>,
    keys: HashMap<FileKey, Known>,
    last_number: u32,
}

impl Files {
    /// Takes up what the kernel's tables hold.
    pub(crate) fn restore(
        files: Vec<(u32, FileValue)>,
        identities: Vec<(FileKey, u32)>,
        now: Instant,
    ) -> Self {
        let mut restored = Self::default();
        for (number, value) in files {
            restored.last_number = restored.last_number.max(number);
            restored.numbers.insert(value.sha256, number);
            let content = Content {
                sha256: value.sha256,
                sandbox_id: 0,
                last_used: now,
            };
            restored.contents.insert(number, content);
        }
        for (key, number) in identities {
            restored.last_number = restored.last_number.max(number);
            if let Some(content) = restored.contents.get(&number) {
                let known = Known {
                    sha256: content.sha256,
                    place: None,
                    linked: false,
                    published: true,
                };
                restored.keys.insert(key, known);
            }
        }
        restored
    }

    /// Sees to it that no content from now on has a number up to `number`.
    pub(crate) fn pass(&mut self, number: u32) {
        self.last_number = self.last_number.max(number);
    }

    /// Contents.
    pub(crate) fn len(&self) -> usize {
        self.contents.len()
    }

    /// Keys.
    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Contents that a sandbox was the first to execute.
    pub(crate) fn of_sandbox(&self, sandbox_id: u32) -> usize {
        self.contents
            .values()
            .filter(|content| content.sandbox_id == sandbox_id)
            .count()
    }

    pub(crate) fn known(&self, key: &FileKey) -> Option<&Known> {
        self.keys.get(key)
    }

    /// Whether the kernel has the key in `IDENTITY`, and its place is known.
    pub(crate) fn is_settled(&self, key: &FileKey) -> bool {
        self.keys
            .get(key)
            .is_some_and(|known| known.published && known.place.is_some())
    }

    pub(crate) fn remember(&mut self, key: FileKey, known: Known) {
        self.keys.insert(key, known);
    }

    /// The number of a content, and that it is used now.
    pub(crate) fn number(&mut self, sha256: &[u8; 32], now: Instant) -> Option<u32> {
        let number = self.numbers.get(sha256).copied()?;
        if let Some(content) = self.contents.get_mut(&number) {
            content.last_used = now;
        }
        Some(number)
    }

    /// Numbers a content that has no number; `None` where numbers are used up.
    pub(crate) fn add(&mut self, sha256: [u8; 32], sandbox_id: u32, now: Instant) -> Option<u32> {
        self.last_number = self.last_number.checked_add(1)?;
        let number = self.last_number;
        self.numbers.insert(sha256, number);
        let content = Content {
            sha256,
            sandbox_id,
            last_used: now,
        };
        self.contents.insert(number, content);
        Some(number)
    }

    /// Takes back [`Files::add`].
    pub(crate) fn remove(&mut self, number: u32) {
        if let Some(content) = self.contents.remove(&number) {
            self.numbers.remove(&content.sha256);
        }
    }

    pub(crate) fn sha256(&self, number: u32) -> Option<[u8; 32]> {
        self.contents.get(&number).map(|content| content.sha256)
    }

    /// Forgets the keys that `gone` names; returns those that the kernel has.
    pub(crate) fn forget_keys(&mut self, gone: impl Fn(&FileKey, &Known) -> bool) -> Vec<FileKey> {
        let keys: Vec<FileKey> = self
            .keys
            .iter()
            .filter(|(key, known)| gone(key, known))
            .map(|(key, _)| *key)
            .collect();
        let mut published = Vec::new();
        for key in keys {
            if self.keys.remove(&key).is_some_and(|known| known.published) {
                published.push(key);
            }
        }
        published
    }

    /// Forgets the keys of files that a sandbox can write from now on: those in its `trees`, those
    /// that it may reach at other places of the same file system, those of overlays, whose layers may
    /// lie in its trees, and those whose place is not known.
    pub(crate) fn forget_writable(&mut self, trees: &[Place]) -> Vec<FileKey> {
        let devices: HashSet<Dev> = trees.iter().map(|tree| tree.dev).collect();
        self.forget_keys(|key, known| match &known.place {
            None => true,
            _ if is_overlay(key) => true,
            Some(place) => {
                trees.iter().any(|tree| tree.contains(place))
                    || (known.linked && devices.contains(&place.dev))
            }
        })
    }

    /// Removes contents that are neither in `live` nor were used since `since`, with their keys;
    /// returns the numbers and the published keys.
    pub(crate) fn retain(
        &mut self,
        live: &HashSet<u32>,
        since: Instant,
    ) -> (Vec<u32>, Vec<FileKey>) {
        let dead: Vec<u32> = self
            .contents
            .iter()
            .filter(|(number, content)| !live.contains(number) && content.last_used < since)
            .map(|(number, _)| *number)
            .collect();
        for number in &dead {
            self.remove(*number);
        }
        let alive: HashSet<[u8; 32]> = self.numbers.keys().copied().collect();
        let keys = self.forget_keys(|_, known| !alive.contains(&known.sha256));
        (dead, keys)
    }
}

/// A path in a value of fixed size; what does not fit is cut.
pub(crate) fn fixed(path: &Path) -> ([u8; PATH_BYTES], u32) {
    use std::os::unix::ffi::OsStrExt as _;

    let mut room = [0; PATH_BYTES];
    let mut len_bytes = 0;
    for (to, from) in room.iter_mut().zip(path.as_os_str().as_bytes()) {
        *to = *from;
        len_bytes += 1;
    }
    (room, len_bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        path::{Path, PathBuf},
        time::{Duration, Instant},
    };

    use clawd_common::record::{FileKey, FileValue, PATH_BYTES};

    use super::{Files, Known, fixed};
    use crate::mounts::{Dev, Place};

    fn key(ino: u64) -> FileKey {
        FileKey {
            ino,
            ..FileKey::ZERO
        }
    }

    fn place(minor: u32, path: &str) -> Place {
        Place {
            dev: Dev { major: 8, minor },
            path: PathBuf::from(path),
        }
    }

    fn known(content: u8, place: Option<Place>) -> Known {
        Known {
            sha256: [content; 32],
            place,
            linked: false,
            published: true,
        }
    }

    #[test]
    fn a_content_has_one_number_which_is_not_used_again() {
        let mut files = Files::default();
        let now = Instant::now();
        assert_eq!(files.number(&[1; 32], now), None);
        let first = files.add([1; 32], 1, now).expect("numbered");
        assert_eq!(files.number(&[1; 32], now), Some(first));
        files.remove(first);
        assert_eq!(
            (files.number(&[1; 32], now), files.sha256(first)),
            (None, None)
        );
        let second = files.add([2; 32], 1, now).expect("numbered");
        assert!(second > first);
        assert_eq!((files.of_sandbox(1), files.of_sandbox(2)), (1, 0));
    }

    #[test]
    fn restore_passes_every_number_and_takes_up_keys_of_known_contents() {
        let value = FileValue {
            sha256: [1; 32],
            ..FileValue::ZERO
        };
        let identities = vec![(key(1), 4), (key(2), 9)];
        let mut files = Files::restore(vec![(4, value)], identities, Instant::now());
        assert_eq!((files.len(), files.keys()), (1, 1));
        assert_eq!(files.known(&key(1)).expect("taken up").sha256, [1; 32]);
        assert!(!files.is_settled(&key(1)), "nobody knows where it is");
        assert_eq!(files.add([2; 32], 1, Instant::now()), Some(10));
    }

    #[test]
    fn forget_writable_forgets_what_may_be_in_the_trees() {
        let mut files = Files::default();
        files.remember(key(1), known(1, Some(place(1, "/a/x"))));
        files.remember(key(2), known(1, Some(place(1, "/ab"))));
        files.remember(key(3), known(1, Some(place(2, "/a/x"))));
        files.remember(key(4), known(1, None));
        let unpublished = Known {
            published: false,
            ..known(1, Some(place(1, "/a")))
        };
        files.remember(key(5), unpublished);
        for (ino, minor) in [(6, 1), (7, 2)] {
            let linked = Known {
                linked: true,
                ..known(1, Some(place(minor, "/b")))
            };
            files.remember(key(ino), linked);
        }
        let gone: HashSet<FileKey> = files
            .forget_writable(&[place(1, "/a")])
            .into_iter()
            .collect();
        assert_eq!(gone, [1, 4, 6].map(key).into());
        let left: Vec<u64> = (1..8)
            .filter(|ino| files.known(&key(*ino)).is_some())
            .collect();
        assert_eq!(left, [2, 3, 7]);
    }

    #[test]
    fn forget_writable_forgets_all_of_overlays_whose_layers_may_be_anywhere() {
        let mut files = Files::default();
        let on_overlay = FileKey {
            fs_magic: 0x794c_7630,
            ..key(1)
        };
        files.remember(on_overlay, known(1, Some(place(9, "/elsewhere"))));
        assert_eq!(files.forget_writable(&[place(1, "/a")]), [on_overlay]);
    }

    #[test]
    fn retain_keeps_what_lives_or_was_used_lately() {
        let mut files = Files::default();
        let past = Instant::now() - Duration::from_secs(60);
        for content in 1..=3 {
            files.add([content; 32], 1, past);
            files.remember(key(u64::from(content)), known(content, None));
        }
        files.remember(key(9), known(9, None));
        let since = Instant::now() - Duration::from_secs(1);
        files.number(&[2; 32], Instant::now());
        let (contents, keys) = files.retain(&HashSet::from([1]), since);
        assert_eq!(contents, [3]);
        let gone: HashSet<FileKey> = keys.into_iter().collect();
        assert_eq!(gone, [3, 9].map(key).into(), "9 has no content any more");
        assert_eq!((files.len(), files.keys()), (2, 2));
    }

    #[test]
    fn fixed_cuts_what_does_not_fit() {
        let long = "/".repeat(PATH_BYTES + 1);
        let (bytes, len_bytes) = fixed(Path::new(&long));
        assert_eq!(usize::try_from(len_bytes), Ok(PATH_BYTES));
        assert!(bytes.iter().all(|byte| *byte == b'/'));
        assert_eq!(fixed(Path::new("/a")).1, 2);
    }
}
