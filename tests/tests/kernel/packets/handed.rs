//! N18, N20: sockets that are handed to a program that is not listed, or to another sandbox, as SECURITY.md
//! states it.

use std::thread;

use clawd_tests::{Address, PYTHON};
use serde_json::json;

use super::{push, python, reaching};
use crate::support::{CURL_ENTRY, World, check_whose, direct, group, told_alive};

const PERL: &str = "/usr/bin/perl";

/// Perl is not listed. It gets connected sockets, and one that is not, from Python, which is; Python prints
/// what came of each send of Perl's, as an errno or 0, and the pid of each. All live until its input ends.
const HANDS: &str = r#"
import json, os, socket, subprocess, sys
PERL = '''
use Socket;
my ($fd, $address) = @ARGV;
open(my $talk, "+<&=", $fd) or die;
my $sent = $address ? send($talk, "ping", 0, pack_sockaddr_in(7000, inet_aton($address)))
                    : syswrite($talk, "ping");
$| = 1;
print defined($sent) ? 0 : $! + 0, "\n";
<STDIN>;
'''
started, pids = [], {'python': os.getpid()}
def by_perl(name, talk, address=''):
    perl = subprocess.Popen(['/usr/bin/perl', '-e', PERL, str(talk.fileno()), address],
                            pass_fds=[talk.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    started.append(perl)
    pids[name] = perl.pid
    return int(perl.stdout.readline())
found = {}
for name, kind in (('stream', socket.SOCK_STREAM), ('dgram', socket.SOCK_DGRAM)):
    with socket.socket(socket.AF_INET, kind) as talk:
        talk.settimeout(10)
        talk.connect((NEAR, 7000))
        found[name] = [by_perl(name, talk), talk.recv(9).decode()]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
    talk.sendto(b'ping', (NEAR, 7000))
    found['addressed'] = by_perl('addressed', talk, NEAR)
print(json.dumps({'found': found, 'pids': pids}), flush=True)
sys.stdin.read()
for perl in started:
    perl.communicate()
"#;

#[test]
fn n20_flow_is_its_openers_and_a_datagram_with_an_address_is_its_senders() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A], ""));
    let script = format!("NEAR = {:?}\n{HANDS}", Address::A);
    let argv = [PYTHON, "-I", "-c", &script];
    let (told, [python, perl]) = told_alive(&mut prober, &argv, |told| {
        ["python", "addressed"].map(|name| world.host_pid("box", &told["pids"][name]))
    });
    let found = &told["found"];
    let want = json!({ "stream": [0, "ping"], "dgram": [0, "ping"], "addressed": 1 });
    assert_eq!(found, &want);
    // Python's own datagrams, and what Perl sent on the connected socket; not what it addressed itself.
    let contacts = world.internet.contacts_at(Address::A, 7000);
    let datagrams = contacts.iter().filter(|contact| contact.kind == "udp");
    assert_eq!(datagrams.count(), 2, "{contacts:?}");
    let denials = world.denials("box", 0);
    let [denial] = denials.as_slice() else {
        panic!("{denials:?}")
    };
    assert_eq!(denial["reason"], "binary_not_listed", "{denial}");
    assert_eq!(denial["activity"], "sendmsg", "{denial}");
    assert_eq!(denial["dst_ip"], Address::A, "{denial}");
    assert_eq!(denial["dst_port"], 7000, "{denial}");
    assert_eq!(denial["protocol"], "udp", "{denial}");
    check_whose(denial, perl, PERL);
    let before = &denial["lineage"][0]["exe"];
    let shown = std::fs::canonicalize(PYTHON).expect("Python");
    assert_eq!(before, &json!(shown), "{denial}");
    // What was allowed is told as Python's, who opened it: twice a connect, once a datagram.
    let allowed: Vec<_> = world
        .daemon
        .audit()
        .into_iter()
        .filter(|record| record["action"] == "allowed" && record["dst_ip"] == Address::A)
        .collect();
    let told: Vec<_> = allowed.iter().map(|record| &record["activity"]).collect();
    assert_eq!(told, ["connect", "connect", "sendmsg"], "{allowed:?}");
    for record in &allowed {
        check_whose(record, python, PYTHON);
    }
}

