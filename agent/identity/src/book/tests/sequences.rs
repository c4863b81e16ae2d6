//! The book against a model that knows contents and paths alone: no numbers, no memory of what was
//! written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use clawd_common::{
    decide::{GrantMask, MaskValue},
    record::FileKey,
};
use proptest::prelude::*;

use super::{
    Alias, Entry, ROOMY, Rig, Run, content_entry, descendants, path_entry, pattern_entry, place,
    sha256,
};

const PATHS: [&str; 6] = ["/t0/a", "/t0/b", "/t1/a", "/t1/b", "/t2/a", "/t2/b"];
const TREES: [&str; 3] = ["/t0", "/t1", "/t2"];
const SANDBOXES: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Means {
    Content(u8),
    Path(usize),
    /// A link outside the trees that leads to the path.
    Link(usize),
    Tree(usize),
}

type Spec = (Means, bool);

#[derive(Clone, Debug)]
struct Program {
    sandbox_id: u32,
    tgid: u32,
    path: usize,
    content: u8,
    leased: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Load {
        sandbox_id: u32,
        specs: Vec<Spec>,
    },
    PinAtLoad {
        sandbox_id: u32,
        path: usize,
        content: u8,
    },
    Retire {
        sandbox_id: u32,
    },
    Exec(Program),
    Unseen(Program),
    Fork {
        parent: u32,
        child: u32,
    },
    Exit(u32),
    Forget(usize),
    Appear(usize),
    Disappear(usize),
    Remove(u32),
    Evict,
    Restart,
}

fn spec() -> impl Strategy<Value = Spec> {
    let means = prop_oneof![
        (1..5_u8).prop_map(Means::Content),
        (0..PATHS.len()).prop_map(Means::Path),
        (0..PATHS.len()).prop_map(Means::Link),
        (0..TREES.len()).prop_map(Means::Tree),
    ];
    (means, any::<bool>())
}

fn program() -> impl Strategy<Value = Program> {
    let basis = prop_oneof![4 => Just(false), 1 => Just(true)];
    (1..=SANDBOXES, 1..7_u32, 0..PATHS.len(), 1..5_u8, basis).prop_map(
        |(sandbox_id, tgid, path, content, leased)| Program {
            sandbox_id,
            // Most processes stay in their sandbox; the number of one that is gone may come again.
            tgid: tgid * SANDBOXES + if tgid == 1 { 0 } else { sandbox_id },
            path,
            content,
            leased,
        },
    )
}

fn tgid() -> impl Strategy<Value = u32> {
    3..25_u32
}

fn op() -> impl Strategy<Value = Op> {
    let sandbox = || 1..=SANDBOXES;
    prop_oneof![
        4 => (sandbox(), proptest::collection::vec(spec(), 0..5))
            .prop_map(|(sandbox_id, specs)| Op::Load { sandbox_id, specs }),
        1 => (sandbox(), 0..PATHS.len(), 1..5_u8)
            .prop_map(|(sandbox_id, path, content)| Op::PinAtLoad { sandbox_id, path, content }),
        1 => sandbox().prop_map(|sandbox_id| Op::Retire { sandbox_id }),
        16 => program().prop_map(Op::Exec),
        2 => program().prop_map(Op::Unseen),
        4 => (tgid(), tgid()).prop_map(|(parent, child)| Op::Fork { parent, child }),
        1 => tgid().prop_map(Op::Exit),
        1 => (0..PATHS.len()).prop_map(Op::Forget),
        1 => (0..TREES.len()).prop_map(Op::Appear),
        1 => (0..TREES.len()).prop_map(Op::Disappear),
        1 => sandbox().prop_map(Op::Remove),
        1 => Just(Op::Evict),
        1 => Just(Op::Restart),
    ]
}

struct Process {
    sandbox_id: u32,
    /// Contents, the running one first; empty where the process has no line.
    line: Vec<u8>,
    /// Whether the gate saw the exec, and so wrote what it grants.
    seen: bool,
}

/// What there should be, by contents and paths.
#[derive(Default)]
struct Model {
    pins: BTreeMap<PathBuf, u8>,
    policies: BTreeMap<u32, (u32, Vec<Spec>)>,
    processes: BTreeMap<u32, Process>,
    writable: BTreeSet<usize>,
    keys: HashMap<FileKey, (u8, usize)>,
    /// Paths that each content was found at.
    ran: HashMap<u8, HashSet<usize>>,
    last_policy: u32,
}

