//! The whole gate without a daemon: real mounts and execs, tables in memory.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use clawd_common::{
    decide::{GrantMask, MaskKey},
    record::Executed,
};
use sha2::{Digest as _, Sha256};

use super::{ExecutedRing, ServeError, serve};
use crate::{
    book::Capacity,
    entries::{Entry, Matcher},
    gate::{Parts, WORKERS},
    groups::GROUPS_MAX,
    protocol::{FromGate, Health, Notice, Policy, Reply, Request, ToGate, Watch, receive, send},
    tables::{Keys, Locate},
    tests::{Memory, StatKeys, StatLocate, Table},
};

/// Nobody tells of execs, so leases end by the clock.
struct Silent;

impl ExecutedRing for Silent {
    fn wait(&mut self, patience: Duration, _each: &mut dyn FnMut(Executed)) -> io::Result<()> {
        thread::sleep(patience);
        Ok(())
    }
}

/// A gate that serves, and the daemon's end of its socket.
struct Gate {
    memory: Memory,
    /// Where all files are seen.
    namespace: Arc<AtomicU32>,
    socket: UnixStream,
    thread: thread::JoinHandle<Result<(), ServeError>>,
    _pins: tempfile::TempDir,
    last_id: u64,
}

impl Gate {
    fn start() -> Self {
        let memory = Memory::default();
        let pins = tempfile::tempdir().expect("folder");
        let keys = || Box::new(StatKeys) as Box<dyn Keys>;
        let namespace = Arc::<AtomicU32>::default();
        let locate = || Box::new(StatLocate(Arc::clone(&namespace))) as Box<dyn Locate>;
        let parts = Parts {
            tables: memory.boxed(),
            capacity: Capacity {
                files: 100,
                chains: 100,
                keys: 100,
            },
            worker_keys: (0..WORKERS).map(|_| keys()).collect(),
            locates: (0..GROUPS_MAX).map(|_| locate()).collect(),
            keys: keys(),
            pins_file: pins.path().join("pins.json"),
        };
        let (socket, other) = UnixStream::pair().expect("a pair");
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).expect("set");
        Self {
            memory,
            namespace: Arc::clone(&namespace),
            socket,
            thread: thread::spawn(move || serve(parts, Box::new(Silent), other)),
            _pins: pins,
            last_id: 0,
        }
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.last_id += 1;
        let id = self.last_id;
        send(&mut self.socket, &ToGate { id, request }).expect("sent");
        loop {
            let message = receive(&mut self.socket).expect("received");
            if let FromGate::Reply { id: of, reply } = message {
                assert_eq!(of, id);
                return reply;
            }
        }
    }

    fn health(&mut self) -> Health {
        match self.ask(Request::Health) {
            Reply::Health(health) => health,
            other => panic!("{other:?}"),
        }
    }

    fn end(self) -> Result<(), ServeError> {
        drop(self.socket);
        self.thread.join().expect("no panic")
    }
}

