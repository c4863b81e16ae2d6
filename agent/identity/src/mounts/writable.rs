//! What sandboxes can write, by file system and path, so that a question costs the same however many
//! sandboxes there are.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Dev, Place};

/// Roots of trees on one file system, and how often each was told. Paths are in the order of their
/// components, so what lies in a tree follows its root.
type Roots = BTreeMap<PathBuf, u32>;

/// What each live sandbox can write.
///
/// A copy shares what it can with the original.
#[derive(Clone, Debug, Default)]
pub struct WritableTrees {
    sandboxes: HashMap<u32, Live>,
    index: HashMap<Dev, Arc<Roots>>,
    /// What could be written by sandboxes that are no more, and when the last of them ended. Kept
    /// while somebody lives who lived then, and may have a descriptor of its.
    past: HashMap<Place, u64>,
    /// Counts sandboxes that come and go.
    clock: u64,
}

/// A sandbox that lives.
#[derive(Clone, Debug)]
struct Live {
    trees: Arc<[Place]>,
    /// When it was told of first.
    since: u64,
}

impl WritableTrees {
    /// Says what a sandbox can write, in place of what was said before.
    pub fn set(&mut self, sandbox_id: u32, trees: Vec<Place>) {
        self.clock += 1;
        let before = self.sandboxes.remove(&sandbox_id);
        let since = before.as_ref().map_or(self.clock, |before| before.since);
        for tree in before.iter().flat_map(|before| before.trees.iter()) {
            self.take_out(tree);
        }
        for tree in &trees {
            self.put_in(tree);
        }
        let trees = trees.into();
        self.sandboxes.insert(sandbox_id, Live { trees, since });
    }

    /// Forgets a sandbox that is no more.
    pub fn remove(&mut self, sandbox_id: u32) {
        let Some(gone) = self.sandboxes.remove(&sandbox_id) else {
            return;
        };
        self.clock += 1;
        for tree in gone.trees.iter() {
            self.take_out(tree);
            self.past.insert(tree.clone(), self.clock);
        }
        match self.sandboxes.values().map(|live| live.since).min() {
            Some(oldest) => self.past.retain(|_, ended| *ended > oldest),
            None => self.past.clear(),
        }
    }

    /// What live sandboxes can write, and what those could that ended before them: a descriptor can
    /// be handed on.
    #[must_use]
    pub fn with_past(&self) -> Self {
        let mut all = self.clone();
        for tree in self.past.keys() {
            all.put_in(tree);
        }
        all
    }

    /// Whether some sandbox can write what lies here, by this name.
    #[must_use]
    pub fn covers(&self, place: &Place) -> bool {
        let roots = self.index.get(&place.dev);
        roots.is_some_and(|roots| {
            // The empty path is the root of every tree and no path's ancestor.
            let mut above = place.path.ancestors().chain([Path::new("")]);
            above.any(|path| roots.contains_key(path))
        })
    }

    /// Whether some sandbox can write in this tree: all of it or something in it.
    #[must_use]
    pub fn overlaps(&self, tree: &Place) -> bool {
        let first_inside = self.index.get(&tree.dev).and_then(|roots| {
            let from = (Bound::Included(tree.path.as_path()), Bound::Unbounded);
            roots.range::<Path, _>(from).next().map(|(root, _)| root)
        });
        first_inside.is_some_and(|root| root.starts_with(&tree.path)) || self.covers(tree)
    }

    /// Whether some sandbox can write anything on this file system. For a file with more than one
    /// name (hard links) this is the question: another name may lie in a writable tree.
    #[must_use]
    pub fn any_on(&self, dev: Dev) -> bool {
        self.index.contains_key(&dev)
    }

    fn put_in(&mut self, tree: &Place) {
        let roots = Arc::make_mut(self.index.entry(tree.dev).or_default());
        if let Some(count) = roots.get_mut(&tree.path) {
            *count = count.saturating_add(1);
        } else {
            roots.insert(tree.path.clone(), 1);
        }
    }