fn named(means: Means) -> Option<PathBuf> {
    match means {
        Means::Path(path) => Some(PathBuf::from(PATHS[path])),
        Means::Link(path) => Some(PathBuf::from(format!("/links/{path}"))),
        Means::Content(_) | Means::Tree(_) => None,
    }
}

/// A sandbox that can write the tree and does nothing else.
fn writer(tree: usize) -> u32 {
    100 + u32::try_from(tree).expect("small")
}

fn tree_of(path: usize) -> usize {
    path / 2
}

impl Model {
    fn means(&self, means: Means, content: u8) -> bool {
        match means {
            Means::Content(listed) => listed == content,
            Means::Path(_) | Means::Link(_) => {
                named(means).is_some_and(|path| self.pins.get(&path) == Some(&content))
            }
            Means::Tree(tree) => self.pins.iter().any(|(path, pinned)| {
                path.parent() == Some(Path::new(TREES[tree])) && *pinned == content
            }),
        }
    }

    /// The name by which an entry names a path, if it does.
    fn names(means: Means, path: usize) -> Option<PathBuf> {
        match means {
            Means::Path(listed) | Means::Link(listed) if listed == path => named(means),
            Means::Tree(tree) if tree == tree_of(path) => Some(PathBuf::from(PATHS[path])),
            _ => None,
        }
    }

    fn own_and_lineage(&self, specs: &[Spec], line: &[u8]) -> (GrantMask, GrantMask) {
        let (mut own, mut lineage) = (GrantMask::ZERO, GrantMask::ZERO);
        for (index, (means, descendants)) in specs.iter().enumerate() {
            if line
                .first()
                .is_some_and(|content| self.means(*means, *content))
            {
                own.insert(index);
            }
            let ancestors = line.get(1..).unwrap_or_default();
            if *descendants && ancestors.iter().any(|content| self.means(*means, *content)) {
                lineage.insert(index);
            }
        }
        (own, lineage)
    }

    fn changed(&self, specs: &[Spec], path: usize, content: u8) -> GrantMask {
        let mut changed = GrantMask::ZERO;
        for (index, (means, _)) in specs.iter().enumerate() {
            let pinned = Self::names(*means, path).and_then(|name| self.pins.get(&name));
            if pinned.is_some_and(|pinned| *pinned != content) {
                changed.insert(index);
            }
        }
        changed
    }

    fn policies_of(&self, sandbox_id: u32) -> Vec<(u32, Vec<Spec>)> {
        let policies = self.policies.iter();
        policies
            .filter(|(_, (of, _))| *of == sandbox_id)
            .map(|(id, (_, specs))| (*id, specs.clone()))
            .collect()
    }

    /// First use pins; a file that a sandbox may write is not pinned.
    fn pin(&mut self, program: &Program) {
        for (_, specs) in self.policies_of(program.sandbox_id) {
            let names = specs
                .iter()
                .filter_map(|(means, _)| Self::names(*means, program.path));
            for name in names {
                if !program.leased {
                    self.pins.entry(name).or_insert(program.content);
                }
            }
        }
    }

    fn extended(&self, program: &Program) -> Vec<u8> {
        let before = self.processes.get(&program.tgid);
        let before = before.filter(|process| process.sandbox_id == program.sandbox_id);
        let line = before.map_or(&[][..], |process| process.line.as_slice());
        let others = line.iter().copied().filter(|c| *c != program.content);
        std::iter::once(program.content).chain(others).collect()
    }
}

fn entries(specs: &[Spec]) -> Vec<Entry> {
    let entry = |means: &Means| match *means {
        Means::Content(content) => content_entry(content),
        Means::Tree(tree) => pattern_entry(&format!("{}/*", TREES[tree])),
        Means::Path(_) | Means::Link(_) => {
            path_entry(named(*means).expect("a path").to_str().expect("text"))
        }
    };
    specs
        .iter()
        .map(|(means, of_descendants)| match of_descendants {
            true => descendants(entry(means)),
            false => entry(means),
        })
        .collect()
}

fn aliases(specs: &[Spec]) -> Vec<Alias> {
    let links = specs.iter().enumerate().filter_map(|(index, (means, _))| {
        let Means::Link(path) = means else {
            return None;
        };
        Some(Alias {
            entry: index,
            named: named(*means)?,
            resolved: PathBuf::from(PATHS[*path]),
            is_trusted: true,
        })
    });
    links.collect()
}

