//! A tree with links that try to leave it.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::symlink},
    path::{Path, PathBuf},
};

use clawd_policy::PathPattern;
use proptest::prelude::*;

use super::{Expansion, Trusted, Walk, expand, links_to, open_below, path_of, reopen};
use crate::{
    entries::{Alias, Entry, Matcher},
    mounts::{Mount, Place, View, WritableTrees},
};

/// A root with a secret beside it.
struct Tree {
    _dir: tempfile::TempDir,
    root: PathBuf,
    /// This process's view, as if all of it were read-only.
    view: View,
    trees: WritableTrees,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let top = dir.path().canonicalize().expect("a path");
        let root = top.join("root");
        for folder in ["bin", "usr/bin", "opt/v1", "opt/v2"] {
            fs::create_dir_all(root.join(folder)).expect("made");
        }
        fs::write(top.join("secret"), "outside").expect("written");
        for file in ["bin/tool", "usr/bin/python3", "opt/v1/run", "opt/v2/other"] {
            fs::write(root.join(file), file).expect("written");
        }
        let links = [
            ("bin/relative", "../usr/bin/python3"),
            ("bin/absolute", "/usr/bin/python3"),
            ("bin/chain", "relative"),
            ("bin/out", "../../secret"),
            ("bin/far-out", "../../../../../../../../etc/passwd"),
            ("bin/host", "/etc/passwd"),
            ("bin/back", "../../root/bin/tool"),
            ("bin/loop", "loop"),
            ("bin/proc", "/proc/self/root/etc/passwd"),
            ("opt/current", "v1"),
            ("up", ".."),
            ("slash", "/"),
        ];
        for (name, target) in links {
            symlink(target, root.join(name)).expect("linked");
        }
        let view = View::read(std::process::id()).expect("mounts");
        let mounts = view.mounts().cloned().map(|mount| Mount {
            read_only: true,
            ..mount
        });
        Self {
            _dir: dir,
            root,
            view: View::from_mounts(mounts.collect()),
            trees: WritableTrees::default(),
        }
    }

    fn open(&self) -> File {
        File::open(&self.root).expect("opens")
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// From here on a sandbox can write this folder.
    fn give_away(&mut self, below: &str) {
        let path = self.path(below);
        let mount = self.view.topmost(&path).expect("a mount");
        let place: Place = mount.place_of(&path).expect("a place");
        self.trees.set(1, vec![place]);
    }

    fn with<R>(&self, what: impl FnOnce(&Trusted<'_>) -> R) -> R {
        let root = self.open();
        what(&Trusted {
            root: root.as_fd(),
            view: &self.view,
            trees: &self.trees,
        })
    }

    fn target(&self, path: &str) -> Option<PathBuf> {
        self.with(|trusted| trusted.target(Path::new(path)))
    }

    fn expand(&self, entries: &[Entry]) -> Expansion {
        self.with(|trusted| expand(trusted, entries))
    }

    fn links_to(&self, entries: &[Entry], path: &Path) -> Vec<Alias> {
        self.with(|trusted| links_to(trusted, entries, path))
    }
}

fn entry(matcher: Matcher) -> Entry {
    Entry {
        label: "rule".to_owned(),
        matcher,
        descendants: false,
        denies: false,
    }
}

fn patterns(texts: &[&str]) -> Vec<Entry> {
    let parse = |text: &&str| PathPattern::parse(text).expect("a pattern");
    let matchers = texts.iter().map(parse).map(Matcher::Pattern);
    matchers.map(entry).collect()
}

#[test]
fn links_lead_where_they_lead_in_the_sandbox() {
    let tree = Tree::new();
    let root = tree.open();
    let cases = [
        ("/bin/tool", Some("bin/tool")),
        ("bin/tool", Some("bin/tool")),
        ("/bin/relative", Some("usr/bin/python3")),
        ("/bin/absolute", Some("usr/bin/python3")),
        ("/bin/chain", Some("usr/bin/python3")),
        ("/opt/current/run", Some("opt/v1/run")),
        ("/up/bin/tool", Some("bin/tool")),
        ("/slash/up/../bin/tool", Some("bin/tool")),
        ("/../../bin/tool", Some("bin/tool")),
        // What is outside is not there.
        ("/bin/out", None),
        ("/bin/far-out", None),
        ("/bin/host", None),
        ("/bin/back", None),
        ("/bin/loop", None),
        ("/bin/proc", None),
        ("/up/secret", None),
        ("/bin/gone", None),
        ("/bin/tool/x", None),
    ];
    for (path, want) in cases {
        let want = want.map(|below| tree.path(below));
        assert_eq!(tree.target(path), want, "{path}");
        // As the kernel does, but for what it calls magic.
        let opened = open_below(root.as_fd(), Path::new(path)).ok();
        let opened = opened.map(|file| path_of(file.as_fd()).expect("a path"));
        assert_eq!(opened, want, "{path}");
    }
}

#[test]
fn a_link_out_of_the_root_finds_what_is_there_inside() {
    let tree = Tree::new();
    fs::create_dir(tree.path("etc")).expect("made");
    fs::write(tree.path("etc/passwd"), "inside").expect("written");
    fs::write(tree.path("secret"), "inside").expect("written");
    let root = tree.open();
    for path in ["/bin/out", "/bin/far-out", "/bin/host"] {
        let place = open_below(root.as_fd(), Path::new(path)).expect("opens");
        let text = std::io::read_to_string(reopen(place.as_fd()).expect("reads"));
        assert_eq!(text.expect("text"), "inside", "{path}");
    }
}

#[test]
fn magic_links_are_not_followed() {
    let root = File::open("/").expect("opens");
    let exe = open_below(root.as_fd(), Path::new("/proc/self/exe"));
    assert!(exe.is_err());
}

#[test]
fn links_to_finds_the_entries_that_lead_there_now() {
    let tree = Tree::new();
    let paths = [
        "/bin/tool",
        "/bin/relative",
        "/bin/absolute",
        "/bin/out",
        "/bin/gone",
    ];
    let mut entries = patterns(&["/bin/*"]);
    entries.extend(paths.map(|path| entry(Matcher::Path(PathBuf::from(path)))));
    let python = tree.path("usr/bin/python3");
    let found = tree.links_to(&entries, &python);
    let named: Vec<_> = found.iter().map(|a| (a.entry, a.named.clone())).collect();
    let want = [(2, "/bin/relative"), (3, "/bin/absolute")];
    assert_eq!(named, want.map(|(n, path)| (n, PathBuf::from(path))));
    assert!(
        found
            .iter()
            .all(|alias| alias.resolved == python && alias.is_trusted)
    );
    assert_eq!(tree.links_to(&entries, Path::new("/etc/passwd")), []);
}

#[test]
fn expand_finds_the_links_that_patterns_match() {
    let tree = Tree::new();
    let entries = patterns(&[
        "/bin/*",
        "/opt/*/run",
        "/usr/lib/*",
        "/opt/v3/x*",
        "/opt/**/run",
    ]);
    let found = tree.expand(&entries);
    assert_eq!(found.unmatched, [2, 3]);
    assert!(!found.is_cut);
    let leads = |entry: usize, named: &str, to: &str| {
        let alias = found
            .aliases
            .iter()
            .find(|alias| alias.entry == entry && alias.named == Path::new(named));
        assert_eq!(
            alias.map(|alias| alias.resolved.clone()),
            Some(tree.path(to)),
            "{named}"
        );
    };
    leads(0, "/bin/relative", "usr/bin/python3");
    leads(0, "/bin/absolute", "usr/bin/python3");
    leads(0, "/bin/chain", "usr/bin/python3");
    leads(1, "/opt/current/run", "opt/v1/run");
    assert!(found.aliases.iter().all(|alias| alias.entry < 2));
    let inside = |alias: &Alias| alias.resolved.starts_with(&tree.root);
    assert!(found.aliases.iter().all(inside));
}

#[test]
fn expand_does_not_list_folders_outside_the_root() {
    let tree = Tree::new();
    symlink("../..", tree.path("opt/outside")).expect("linked");
    symlink("/../..", tree.path("opt/above")).expect("linked");
    let found = tree.expand(&patterns(&["/opt/outside/secre*", "/opt/above/secre*"]));
    assert_eq!(found.unmatched, [0, 1]);
}

#[test]
fn a_walk_looks_at_no_more_names_than_it_may() {
    let tree = Tree::new();
    for n in 0..20 {
        fs::write(tree.path(&format!("usr/bin/{n}")), "").expect("written");
    }
    let pattern = PathPattern::parse("/usr/bin/*").expect("a pattern");
    for names in [0, 5, 100] {
        let (found, left) = tree.with(|trusted| {
            let mut walk = Walk {
                trusted,
                names_left: names,
                found: Vec::new(),
            };
            walk.pattern(&pattern);
            (walk.found.len(), walk.names_left)
        });
        assert_eq!(found, names.min(21), "{names}");
        assert_eq!(left, names.saturating_sub(21));
    }
}

#[test]
fn what_a_sandbox_can_write_leads_nowhere() {
    let mut tree = Tree::new();
    tree.give_away("bin");
    // The names in the folder are the sandbox's, wherever they lead.
    for path in [
        "/bin/relative",
        "/bin/absolute",
        "/bin/tool",
        "/up/bin/chain",
    ] {
        assert_eq!(tree.target(path), None, "{path}");
    }
    assert!(tree.target("/usr/bin/python3").is_some());
    assert!(tree.target("/opt/current/run").is_some());
    let found = tree.expand(&patterns(&["/bin/*", "/opt/*/run"]));
    assert!(found.aliases.iter().all(|alias| alias.entry == 1));
    assert!(!found.aliases.is_empty());
    let python = tree.path("usr/bin/python3");
    let entries = [entry(Matcher::Path(PathBuf::from("/bin/relative")))];
    let links = tree.links_to(&entries, &python);
    // It is told of, and grants nothing.
    assert_eq!(links.len(), 1);
    assert!(!links[0].is_trusted);
}

#[test]
fn path_of_a_file_without_a_name_is_not_its_old_path() {
    let tree = Tree::new();
    let path = tree.path("bin/tool");
    let file = File::open(&path).expect("opens");
    assert_eq!(path_of(file.as_fd()).expect("a path"), path);
    fs::remove_file(&path).expect("removed");
    assert_ne!(path_of(file.as_fd()).expect("a path"), path);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_links_lead_out_of_the_root(
        targets in proptest::collection::vec("(/|\\.\\./|a/|b/|c/|\\./){1,6}(a|b|c|secret|\\.\\.)", 3),
        path in "/(a|b|c|\\.\\.)(/(a|b|c|\\.\\.|secret)){0,4}",
    ) {
        let tree = Tree::new();
        for (name, target) in ["a", "b", "c"].iter().zip(&targets) {
            symlink(target, tree.path(name)).expect("linked");
        }
        let target = tree.target(&path);
        if let Some(found) = &target {
            prop_assert!(found.starts_with(&tree.root), "{}", found.display());
        }
        let root = tree.open();
        let opened = open_below(root.as_fd(), Path::new(&path)).ok();
        let opened = opened.map(|file| path_of(file.as_fd()).expect("a path"));
        // The root itself is no program: it has no place among the followed names.
        prop_assert!(target == opened || opened.as_ref() == Some(&tree.root));
    }
}
