//! Sockets that are of another sandbox, of none, or that the kernel made.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
};

use clawd_tests::Address;
use serde_json::{Value, json};

use super::{python, reaching};
use crate::support::{PYTHON_ENTRY, World, direct, eventually, group};

#[test]
fn socket_of_a_sandbox_is_of_no_use_outside_it() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A], ""));
    let keep = json!({ "do": "keep_socket", "name": "s", "kind": "stream", "family": 4 });
    let fd = prober.ask(&keep)["ok"].as_u64().expect("a descriptor");
    let pid = world.pids("box", clawd_tests::PYTHON)[0];
    let before = world.internet.traffic().expect("counters");
    let script = format!(
        "
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
pidfd = os.pidfd_open({pid})
fd = libc.syscall(438, pidfd, {fd}, 0)
assert fd >= 0, ctypes.get_errno()
talk = socket.socket(fileno=fd)
try:
    talk.connect(({:?}, 7000))
    print(json.dumps('connected'))
except OSError as error:
    print(json.dumps(error.errno))
",
        Address::A
    );
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-c", &script]);
    let output = world.daemon.place().output(command).expect("python3");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "1",
        "{output:?}"
    );
    assert_eq!(world.internet.traffic().expect("counters"), before);
    let reasons: Vec<_> = world.denials("box", 0);
    assert!(
        reasons
            .iter()
            .any(|record| record["reason"] == "foreign_socket"),
        "{reasons:?}"
    );
}

#[test]
fn n19_subflows_that_the_kernel_adds_to_a_connection_are_refused() {
    let world = World::start();
    world
        .internet
        .host()
        .ip(&[
            "addr add 192.0.2.2/24 dev up0",
            "mptcp limits set subflow 4 add_addr_accepted 4",
            "mptcp endpoint add 192.0.2.2 dev up0 subflow",
        ])
        .expect("MPTCP");
    world
        .internet
        .outside()
        .ip(&["mptcp limits set subflow 4 add_addr_accepted 4"])
        .expect("MPTCP");
    let server = world
        .internet
        .outside()
        .run(|| mptcp_server().expect("MPTCP"));
    let endpoint = format!("{{ host: {}, port: 7700 }}", Address::A);
    let mut prober = world.prober("box", &direct(&group("g", &endpoint, PYTHON_ENTRY)));
    let served = thread::spawn(move || {
        let (mut talk, _) = server.accept().expect("a connection");
        let mut heard = [0; 4];
        for _ in 0..20 {
            talk.read_exact(&mut heard).expect("ping");
            talk.write_all(&heard).expect("answered");
        }
    });
    let answer = python(
        &mut prober,
        &format!(
            "
import json, socket, time
talk = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
talk.settimeout(10)
talk.connect(({:?}, 7700))
for _ in range(20):
    talk.sendall(b'ping')
    assert talk.recv(4) == b'ping'
    time.sleep(0.02)
print(json.dumps('talked'))
",
            Address::A
        ),
    );
    assert_eq!(answer, "talked");
    served.join().expect("served");
    let joins = world.internet.outside().run(joins_asked_for);
    assert_eq!(joins, "0");
    // The kernel's own thread asked, which is in no sandbox.
    let refused = |record: &Value| {
        record["reason"] == "foreign_socket"
            && record["action"] == "denied"
            && record["dst_ip"] == Address::A
            && record["dst_port"] == 7700
    };
    eventually("the denial is in the log", || {
        world.daemon.audit().iter().any(refused)
    });
    let audit = world.daemon.audit();
    audit
        .iter()
        .filter(|record| refused(record))
        .for_each(is_the_kernels);
}

/// How often somebody asked to join a connection of MPTCP's, in this thread's network namespace.
fn joins_asked_for() -> String {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").expect("counters");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("MPTcpExt:"))
        .collect();
    let at = lines[0]
        .split(' ')
        .position(|name| name == "MPJoinSynRx")
        .expect("a counter");
    lines[1].split(' ').nth(at).expect("a number").to_owned()
}

/// The record is of a thread of the kernel's, which executes nothing and is in no sandbox.
#[track_caller]
fn is_the_kernels(record: &Value) {
    assert_eq!(record["activity"], "connect", "{record}");
    assert_eq!(record["protocol"], "tcp", "{record}");
    let pid = record["pid"].as_u64().expect("a pid");
    assert!(is_kernel_thread(pid), "{record}");
    for key in ["exe", "sha256", "sandbox"] {
        assert_eq!(record[key], Value::Null, "{record}");
    }
}

/// Whether the process has no memory of its own to execute from (proc_pid_cmdline(5)), or is
/// gone: such threads end when they have nothing to do.
fn is_kernel_thread(pid: u64) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
}

fn mptcp_server() -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, Protocol, SocketType, bind, ipproto, listen, socket};
    const _: Protocol = ipproto::MPTCP;
    let server = socket(
        AddressFamily::INET,
        SocketType::STREAM,
        Some(ipproto::MPTCP),
    )?;
    let at: SocketAddr = "192.0.2.10:7700".parse().expect("an address");
    bind(&server, &at)?;
    listen(&server, 1)?;
    Ok(TcpListener::from(server))
}