struct Both {
    rig: Rig,
    model: Model,
}

impl Both {
    fn new() -> Self {
        let mut rig = Rig::new(ROOMY);
        for sandbox_id in 1..=SANDBOXES {
            rig.book.add_sandbox(sandbox_id, "box");
        }
        let model = Model::default();
        Self { rig, model }
    }

    fn load(&mut self, policy_id: u32, sandbox_id: u32, specs: &[Spec]) {
        let entries = entries(specs).into();
        let loaded = self
            .rig
            .book
            .load(policy_id, sandbox_id, entries, aliases(specs));
        loaded.expect("room");
    }

    fn run_of(program: &Program) -> Run {
        Run {
            sandbox_id: program.sandbox_id,
            tgid: program.tgid,
            path: PATHS[program.path].to_owned(),
            content: program.content,
            linked: false,
            leased: program.leased,
            is_path_trusted: true,
            // Whoever could write it has done so.
            version: u32::from(program.leased),
        }
    }

    fn exec(&mut self, mut program: Program, seen: bool) {
        // The gate's own rule: what a sandbox may write is leased.
        program.leased |= self.model.writable.contains(&tree_of(program.path));
        let run = Self::run_of(&program);
        let line = self.model.extended(&program);
        let known = (program.content, program.path);
        self.model.keys.insert(run.key(), known);
        let chain = if seen {
            self.model.pin(&program);
            self.rig.exec(&run)
        } else {
            self.rig.kernel_exec(&run)
        };
        assert!(chain != 0 || !seen, "{program:?} has no line");
        let line = if chain == 0 { Vec::new() } else { line };
        let process = Process {
            sandbox_id: program.sandbox_id,
            line,
            seen,
        };
        self.model.processes.insert(program.tgid, process);
        if seen {
            self.check_changed(&program, chain);
        }
    }

    /// Right after the exec, where the content was found at this path alone.
    fn check_changed(&mut self, program: &Program, chain: u32) {
        let ran = self.model.ran.entry(program.content).or_default();
        ran.insert(program.path);
        if ran.len() > 1 {
            return;
        }
        for (policy_id, specs) in self.model.policies_of(program.sandbox_id) {
            let want = self.model.changed(&specs, program.path, program.content);
            let found = self.rig.mask(policy_id, chain).changed;
            assert_eq!(found, want, "{program:?} under {specs:?}");
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Load { sandbox_id, specs } => {
                self.model.last_policy += 1;
                let policy_id = self.model.last_policy;
                self.load(policy_id, sandbox_id, &specs);
                self.model.policies.insert(policy_id, (sandbox_id, specs));
            }
            Op::PinAtLoad {
                sandbox_id,
                path,
                content,
            } => {
                let at = PathBuf::from(PATHS[path]);
                self.model.ran.entry(content).or_default().insert(path);
                let pinned = self
                    .rig
                    .book
                    .pin_at_load(sandbox_id, ("rule", &at), sha256(content));
                let want = *self.model.pins.entry(at).or_insert(content);
                assert_eq!(pinned.expect("written"), sha256(want));
            }
            Op::Retire { sandbox_id } => self.retire_all_but_last(sandbox_id),
            Op::Exec(program) => self.exec(program, true),
            Op::Unseen(program) => self.exec(program, false),
            Op::Fork { parent, child } => self.fork(parent, child),
            Op::Exit(tgid) => self.exit(tgid),
            Op::Forget(path) => {
                let at = [PathBuf::from(PATHS[path]), format!("/links/{path}").into()];
                self.rig.book.forget_pins(&at).expect("written");
                self.model.pins.retain(|path, _| !at.contains(path));
            }
            Op::Appear(tree) => {
                self.model.writable.insert(tree);
                let trees = vec![place(TREES[tree])];
                self.rig.book.set_writable(writer(tree), trees);
            }
            Op::Disappear(tree) => {
                self.model.writable.remove(&tree);
                self.rig.book.clear_writable(writer(tree));
            }
            Op::Remove(sandbox_id) => self.remove(sandbox_id),
            Op::Evict => self.rig.evict_all(),
            Op::Restart => self.restart(),
        }
    }