/// A process with mounts of its own that executes what it is told to: `ro/tool`, on a mount that it
/// cannot write, `ro/script`, which that interprets, and `rw/tool`.
struct Sandboxed {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

const SCRIPT: &str = r#"
set -e
mkdir "$1/ro" "$1/rw"
mount -t tmpfs none "$1/ro"
mount -t tmpfs none "$1/rw"
cp "$(readlink -f /bin/true)" "$1/ro/tool"
cp "$1/ro/tool" "$1/rw/tool"
printf x >> "$1/rw/tool"
printf '#!%s/ro/tool\n' "$1" > "$1/ro/script"
chmod +x "$1/ro/script"
mount -o remount,bind,ro "$1/ro"
echo ready
while read -r program; do "$1/$program" && echo done || echo failed; done
"#;

impl Sandboxed {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", SCRIPT, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut started = Self {
            orders: child.stdin.take(),
            child,
            answers,
            folder,
        };
        assert_eq!(started.answer(), "ready\n");
        started
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line");
        line
    }

    fn execute(&mut self, program: &str) {
        let orders = self.orders.as_mut().expect("open");
        writeln!(orders, "{program}").expect("written");
        assert_eq!(self.answer(), "done\n");
    }

    /// The number of its mount namespace.
    fn namespace(&self) -> u32 {
        let path = format!("/proc/{}/ns/mnt", self.child.id());
        let number = std::fs::metadata(path).expect("it lives").ino();
        u32::try_from(number).expect("32 bits")
    }

    fn content(&self, program: &str) -> [u8; 32] {
        let path = self.folder.path().join(program);
        let path = format!("/proc/{}/root{}", self.child.id(), path.display());
        Sha256::digest(std::fs::read(path).expect("read")).into()
    }

    fn watch(&self, listed: &[[u8; 32]]) -> Watch {
        let entry = |sha256: &[u8; 32]| Entry {
            label: "rule".to_owned(),
            matcher: Matcher::Sha256(*sha256),
            descendants: false,
            denies: false,
        };
        let mounts = ["ro", "rw"].map(|name| self.folder.path().join(name));
        Watch {
            sandbox_id: 1,
            name: "box".to_owned(),
            init_pid: self.child.id(),
            exec_mounts: mounts.to_vec(),
            policy: Policy {
                policy_id: 7,
                entries: listed.iter().map(entry).collect(),
            },
        }
    }
}

impl Drop for Sandboxed {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.child.wait());
    }
}

fn bit(index: usize) -> GrantMask {
    let mut mask = GrantMask::ZERO;
    mask.insert(index);
    mask
}

#[test]
fn a_program_has_its_grants_before_its_first_instruction() {
    let mut gate = Gate::start();
    let mut sandbox = Sandboxed::start();
    gate.namespace.store(sandbox.namespace(), Ordering::Relaxed);
    let listed = ["ro/tool", "rw/tool"].map(|program| sandbox.content(program));
    let loaded = gate.ask(Request::Watch(sandbox.watch(&listed)));
    assert!(matches!(loaded, Reply::Loaded { .. }), "{loaded:?}");

    sandbox.execute("ro/tool");
    {
        let maps = gate.memory.maps();
        let identities: Vec<_> = maps.identity.values().collect();
        assert_eq!(identities.len(), 1);
        assert_eq!(maps.file[identities[0]].sha256, listed[0]);
        let own: Vec<GrantMask> = maps.mask.values().map(|mask| mask.own).collect();
        assert_eq!(own, [bit(0)]);
        assert!(maps.leased.is_empty());
    }
    let files = gate.health().files;

    // Known by now: nothing is written for it.
    gate.memory.maps().written.clear();
    sandbox.execute("ro/tool");
    assert_eq!(gate.memory.maps().written, []);

    // What it could write is known for this one exec.
    sandbox.execute("rw/tool");
    {
        let maps = gate.memory.maps();
        assert_eq!(maps.identity.len(), 1);
        assert!(maps.written.contains(&Table::Leased));
        let own: Vec<GrantMask> = maps.mask.values().map(|mask| mask.own).collect();
        assert_eq!(own, [bit(0), bit(1)]);
    }
    let health = gate.health();
    assert_eq!((health.files, health.workers), (files + 1, 2));

    assert!(matches!(
        gate.ask(Request::Unwatch { sandbox_id: 1 }),
        Reply::Done
    ));
    assert!(gate.memory.maps().mask.is_empty());
    // Nobody watches it any more, and nothing waits.
    sandbox.execute("rw/tool");
    assert!(gate.end().is_ok());
}

#[test]
fn a_policy_is_loaded_for_what_runs_and_retired() {
    let mut gate = Gate::start();
    let mut sandbox = Sandboxed::start();
    gate.namespace.store(sandbox.namespace(), Ordering::Relaxed);
    let content = sandbox.content("ro/tool");
    gate.ask(Request::Watch(sandbox.watch(&[])));
    sandbox.execute("ro/tool");
    assert!(gate.memory.maps().mask.is_empty());
    let mut policy = sandbox.watch(&[content]).policy;
    policy.policy_id = 8;
    let sandbox_id = 1;
    let loaded = gate.ask(Request::Load { sandbox_id, policy });
    assert!(matches!(loaded, Reply::Loaded { .. }), "{loaded:?}");
    let keys: Vec<MaskKey> = gate.memory.maps().mask.keys().copied().collect();
    assert_eq!(
        keys.iter().map(|key| key.policy_id).collect::<Vec<_>>(),
        [8]
    );
    gate.ask(Request::Retire { policy_id: 8 });
    assert!(gate.memory.maps().mask.is_empty());
}

