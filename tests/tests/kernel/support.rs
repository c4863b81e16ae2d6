//! What the tests say often.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, UdpSocket},
    path::Path,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use clawd_tests::{Contact, Daemon, Internet, PYTHON, Prober, Traffic, sha256_of_file};
use serde_json::{Value, json};

/// How long something may take that usually takes milliseconds; emulated machines are slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A `binaries` entry for Debian's Python, which the prober runs under.
pub(crate) const PYTHON_ENTRY: &str = "{ path: /usr/bin/python3 }";
/// A `binaries` entry for curl.
pub(crate) const CURL_ENTRY: &str = "{ path: /usr/bin/curl }";

/// A policy in mode direct that lets `/usr` execute, with these entries of `network_policies`.
pub(crate) fn direct(groups: &str) -> String {
    direct_with("[/usr]", "[]", groups)
}

/// As [`direct`], with other trees to execute and to write.
pub(crate) fn direct_with(read_execute: &str, read_write: &str, groups: &str) -> String {
    let groups = if groups.is_empty() {
        " {}\n".to_owned()
    } else {
        format!("\n{groups}")
    };
    format!(
        "version: 2\n\
         filesystem_policy: {{ read_execute: {read_execute}, read_write: {read_write} }}\n\
         landlock: {{ compatibility: best_effort }}\n\
         network: {{ mode: direct }}\n\
         network_policies:{groups}"
    )
}

/// A policy in mode none that lets `/usr` execute.
pub(crate) fn closed() -> &'static str {
    "version: 2\nfilesystem_policy: { read_execute: [/usr] }\nlandlock: { compatibility: best_effort }\nnetwork: { mode: none }\n"
}

/// An entry of `network_policies`: these endpoints for these binaries, in YAML's flow style.
pub(crate) fn group(name: &str, endpoints: &str, binaries: &str) -> String {
    format!("  {name}: {{ endpoints: [{endpoints}], binaries: [{binaries}] }}\n")
}

/// An entry of `network_policies` that denies these endpoints to these binaries, or with none to all.
pub(crate) fn denying(name: &str, endpoints: &str, binaries: &str) -> String {
    let binaries = match binaries {
        "" => String::new(),
        binaries => format!(", binaries: [{binaries}]"),
    };
    format!("  {name}: {{ action: deny, endpoints: [{endpoints}]{binaries} }}\n")
}

/// An attempt to talk by TCP.
pub(crate) fn tcp(addr: &str, port: u16) -> Value {
    json!({ "do": "tcp", "addr": addr, "port": port })
}