#[test]
fn n20_packets_of_a_flow_are_told_under_the_pid_of_its_opener() {
    let world = World::start();
    let mut prober = world.prober("box", &reaching(&[Address::A], ""));
    let open = json!({
        "do": "open_flow", "name": "talk", "kind": "dgram", "addr": Address::A, "port": 7000
    });
    assert_eq!(prober.ask(&open)["ok"], "ping");
    // Listed for another program: whose datagram socket it is the kernel does not list, so it stays open.
    let endpoint = format!("{{ host: {}, port: 7000, protocol: udp }}", Address::A);
    push(&world, "box", &direct(&group("g", &endpoint, CURL_ENTRY)));
    let say = json!({ "do": "fork", "ask": { "do": "say_on", "name": "talk" } });
    let answer = prober.ask(&say);
    assert_eq!(answer["ok"]["errno"], 1, "{answer}");
    assert_eq!(world.internet.contacts_at(Address::A, 7000).len(), 1);
    let opener = world.pid_of("box", &mut prober);
    let sent = super::dropped(&world, "box", "send");
    assert!(!sent.is_empty());
    for (reason, ip, record) in &sent {
        assert_eq!(
            (reason.as_str(), ip.as_str()),
            ("policy_changed", Address::A),
            "{record}"
        );
        check_whose(record, opener, PYTHON);
    }
}

/// Sends sockets that it made to whoever connects: one for connections, one for datagrams.
const GIVES: &str = "
import json, socket
made = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(PLACE)
    listener.listen()
    talk, _ = listener.accept()
    socket.send_fds(talk, [b'x'], [each.fileno() for each in made])
    print(json.dumps(talk.recv(1).decode()))
";

/// Takes them and tries to get out by them: prints each errno and its pid, and waits for the end of its input.
const TAKES: &str = "
import json, os, socket, sys, time
while not os.path.exists(PLACE):
    time.sleep(0.01)
with socket.socket(socket.AF_UNIX) as talk:
    talk.connect(PLACE)
    _, fds, _, _ = socket.recv_fds(talk, 1, 2)
    stream, dgram = [socket.socket(fileno=fd) for fd in fds]
    found = {}
    for name, call in (
        ('connect', lambda: stream.connect((NEAR, 7000))),
        ('sendto', lambda: dgram.sendto(b'ping', (NEAR, 7000))),
        ('connect datagrams', lambda: dgram.connect((NEAR, 7000))),
    ):
        try:
            call()
            found[name] = 0
        except OSError as error:
            found[name] = error.errno
    talk.send(b'.')
print(json.dumps({'found': found, 'pid': os.getpid()}), flush=True)
sys.stdin.read()
";

#[test]
fn n18_socket_of_another_sandbox_reaches_nobody() {
    let world = World::start();
    let folder = world.daemon.scratch().folder("shared", 0o777);
    let folder = folder.expect("a folder");
    // Both may go there with sockets of their own.
    let policy = reaching(&[Address::A], "").replace(
        "read_write: []",
        &format!("read_write: [{}]", folder.display()),
    );
    let place = format!(
        "PLACE, NEAR = {:?}, {:?}\n",
        folder.join("socket"),
        Address::A
    );
    let mut giver = world.prober("giver", &policy);
    let mut taker = world.prober("taker", &policy);
    let before = world.internet.traffic().expect("counters");
    let (told, pid) = thread::scope(|scope| {
        let gives = scope.spawn(|| python(&mut giver, &format!("{place}{GIVES}")));
        let takes = format!("{place}{TAKES}");
        let argv = [PYTHON, "-I", "-c", &takes];
        let told = told_alive(&mut taker, &argv, |told| {
            world.host_pid("taker", &told["pid"])
        });
        assert_eq!(gives.join().expect("it gave"), ".");
        told
    });
    let want = json!({ "connect": 1, "sendto": 1, "connect datagrams": 1 });
    assert_eq!(told["found"], want);
    assert_eq!(world.internet.traffic().expect("counters"), before);
    // They are the giver's, and so are the refusals, with the pid of who tried.
    assert_eq!(world.denials("taker", 0).len(), 0);
    let denials = world.denials("giver", 0);
    assert_eq!(denials.len(), 3, "{denials:?}");
    for denial in denials {
        assert_eq!(denial["reason"], "foreign_socket", "{denial}");
        assert_eq!(denial["dst_ip"], Address::A, "{denial}");
        assert_eq!(denial["dst_port"], 7000, "{denial}");
        assert_eq!(denial["pid"], pid, "{denial}");
    }
    let own = json!({ "do": "tcp", "addr": Address::A, "port": 7000 });
    world.allows(&mut taker, &own);
}