#[test]
fn a_request_that_cannot_be_done_is_refused_and_the_gate_goes_on() {
    let mut gate = Gate::start();
    let policy = Policy {
        policy_id: 1,
        entries: Vec::new(),
    };
    let sandbox_id = 9;
    let refused = gate.ask(Request::Load { sandbox_id, policy });
    assert!(matches!(refused, Reply::Failed { .. }));
    let sandbox = Sandboxed::start();
    let mut watch = sandbox.watch(&[]);
    watch.exec_mounts.push(PathBuf::from("/proc/gone/\u{e9}"));
    drop(gate.ask(Request::Watch(watch)));
    let gone = Watch {
        init_pid: u32::MAX >> 1,
        ..sandbox.watch(&[])
    };
    let refused = gate.ask(Request::Watch(gone.clone()));
    assert!(matches!(refused, Reply::Failed { .. }));
    let restored = gate.ask(Request::Restore(vec![gone, sandbox.watch(&[])]));
    let Reply::Restored(results) = restored else {
        panic!("{restored:?}");
    };
    assert!(results[0].is_some() && results[1].is_none(), "{results:?}");
    let pins = gate.ask(Request::Pins);
    assert!(matches!(pins, Reply::Pins(pins) if pins.is_empty()));
    assert_eq!(gate.health().stalled_ms, 0);
    assert!(gate.end().is_ok());
}

#[test]
fn a_message_that_is_not_understood_ends_the_gate() {
    let mut gate = Gate::start();
    send(&mut gate.socket, &"what?").expect("sent");
    assert!(matches!(
        gate.thread.join().expect("no panic"),
        Err(ServeError::Frame(_))
    ));
}

#[test]
fn an_exec_of_nobody_knows_whom_goes_on_without_identity_and_is_told() {
    let mut gate = Gate::start();
    let mut sandbox = Sandboxed::start();
    let listed = [sandbox.content("ro/tool")];
    gate.ask(Request::Watch(sandbox.watch(&listed)));
    // Its mounts are marked; the file is said to be seen in a namespace that no sandbox is in.
    for namespace in [0, sandbox.namespace() ^ 1] {
        gate.namespace.store(namespace, Ordering::Relaxed);
        sandbox.execute("ro/tool");
        let notice = loop {
            if let FromGate::Notice(notice) = receive(&mut gate.socket).expect("received") {
                break notice;
            }
        };
        let want = Notice::Unseen {
            sandbox_id: None,
            count: 1,
        };
        assert_eq!(notice, want);
        assert!(gate.memory.maps().identity.is_empty());
    }
    gate.namespace.store(sandbox.namespace(), Ordering::Relaxed);
    sandbox.execute("ro/tool");
    assert_eq!(gate.memory.maps().identity.len(), 1);
    assert!(gate.end().is_ok());
}

#[test]
fn a_script_has_no_identity_and_its_interpreter_has_one_each_time() {
    let mut gate = Gate::start();
    let mut sandbox = Sandboxed::start();
    gate.namespace.store(sandbox.namespace(), Ordering::Relaxed);
    let listed = [sandbox.content("ro/tool")];
    gate.ask(Request::Watch(sandbox.watch(&listed)));
    for _ in 0..3 {
        sandbox.execute("ro/script");
        let maps = gate.memory.maps();
        let identities: Vec<_> = maps.identity.values().collect();
        assert_eq!(identities.len(), 1);
        assert_eq!(maps.file[identities[0]].sha256, listed[0]);
    }
    assert!(gate.end().is_ok());
}