/// What a program printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code of what was run.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Waits until `what` holds.
#[track_caller]
pub(crate) fn eventually(told: &str, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !what() {
        assert!(Instant::now() < deadline, "it never came to be: {told}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How many attempts these records tell of: of alike ones in a second some by themselves, the rest as a
/// count.
pub(crate) fn told_in_all(records: &[Value]) -> u64 {
    let counts = records.iter().map(|record| record["count"].as_u64());
    counts.map(|count| count.unwrap_or(1)).sum()
}

/// A denial as the audit log should tell it.
pub(crate) struct Denial<'a> {
    pub(crate) reason: &'a str,
    pub(crate) ip: &'a str,
    pub(crate) port: u16,
    pub(crate) protocol: &'a str,
    pub(crate) activity: &'a str,
    /// The rule that is named.
    pub(crate) rule: Option<&'a str>,
    /// The program that was refused, where the host has it.
    pub(crate) exe: &'a Path,
}

impl<'a> Denial<'a> {
    /// A TCP connect of the prober's.
    pub(crate) fn tcp(reason: &'a str, ip: &'a str, port: u16) -> Self {
        Self {
            reason,
            ip,
            port,
            protocol: "tcp",
            activity: "connect",
            rule: None,
            exe: Path::new(PYTHON),
        }
    }

    /// The same by a rule that denies.
    pub(crate) fn by(self, rule: &'a str) -> Self {
        Self {
            reason: "denied_by_rule",
            rule: Some(rule),
            ..self
        }
    }

    /// A datagram of the prober's, with its own destination.
    pub(crate) fn sendmsg(reason: &'a str, ip: &'a str, port: u16) -> Self {
        Self {
            protocol: "udp",
            activity: "sendmsg",
            ..Self::tcp(reason, ip, port)
        }
    }
}

/// The internet and a daemon in its host's namespace.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) internet: Internet,
}

impl World {
    pub(crate) fn start() -> Self {
        let internet = Internet::start().expect("internet");
        let daemon = Daemon::start(Some(&internet)).expect("daemon");
        Self { daemon, internet }
    }

    /// A prober under `policy`, called `name`.
    #[track_caller]
    pub(crate) fn prober(&self, name: &str, policy: &str) -> Prober {
        Prober::start(&self.daemon, name, policy).expect("prober")
    }

    /// The numbers of the last audit record so far.
    fn last_record(&self) -> u64 {
        self.daemon
            .audit()
            .last()
            .and_then(|record| record["seq"].as_u64())
            .unwrap_or(0)
    }

    /// What the internet has seen, once nothing is under way any more.
    fn seen(&self) -> (Vec<Contact>, Traffic) {
        let mut before = self.internet.traffic().expect("counters");
        loop {
            thread::sleep(Duration::from_millis(10));
            let now = self.internet.traffic().expect("counters");
            if now == before {
                return (self.internet.contacts(), now);
            }
            before = now;
        }
    }

    /// Does `attempt` and proves that the internet saw nothing of it and that exactly one denial,
    /// this one, is in the audit log; returns what `attempt` did.
    #[track_caller]
    pub(crate) fn refused<T>(
        &self,
        sandbox: &str,
        want: &Denial<'_>,
        attempt: impl FnOnce() -> T,
    ) -> T {
        let (record_before, seen_before) = (self.last_record(), self.seen());
        let result = attempt();
        assert_eq!(self.seen(), seen_before, "the internet saw it");
        let denials = self.denials(sandbox, record_before);
        let [denial] = denials.as_slice() else {
            panic!("one denial: {denials:?}")
        };
        self.check(denial, want);
        result
    }

    /// The sandbox's denials after record `seq`.
    pub(crate) fn denials(&self, sandbox: &str, seq: u64) -> Vec<Value> {
        let is_denial = |record: &Value| {
            record["seq"].as_u64() > Some(seq)
                && record["sandbox"] == sandbox
                && record["action"] == "denied"
        };
        self.daemon.audit().into_iter().filter(is_denial).collect()
    }

    #[track_caller]
    fn check(&self, denial: &Value, want: &Denial<'_>) {
        let exe = want.exe.canonicalize().expect("the program is there");
        let ip: IpAddr = want.ip.parse().expect("an address");
        assert_eq!(denial["reason"], want.reason, "{denial}");
        assert_eq!(denial["dst_ip"], ip.to_string(), "{denial}");
        assert_eq!(denial["dst_port"], want.port, "{denial}");
        assert_eq!(denial["protocol"], want.protocol, "{denial}");
        assert_eq!(denial["activity"], want.activity, "{denial}");
        assert_eq!(denial["exe"], exe.display().to_string(), "{denial}");
        assert_eq!(
            denial["sha256"],
            sha256_of_file(&exe).expect("its content"),
            "{denial}"
        );
        assert_eq!(denial["rule"].as_str(), want.rule, "{denial}");
        assert_eq!(denial["class"]["uid"], 4001, "{denial}");
        assert!(denial["pid"].as_u64() > Some(1), "{denial}");
    }

    /// The host's pid of the process that has number `inside` in the sandbox's own pid namespace. It
    /// must live.
    #[track_caller]
    pub(crate) fn host_pid(&self, sandbox: &str, inside: &Value) -> u32 {
        let inside = inside.as_u64().expect("a pid").to_string();
        let is_it = |pid: &u32| {
            // Its number in each namespace, the innermost last (proc_pid_status(5)).
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            numbers.and_then(|numbers| numbers.split_whitespace().last()) == Some(&inside)
        };
        let pids = processes(&self.daemon, sandbox);
        let found: Vec<_> = pids.iter().copied().filter(is_it).collect();
        match found.as_slice() {
            [pid] => *pid,
            _ => panic!("one process {inside} of {pids:?}: {found:?}"),
        }
    }

    /// A prober's own.
    #[track_caller]
    pub(crate) fn pid_of(&self, sandbox: &str, prober: &mut Prober) -> u32 {
        let inside = &prober.ask(&json!({ "do": "pid" }))["ok"];
        self.host_pid(sandbox, inside)
    }

    /// [`World::refused`] of one thing that a prober is asked to do: EPERM, at once, and its own pid.
    #[track_caller]
    pub(crate) fn refuses(
        &self,
        prober: &mut Prober,
        sandbox: &str,
        ask: &Value,
        want: &Denial<'_>,
    ) {
        let before = self.last_record();
        let answer = self.refused(sandbox, want, || prober.ask(ask));
        assert_eq!(answer["errno"], 1, "{ask}: {answer}");
        assert!(
            answer["ms"].as_f64().is_some_and(|ms| ms < 1000.0),
            "{ask}: {answer}"
        );
        let denial = self.denials(sandbox, before);
        assert_eq!(denial[0]["pid"], self.pid_of(sandbox, prober), "{denial:?}");
    }

    /// Asks for something that must work; proves that a server saw it.
    #[track_caller]
    pub(crate) fn allows(&self, prober: &mut Prober, ask: &Value) {
        let before = self.internet.contacts().len();
        let answer = prober.ask(ask);
        assert_eq!(answer["ok"], "ping", "{ask}: {answer}");
        assert!(
            self.internet.contacts().len() > before,
            "{ask}: no server saw it"
        );
    }

    /// The host's pids of the sandbox's processes whose program's name begins like `program`.
    pub(crate) fn pids(&self, sandbox: &str, program: &str) -> Vec<u32> {
        let pids = processes(&self.daemon, sandbox);
        let runs = |pid: &u32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            exe.to_string_lossy().starts_with(program)
        };
        pids.into_iter().filter(runs).collect()
    }
}