    fn take_out(&mut self, tree: &Place) {
        let Some(shared) = self.index.get_mut(&tree.dev) else {
            return;
        };
        let roots = Arc::make_mut(shared);
        if let Some(count) = roots.get_mut(&tree.path) {
            *count -= 1;
            if *count == 0 {
                roots.remove(&tree.path);
            }
        }
        if roots.is_empty() {
            self.index.remove(&tree.dev);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashSet},
        path::PathBuf,
    };

    use proptest::prelude::*;

    use super::{Dev, Place, WritableTrees};

    /// Looks at every tree of every sandbox, and remembers of each that ended who lived then.
    #[derive(Default)]
    struct Scan {
        trees: BTreeMap<u32, Vec<Place>>,
        past: Vec<(Vec<Place>, HashSet<u32>)>,
    }

    impl Scan {
        fn remove(&mut self, id: u32) {
            for (_, witnesses) in &mut self.past {
                witnesses.remove(&id);
            }
            if let Some(trees) = self.trees.remove(&id) {
                self.past
                    .push((trees, self.trees.keys().copied().collect()));
            }
            self.past.retain(|(_, witnesses)| !witnesses.is_empty());
        }

        fn all(&self, with_past: bool) -> Vec<&Place> {
            let past = self.past.iter().filter(|_| with_past);
            let past = past.flat_map(|(trees, _)| trees);
            self.trees.values().flatten().chain(past).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, Vec<Place>),
        Remove(u32),
    }

    fn places() -> impl Strategy<Value = Place> {
        // Names that begin with one another, one that sorts before the slash, and paths in other
        // spellings or of no file system with paths.
        let path = prop_oneof![
            8 => prop::collection::vec(prop::sample::select(vec!["a", "ab", "a-b"]), 0..4)
                .prop_map(|names| format!("/{}", names.join("/"))),
            1 => prop::sample::select(vec!["", "a", "a/b", "/a/", "/a/./b", "/a/..", "//a", "net:[4]"])
                .prop_map(str::to_owned),
        ];
        (0..2_u32, path).prop_map(|(minor, path)| Place {
            dev: Dev { major: 8, minor },
            path: PathBuf::from(path),
        })
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let id = 1..5_u32;
        let step = prop_oneof![
            3 => (id.clone(), prop::collection::vec(places(), 0..4)).prop_map(|(id, trees)| Step::Set(id, trees)),
            2 => id.prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 1..24)
    }

    proptest! {
        #[test]
        fn answers_are_those_of_a_scan_of_all_trees(steps in steps(), asked in prop::collection::vec(places(), 8)) {
            let (mut trees, mut scan) = (WritableTrees::default(), Scan::default());
            for step in steps {
                match step {
                    Step::Set(id, places) => {
                        trees.set(id, places.clone());
                        scan.trees.insert(id, places);
                    }
                    Step::Remove(id) => {
                        trees.remove(id);
                        scan.remove(id);
                    }
                }
                // A copy must not change with what it was made of.
                let copy = trees.clone();
                for (trees, all) in [(&trees, scan.all(false)), (&trees.with_past(), scan.all(true)), (&copy, scan.all(false))] {
                    for place in &asked {
                        prop_assert_eq!(trees.covers(place), all.iter().any(|tree| tree.contains(place)));
                        let overlaps = |tree: &&Place| tree.contains(place) || place.contains(tree);
                        prop_assert_eq!(trees.overlaps(place), all.iter().any(overlaps));
                        prop_assert_eq!(trees.any_on(place.dev), all.iter().any(|tree| tree.dev == place.dev));
                    }
                }
            }
        }
    }

    #[test]
    fn past_does_not_grow_with_sandboxes_that_come_and_go() {
        let mut trees = WritableTrees::default();
        let place = |path: &str| Place {
            dev: Dev { major: 8, minor: 1 },
            path: PathBuf::from(path),
        };
        trees.set(1, vec![place("/long")]);
        for id in 2..200 {
            trees.set(id, vec![place("/a"), place("/b")]);
            trees.remove(id);
        }
        assert!(trees.with_past().covers(&place("/a")) && !trees.covers(&place("/a")));
        assert_eq!(trees.past.len(), 2);
        trees.remove(1);
        assert!(trees.past.is_empty() && trees.index.is_empty());
    }
}