    fn fork(&mut self, parent: u32, child: u32) {
        let Some(process) = self.model.processes.get(&parent) else {
            return;
        };
        if parent == child {
            return;
        }
        let process = Process {
            line: process.line.clone(),
            ..*process
        };
        self.exit(child);
        self.rig.memory.maps().fork(parent, child);
        self.model.processes.insert(child, process);
    }

    fn exit(&mut self, tgid: u32) {
        self.rig.memory.maps().exit(tgid);
        self.model.processes.remove(&tgid);
    }

    fn retire_all_but_last(&mut self, sandbox_id: u32) {
        let policies = self.model.policies_of(sandbox_id);
        for (policy_id, _) in policies.iter().rev().skip(1) {
            self.rig.book.retire(*policy_id);
            self.model.policies.remove(policy_id);
        }
    }

    fn remove(&mut self, sandbox_id: u32) {
        let processes = self.model.processes.iter();
        let of_it = processes.filter(|(_, process)| process.sandbox_id == sandbox_id);
        let tgids: Vec<u32> = of_it.map(|(tgid, _)| *tgid).collect();
        tgids.into_iter().for_each(|tgid| self.exit(tgid));
        self.rig.book.remove_sandbox(sandbox_id);
        self.model.policies.retain(|_, (of, _)| *of != sandbox_id);
        self.rig.book.add_sandbox(sandbox_id, "box");
    }

    fn restart(&mut self) {
        for sandbox_id in 1..=SANDBOXES {
            self.retire_all_but_last(sandbox_id);
        }
        self.rig.restart();
        for sandbox_id in 1..=SANDBOXES {
            self.rig.book.add_sandbox(sandbox_id, "box");
            for (policy_id, specs) in self.model.policies_of(sandbox_id) {
                self.load(policy_id, sandbox_id, &specs);
            }
        }
        for tree in &self.model.writable {
            let trees = vec![place(TREES[*tree])];
            self.rig.book.take_up_writable(writer(*tree), trees);
        }
    }

    fn check(&self) {
        let maps = self.rig.memory.maps();
        let line_of = |chain| {
            maps.line(chain)
                .iter()
                .map(|hash| hash[0])
                .collect::<Vec<u8>>()
        };
        for (key, mask) in &maps.mask {
            let (_, specs) = &self.model.policies[&key.policy_id];
            let want = self.model.own_and_lineage(specs, &line_of(key.chain));
            assert_eq!((mask.own, mask.lineage), want, "{key:?} of {specs:?}");
            assert_only_paths(specs, mask);
        }
        for (tgid, process) in &self.model.processes {
            let chain = maps.executes(*tgid).expect("a record").chain;
            assert_eq!(line_of(chain), process.line, "process {tgid}");
            let policies = self.model.policies_of(process.sandbox_id);
            for (policy_id, specs) in policies.iter().filter(|_| process.seen) {
                let mask = maps.mask(*policy_id, chain);
                let want = self.model.own_and_lineage(specs, &process.line);
                assert_eq!((mask.own, mask.lineage), want, "process {tgid}");
            }
        }
        for (key, file_id) in &maps.identity {
            let (content, path) = self.model.keys[key];
            assert!(!self.model.writable.contains(&tree_of(path)), "{path}");
            assert_eq!(maps.file[file_id].sha256, sha256(content));
        }
        for (key, chain) in &maps.chain {
            assert_eq!(maps.lineage[chain].files[0], key.file_id);
        }
        let contents: HashSet<_> = maps.file.values().map(|file| file.sha256).collect();
        assert_eq!(
            contents.len(),
            maps.file.len(),
            "a content with two numbers"
        );
        let pins = self.rig.book.pins.all().into_iter();
        let pins: BTreeMap<PathBuf, u8> = pins
            .map(|pin| (PathBuf::from(pin.path), pin.sha256[0]))
            .collect();
        assert_eq!(pins, self.model.pins);
    }
}

/// An entry that lists a content has no path that could hold another one.
fn assert_only_paths(specs: &[Spec], mask: &MaskValue) {
    for (index, (means, _)) in specs.iter().enumerate() {
        let bit = mask.changed.words[index / 64] >> (index % 64) & 1;
        assert!(bit == 0 || !matches!(means, Means::Content(_)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 4000, ..ProptestConfig::default() })]
    #[test]
    fn the_book_agrees_with_the_model(ops in proptest::collection::vec(op(), 1..80)) {
        let mut both = Both::new();
        for op in ops {
            both.apply(op);
            both.check();
        }
    }
}
