//! Tests of the book over tables in memory.

mod denied;
mod room;
mod sequences;

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clawd_common::{
    decide::{GrantMask, MaskValue},
    record::FileKey,
    verdict::Reason,
};
use clawd_policy::PathPattern;

use super::{Basis, Book, Capacity, Exec};
use crate::{
    entries::{Alias, Entry, Matcher},
    mounts::{Dev, Place},
    pins::Pins,
    protocol::Notice,
    tests::{Memory, Table},
};

const ROOMY: Capacity = Capacity {
    files: 1000,
    chains: 1000,
    keys: 1000,
};

const DEV: Dev = Dev { major: 8, minor: 1 };

/// One exec, the tables as the kernel would have them afterwards included.
#[derive(Clone, Debug)]
struct Run {
    sandbox_id: u32,
    tgid: u32,
    path: String,
    content: u8,
    linked: bool,
    leased: bool,
    is_path_trusted: bool,
    /// Of the file's change time.
    version: u32,
}

fn run(tgid: u32, path: &str, content: u8) -> Run {
    Run {
        sandbox_id: 1,
        tgid,
        path: path.to_owned(),
        content,
        linked: false,
        leased: false,
        is_path_trusted: true,
        version: 0,
    }
}

impl Run {
    fn leased(self) -> Self {
        Self {
            leased: true,
            ..self
        }
    }

    fn of(self, sandbox_id: u32) -> Self {
        Self { sandbox_id, ..self }
    }

    fn key(&self) -> FileKey {
        let mut hasher = DefaultHasher::new();
        (&self.path, self.content).hash(&mut hasher);
        FileKey {
            ino: hasher.finish(),
            ctime_nsec: self.version,
            ..FileKey::ZERO
        }
    }

    fn basis(&self) -> Basis {
        if self.leased {
            return Basis::Leased { lease: 1 };
        }
        Basis::ReadOnly {
            place: place(&self.path),
            linked: self.linked,
        }
    }
}

fn sha256(content: u8) -> [u8; 32] {
    [content; 32]
}