/// Has `argv` run in a prober: it tells a line of JSON and waits for the end of its input. `look` gets
/// the line, and what it tells of lives as yet.
#[track_caller]
pub(crate) fn told_alive<T>(
    prober: &mut Prober,
    argv: &[&str],
    look: impl FnOnce(&Value) -> T,
) -> (Value, T) {
    let answer = prober.ask(&json!({ "do": "begin", "name": "alive", "argv": argv }));
    let line = answer["ok"].as_str().unwrap_or_default();
    let told = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {answer}"));
    let looked = look(&told);
    let ended = prober.ask(&json!({ "do": "finish", "name": "alive" }));
    assert_eq!(ended["ok"], 0, "{ended}");
    (told, looked)
}

/// A record is of this process of the host's, which executes `program`.
#[track_caller]
pub(crate) fn check_whose(record: &Value, pid: u32, program: &str) {
    let exe = Path::new(program).canonicalize().expect("it is there");
    assert_eq!(record["pid"], pid, "{record}");
    assert_eq!(record["exe"], exe.display().to_string(), "{record}");
    let content = sha256_of_file(&exe).expect("its content");
    assert_eq!(record["sha256"], content, "{record}");
}

/// What comes at the socket within its time. A process that was stopped and goes on has its wait
/// interrupted (signal(7)), and waits once more.
pub(crate) fn hear(socket: &UdpSocket, heard: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(heard) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The processes in a sandbox's cgroup.
pub(crate) fn processes(daemon: &Daemon, sandbox: &str) -> Vec<u32> {
    let path = daemon
        .paths()
        .cgroup_parent
        .join(sandbox)
        .join("cgroup.procs");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