fn place(path: &str) -> Place {
    Place {
        dev: DEV,
        path: PathBuf::from(path),
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

fn path_entry(path: &str) -> Entry {
    entry(Matcher::Path(PathBuf::from(path)))
}

fn pattern_entry(pattern: &str) -> Entry {
    entry(Matcher::Pattern(
        PathPattern::parse(pattern).expect("a pattern"),
    ))
}

fn content_entry(content: u8) -> Entry {
    entry(Matcher::Sha256(sha256(content)))
}

fn descendants(entry: Entry) -> Entry {
    Entry {
        descendants: true,
        ..entry
    }
}

fn bits(indices: &[usize]) -> GrantMask {
    let mut mask = GrantMask::ZERO;
    indices.iter().for_each(|index| mask.insert(*index));
    mask
}

struct Rig {
    memory: Memory,
    capacity: Capacity,
    book: Book,
    folder: tempfile::TempDir,
}

impl Rig {
    fn new(capacity: Capacity) -> Self {
        let memory = Memory::default();
        let folder = tempfile::tempdir().expect("folder");
        let book = open(&memory, capacity, folder.path());
        Self {
            memory,
            capacity,
            book,
            folder,
        }
    }

    /// With sandbox 1 under policy 1.
    fn with_policy(entries: &[Entry]) -> Self {
        let mut rig = Self::new(ROOMY);
        rig.book.add_sandbox(1, "box-1");
        rig.load(1, 1, entries);
        rig
    }

    fn load(&mut self, policy_id: u32, sandbox_id: u32, entries: &[Entry]) {
        let loaded = self
            .book
            .load(policy_id, sandbox_id, entries.into(), Vec::new());
        loaded.expect("room");
    }

    /// The gate's part of an exec.
    fn judge(&mut self, run: &Run, links: &[Alias]) -> Result<(), Reason> {
        let exec = Exec {
            sandbox_id: run.sandbox_id,
            tgid: run.tgid,
            key: run.key(),
            sha256: sha256(run.content),
            path: Path::new(&run.path),
            basis: run.basis(),
            is_path_trusted: run.is_path_trusted,
        };
        self.book.exec(&exec, links)
    }

    /// The gate's part, then the kernel's; returns the line.
    fn exec(&mut self, run: &Run) -> u32 {
        self.judge(run, &[]).expect("room");
        self.kernel_exec(run)
    }

    fn kernel_exec(&self, run: &Run) -> u32 {
        let mut maps = self.memory.maps();
        maps.exec(run.tgid, run.sandbox_id, run.key())
    }

    fn mask(&self, policy_id: u32, chain: u32) -> MaskValue {
        self.memory.maps().mask(policy_id, chain)
    }

    /// A gate that takes up what the one before left.
    fn restart(&mut self) {
        self.book = open(&self.memory, self.capacity, self.folder.path());
    }

    /// Everything was used last a minute ago, and room may be made again.
    fn age(&mut self) {
        let minute_ago = Instant::now() - Duration::from_secs(60);
        let (chains, files) = {
            let maps = self.memory.maps();
            (maps.chain.clone(), maps.file.clone())
        };
        for key in chains.keys() {
            if self.book.chains.is_known(*key) {
                let step = self.book.chains.step(*key, minute_ago);
                assert!(step.is_some_and(|step| !step.new_step));
            }
        }
        for file in files.values() {
            self.book.files.number(&file.sha256, minute_ago);
        }
        self.book.evicted = None;
    }

    fn evict_all(&mut self) {
        self.age();
        self.book.evict();
    }

    fn pin_of(&self, path: &str) -> Option<[u8; 32]> {
        self.book.pins.get(Path::new(path)).map(|pin| pin.sha256)
    }
}

fn open(memory: &Memory, capacity: Capacity, folder: &Path) -> Book {
    let pins = Pins::open(folder.join("pins.json")).expect("pins");
    Book::new(memory.boxed(), capacity, pins)
}

#[test]
fn exec_writes_what_it_grants_before_the_identity() {
    let mut rig = Rig::with_policy(&[content_entry(1)]);
    rig.judge(&run(10, "/a", 1), &[]).expect("room");
    let want = [
        Table::File,
        Table::Lineage,
        Table::Mask,
        Table::Chain,
        Table::Identity,
        Table::Seen,
    ];
    assert_eq!(rig.memory.maps().written, want);
    // A line that is known already, under a policy that has no mask for it.
    rig.book.add_sandbox(2, "box-2");
    rig.load(2, 2, &[content_entry(1)]);
    rig.memory.maps().written.clear();
    rig.judge(&run(20, "/b", 1).of(2).leased(), &[])
        .expect("room");
    let want = [Table::Mask, Table::Leased, Table::Seen];
    assert_eq!(rig.memory.maps().written, want);
}

#[test]
fn exec_of_a_known_file_writes_nothing() {
    let mut rig = Rig::with_policy(&[path_entry("/a")]);
    let chain = rig.exec(&run(10, "/a", 1));
    rig.memory.maps().written.clear();
    assert_eq!(rig.exec(&run(11, "/a", 1)), chain);
    assert_eq!(rig.memory.maps().written, []);
}

#[test]
fn exec_of_a_loader_has_no_identity_and_loses_one() {
    let mut rig = Rig::with_policy(&[content_entry(1)]);
    rig.exec(&run(10, "/a", 1));
    rig.book.add_loader(sha256(1));
    assert!(rig.memory.maps().identity.is_empty());
    for run in [run(10, "/a", 1), run(11, "/b", 1).leased()] {
        assert_eq!(rig.judge(&run, &[]), Err(Reason::Loader));
        assert_eq!(rig.kernel_exec(&run), 0);
    }
}

#[test]
fn descendants_of_a_listed_program_are_granted_by_lineage_alone() {
    let entries = [descendants(path_entry("/a")), path_entry("/a")];
    let mut rig = Rig::with_policy(&entries);
    let chain = rig.exec(&run(10, "/a", 1));
    assert_eq!(rig.mask(1, chain).own, bits(&[0, 1]));
    rig.memory.maps().fork(10, 11);
    let chain = rig.exec(&run(11, "/b", 2));
    let want = MaskValue {
        lineage: bits(&[0]),
        ..MaskValue::ZERO
    };
    assert_eq!(rig.mask(1, chain), want);
}

#[test]
fn the_line_of_another_sandbox_says_nothing() {
    let mut rig = Rig::with_policy(&[descendants(content_entry(1))]);
    rig.book.add_sandbox(2, "box-2");
    rig.load(2, 2, &[descendants(content_entry(1))]);
    rig.exec(&run(10, "/a", 1));
    // The number of a process that is gone is used again in another sandbox.
    let chain = rig.exec(&run(10, "/b", 2).of(2));
    assert_eq!(rig.memory.maps().line(chain), [sha256(2)]);
    assert!(rig.mask(2, chain).is_empty());
}

#[test]
fn a_second_content_at_a_pinned_path_is_changed_and_never_own() {
    let mut rig = Rig::with_policy(&[pattern_entry("/bin/*"), path_entry("/bin/a")]);
    rig.exec(&run(10, "/bin/a", 1));
    rig.book.take_notices();
    let chain = rig.exec(&run(11, "/bin/a", 2));
    let want = MaskValue {
        changed: bits(&[0, 1]),
        ..MaskValue::ZERO
    };
    assert_eq!(rig.mask(1, chain), want);
    assert_eq!(rig.pin_of("/bin/a"), Some(sha256(1)));
    let changed =
        |notice: &Notice| matches!(notice, Notice::Changed { found, .. } if *found == sha256(2));
    assert_eq!(
        rig.book
            .take_notices()
            .iter()
            .filter(|n| changed(n))
            .count(),
        2
    );
    let changed = rig.memory.maps().changed.values().copied().next();
    assert_eq!(changed, Some(sha256(1)));
}

#[test]
fn a_changed_file_stays_changed_when_a_copy_runs_elsewhere() {
    let mut rig = Rig::with_policy(&[path_entry("/bin/a")]);
    rig.exec(&run(10, "/bin/a", 1));
    rig.exec(&run(11, "/bin/a", 2));
    rig.exec(&run(12, "/elsewhere", 2));
    let chain = rig.exec(&run(13, "/bin/a", 2));
    assert_eq!(rig.mask(1, chain).changed, bits(&[0]));
}

#[test]
fn a_file_that_a_sandbox_may_write_is_never_pinned_and_matches_what_is() {
    let mut rig = Rig::with_policy(&[path_entry("/a"), content_entry(2)]);
    let chain = rig.exec(&run(10, "/a", 2).leased());
    assert_eq!(rig.pin_of("/a"), None);
    assert_eq!(rig.mask(1, chain).own, bits(&[1]));
    assert!(rig.memory.maps().identity.is_empty());
    rig.exec(&run(11, "/a", 1));
    assert_eq!(rig.pin_of("/a"), Some(sha256(1)));
    let chain = rig.exec(&run(12, "/b", 1).leased());
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
}

#[test]
fn a_file_that_no_sandbox_may_write_any_more_is_pinned_at_its_next_exec() {
    let mut rig = Rig::with_policy(&[pattern_entry("/bin/*")]);
    rig.exec(&run(10, "/bin/a", 1).leased());
    let chain = rig.exec(&run(11, "/bin/a", 1));
    assert_eq!(rig.pin_of("/bin/a"), Some(sha256(1)));
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
}

#[test]
fn a_writable_file_that_ran_before_its_path_was_pinned_is_changed_afterwards() {
    let mut rig = Rig::with_policy(&[pattern_entry("/bin/*")]);
    rig.exec(&run(10, "/bin/a", 2).leased());
    rig.exec(&run(11, "/bin/a", 1));
    let chain = rig.exec(&run(12, "/bin/a", 2).leased());
    assert_eq!(rig.mask(1, chain).changed, bits(&[0]));
}

#[test]
fn a_path_is_pinned_once_the_pins_can_be_written_again() {
    let mut rig = Rig::with_policy(&[path_entry("/a")]);
    let away = rig.folder.path().with_extension("away");
    std::fs::rename(rig.folder.path(), &away).expect("renamed");
    let chain = rig.exec(&run(10, "/a", 1));
    assert!(rig.mask(1, chain).is_empty() && rig.pin_of("/a").is_none());
    std::fs::rename(&away, rig.folder.path()).expect("renamed");
    let chain = rig.exec(&run(11, "/a", 1));
    assert_eq!(rig.pin_of("/a"), Some(sha256(1)));
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
}

#[test]
fn links_of_entries_pin_the_path_that_the_policy_names() {
    let mut rig = Rig::with_policy(&[path_entry("/bin/python")]);
    let link = Alias {
        entry: 0,
        named: PathBuf::from("/bin/python"),
        resolved: PathBuf::from("/bin/python3"),
        is_trusted: true,
    };
    let links = std::slice::from_ref(&link);
    rig.judge(&run(10, "/bin/python3", 1), links).expect("room");
    assert_eq!(rig.pin_of("/bin/python"), Some(sha256(1)));
    assert_eq!(rig.pin_of("/bin/python3"), None);
    rig.judge(&run(11, "/bin/python3", 2), links).expect("room");
    let chain = rig.kernel_exec(&run(11, "/bin/python3", 2));
    assert_eq!(rig.mask(1, chain).changed, bits(&[0]));
}

#[test]
fn a_link_that_a_sandbox_may_have_made_pins_nothing_and_tells_of_a_change() {
    let mut rig = Rig::with_policy(&[path_entry("/link")]);
    let link = |is_trusted| {
        [Alias {
            entry: 0,
            named: PathBuf::from("/link"),
            resolved: PathBuf::from("/a"),
            is_trusted,
        }]
    };
    rig.judge(&run(10, "/a", 1), &link(false)).expect("room");
    assert_eq!(rig.pin_of("/link"), None);
    rig.judge(&run(11, "/a", 2), &link(true)).expect("room");
    assert_eq!(rig.pin_of("/link"), Some(sha256(2)));
    rig.judge(&run(12, "/a", 3), &link(false)).expect("room");
    let chain = rig.kernel_exec(&run(12, "/a", 3));
    assert_eq!(rig.mask(1, chain).changed, bits(&[0]));
}

#[test]
fn forget_pins_leaves_no_grant_that_the_pin_alone_explained() {
    let entries = [descendants(path_entry("/a")), content_entry(1)];
    let mut rig = Rig::with_policy(&entries);
    let own = rig.exec(&run(10, "/a", 1));
    let child = rig.exec(&run(10, "/b", 2));
    let changed = rig.exec(&run(11, "/a", 3));
    let forgotten = rig
        .book
        .forget_pins(&[PathBuf::from("/a")])
        .expect("written");
    assert_eq!(forgotten.len(), 1);
    assert_eq!(rig.mask(1, own).own, bits(&[1]));
    assert!(rig.mask(1, child).is_empty() && rig.mask(1, changed).is_empty());
    // The next use pins what is there then.
    let again = rig.exec(&run(12, "/a", 3));
    assert_eq!(rig.mask(1, again).own, bits(&[0]));
}

#[test]
fn set_writable_takes_back_every_identity_that_may_be_in_the_trees() {
    let mut rig = Rig::with_policy(&[]);
    let linked = Run {
        linked: true,
        ..run(12, "/elsewhere/hard-link", 3)
    };
    rig.exec(&run(10, "/tree/a", 1));
    rig.exec(&run(11, "/tree-too/a", 2));
    rig.exec(&linked);
    rig.book.set_writable(9, vec![place("/tree")]);
    let left: Vec<FileKey> = rig.memory.maps().identity.keys().copied().collect();
    assert_eq!(left, [run(11, "/tree-too/a", 2).key()]);
    // What a gate before hashed may be anywhere.
    rig.restart();
    rig.book.set_writable(9, vec![place("/tree")]);
    assert!(rig.memory.maps().identity.is_empty());
}

#[test]
fn a_file_that_a_sandbox_can_write_by_now_is_not_published() {
    let mut rig = Rig::with_policy(&[content_entry(1)]);
    let linked = Run {
        linked: true,
        ..run(12, "/elsewhere/hard-link", 1)
    };
    // Found out before the hash; a sandbox came while it was taken.
    rig.book.set_writable(9, vec![place("/tree")]);
    for program in [run(10, "/tree/a", 1), linked] {
        assert_eq!(rig.judge(&program, &[]), Err(Reason::WritableMount));
        assert_eq!(rig.kernel_exec(&program), 0);
    }
    rig.book.remember(
        run(10, "/tree/a", 1).key(),
        sha256(1),
        place("/tree/a"),
        false,
    );
    assert_eq!(rig.book.hash_of(&run(10, "/tree/a", 1).key()), None);
    assert!(rig.memory.maps().identity.is_empty());
    rig.book.clear_writable(9);
    assert_ne!(rig.exec(&run(10, "/tree/a", 1)), 0);
}

#[test]
fn a_path_that_a_sandbox_may_have_made_is_not_pinned() {
    let mut rig = Rig::with_policy(&[path_entry("/a")]);
    let program = Run {
        is_path_trusted: false,
        ..run(10, "/a", 1)
    };
    let chain = rig.exec(&program);
    assert!(rig.mask(1, chain).is_empty() && rig.pin_of("/a").is_none());
}

#[test]
fn load_covers_what_already_runs_and_retire_leaves_nothing() {
    let mut rig = Rig::with_policy(&[]);
    let chain = rig.exec(&run(10, "/a", 1));
    rig.load(2, 1, &[content_entry(1)]);
    assert_eq!(rig.mask(2, chain).own, bits(&[0]));
    rig.book.retire(2);
    assert!(rig.memory.maps().mask.is_empty());
    let chain = rig.exec(&run(11, "/a", 1));
    assert!(rig.mask(2, chain).is_empty());
}

#[test]
fn remove_sandbox_leaves_no_mask() {
    let mut rig = Rig::with_policy(&[content_entry(1)]);
    rig.exec(&run(10, "/a", 1));
    rig.load(2, 1, &[content_entry(1)]);
    rig.memory.maps().exit(10);
    rig.book.remove_sandbox(1);
    assert!(rig.memory.maps().mask.is_empty());
}

#[test]
fn restore_and_load_give_the_same_masks_to_the_same_lines() {
    let entries = [
        descendants(path_entry("/a")),
        content_entry(2),
        pattern_entry("/bin/*"),
    ];
    let mut rig = Rig::with_policy(&entries);
    rig.exec(&run(10, "/a", 1));
    rig.exec(&run(10, "/b", 2));
    rig.exec(&run(11, "/bin/c", 3));
    let before = rig.memory.maps().mask.clone();
    assert_eq!(before.len(), 3);
    rig.restart();
    rig.book.add_sandbox(1, "box-1");
    rig.load(1, 1, &entries);
    assert_eq!(rig.memory.maps().mask, before);
    // The same programs have the same lines.
    let chain = rig.exec(&run(12, "/a", 1));
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
    assert_eq!(rig.memory.maps().mask, before);
}

#[test]
fn load_after_a_restart_covers_lines_that_processes_were_known_to_have() {
    let mut rig = Rig::with_policy(&[]);
    let chain = rig.exec(&run(10, "/a", 1));
    rig.book.add_sandbox(2, "box-2");
    rig.load(2, 2, &[]);
    let other = rig.exec(&run(11, "/b", 2).of(2));
    rig.restart();
    // Asked once for all sandboxes, before the policy of any is loaded.
    let mut lines = rig.book.lines_of_processes();
    for (sandbox_id, entries) in [(1, [content_entry(1)]), (2, [content_entry(2)])] {
        rig.book.add_sandbox(sandbox_id, "box");
        let of_sandbox = lines.remove(&sandbox_id).expect("has a process");
        rig.book.know_lines(sandbox_id, of_sandbox);
        rig.load(sandbox_id, sandbox_id, &entries);
    }
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
    assert_eq!(rig.mask(2, other).own, bits(&[0]));
    assert!(rig.mask(1, other).is_empty() && rig.mask(2, chain).is_empty());
}

#[test]
fn push_covers_lines_that_processes_have_by_then() {
    let mut rig = Rig::with_policy(&[]);
    let chain = rig.exec(&run(10, "/a", 1));
    rig.restart();
    rig.book.add_sandbox(1, "box");
    rig.book.know_lines(1, HashSet::new());
    rig.load(1, 1, &[]);
    rig.load(2, 1, &[content_entry(1)]);
    assert_eq!(rig.mask(2, chain).own, bits(&[0]));
}

#[test]
fn load_takes_back_what_a_gate_before_granted_and_no_process_uses() {
    let mut rig = Rig::with_policy(&[content_entry(1)]);
    let chain = rig.exec(&run(10, "/a", 1));
    rig.memory.maps().exit(10);
    rig.restart();
    rig.book.add_sandbox(1, "box");
    rig.book.know_lines(1, HashSet::new());
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
    rig.load(1, 1, &[content_entry(2)]);
    assert!(rig.mask(1, chain).is_empty());
    assert!(rig.memory.maps().mask.is_empty());
}
