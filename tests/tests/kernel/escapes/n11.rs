//! N11: a socket of outside is judged by no hook of the sandbox, so none gets in by the streams that a
//! command is given.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio},
    thread,
};

use clawd_tests::{Address, PYTHON};
use rustix::{
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, sendmsg,
        socket,
    },
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
};
use serde_json::{Value, json};

use super::Seen;
use crate::support::{World, closed, code, direct, text};

const SCRIPT: &str = include_str!("../../../escapes/n11_streams.py");
const ENOTSOCK: i64 = 88;
/// What a shell calls a program that ended by SIGPIPE.
const BROKEN_PIPE: i32 = 128 + 13;

/// Sends descriptors with a byte.
fn hand_over(to: &UnixStream, byte: u8, fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    let sent = sendmsg(
        to,
        &[IoSlice::new(&[byte])],
        &mut ancillary,
        SendFlags::empty(),
    );
    assert_eq!(sent, Ok(1));
}

/// Sockets of nobody's sandbox: one to be connected, and one that is.
fn outside(world: &World) -> [OwnedFd; 2] {
    world.internet.host().run(|| {
        let stream = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let talk = UdpSocket::bind("0.0.0.0:0").expect("free");
        talk.connect((Address::A, 7000)).expect("connected");
        [stream, talk.into()]
    })
}

/// A terminal: the operator's side, and the one that programs have.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master = openpt(flags).expect("a terminal");
    unlockpt(&master).expect("unlocked");
    let slave = ioctl_tiocgptpeer(&master, flags).expect("its other side");
    (master, slave)
}

/// The script at streams that are one unix socket, through which descriptors come from outside; with a
/// terminal as its input where that is wanted. Returns its steps and what it copied.
fn tempted(world: &World, mut command: Command, with_terminal: bool) -> (Vec<Value>, String) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let sockets = outside(world);
    hand_over(&ours, b'x', &sockets.each_ref().map(AsFd::as_fd));
    let terminal = with_terminal.then(terminal);
    let input = match &terminal {
        Some((_, slave)) => slave.try_clone().unwrap(),
        None => theirs.try_clone().unwrap().into(),
    };
    let ask = json!({ "to": [Address::A, 7000], "copy": !with_terminal }).to_string();
    command.args([PYTHON, "-I", "-c", SCRIPT, &ask]);
    command
        .stdin(input)
        .stdout(OwnedFd::from(theirs.try_clone().unwrap()))
        .stderr(OwnedFd::from(theirs));
    let mut child = command.spawn().unwrap();
    // It has copies of what the child got.
    drop(command);
    ours.write_all(b"hello").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    match ours.read_to_string(&mut said) {
        Ok(_) => {}
        // Nobody read what was sent.
        Err(error) => assert!(
            with_terminal && error.kind() == io::ErrorKind::ConnectionReset,
            "{error}"
        ),
    }
    assert!(child.wait().unwrap().success(), "{said}");
    let (steps, rest) = said.split_at(said.rfind('\n').map_or(0, |at| at + 1));
    let steps = steps.lines().map(serde_json::from_str);
    let steps = steps.collect::<Result<_, _>>();
    (
        steps.unwrap_or_else(|_| panic!("no JSON: {said}")),
        rest.to_owned(),
    )
}

#[test]
fn n11_socket_of_outside_does_not_come_in_by_a_stream() {
    let world = World::start();
    let file = world.daemon.policy_file(&direct(""));
    let before = Seen::now(&world);
    let keeper = world.prober("kept", &direct(""));
    for with_terminal in [false, true] {
        for enter in [false, true] {
            let mut command = world.daemon.clawctl([if enter { "exec" } else { "run" }]);
            if with_terminal {
                command.arg("-t");
            }
            if enter {
                command.arg("kept");
            } else {
                command.arg("--policy").arg(&file);
            }
            command.arg("--");
            let (steps, copied) = tempted(&world, command, with_terminal);
            let kind = if with_terminal { "CHR" } else { "FIFO" };
            let taken = json!({ "step": "take", "kind": kind, "errno": ENOTSOCK });
            assert_eq!(
                steps,
                [taken.clone(), taken.clone(), taken],
                "exec: {enter}"
            );
            assert_eq!(copied, if with_terminal { "" } else { "xhello" });
        }
    }
    drop(keeper);
    assert_eq!(Seen::now(&world), before, "the internet saw it");
    // They were good for something.
    let [_, talk] = outside(&world);
    UdpSocket::from(talk).send(b"ping").unwrap();
    assert_ne!(Seen::now(&world), before);
}

/// Speaks the API itself and hands these in as a command's streams; what clawd said.
fn hand_in(world: &World, path: &str, body: &Value, streams: [BorrowedFd<'_>; 3]) -> Value {
    let socket = &world.daemon.paths().socket;
    let mut api = UnixStream::connect(socket).unwrap();
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: clawd\r\nConnection: upgrade\r\nUpgrade: clawd-run/1\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    api.write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(api.try_clone().unwrap()).lines();
    let mut line = || lines.next().expect("an answer").unwrap();
    assert_eq!(line(), "HTTP/1.1 101 Switching Protocols");
    while !line().is_empty() {}
    let (_status, write) = io::pipe().unwrap();
    let [stdin, stdout, stderr] = streams;
    hand_over(&api, b'F', &[stdin, stdout, stderr, write.as_fd()]);
    serde_json::from_str(&line()).unwrap()
}

#[test]
fn n11_descriptors_that_lead_out_are_not_taken_in() {
    let world = World::start();
    let _keeper = world.prober("kept", &direct(""));
    let null = File::open("/dev/null").unwrap();
    let (unix, _other) = UnixStream::pair().unwrap();
    let [tcp, udp] = outside(&world);
    let root = File::open("/root").unwrap();
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let unfit = [
        (unix.as_fd(), "is a socket"),
        (tcp.as_fd(), "is a socket"),
        (udp.as_fd(), "is a socket"),
        (root.as_fd(), "is a directory"),
        (epoll.as_fd(), "is a handle of the kernel's"),
    ];
    let command = json!(["true"]);
    let run = json!({
        "policy": { "file": "p", "text": closed() }, "command": command, "cwd": "/"
    });
    let enter = json!({ "command": command });
    for (number, (fd, want)) in unfit.into_iter().enumerate() {
        for (path, body) in [("/v1/sandboxes", &run), ("/v1/sandboxes/kept/exec", &enter)] {
            let mut streams = [null.as_fd(); 3];
            streams[number % 3] = fd;
            let told = hand_in(&world, path, body, streams);
            assert_eq!(told["event"], "failed", "{path}: {told}");
            assert_eq!(told["exit_code"], 125, "{path}: {told}");
            let message = told["message"].as_str().unwrap_or_default();
            assert!(message.contains(want), "{path}: {told}");
        }
    }
    let told = hand_in(&world, "/v1/sandboxes/kept/exec", &enter, [null.as_fd(); 3]);
    assert_eq!(told["event"], "started", "{told}");
    let audit = world.daemon.audit();
    let refused = |activity: &str| {
        let of = audit.iter().filter(|record| record["activity"] == activity);
        of.count()
    };
    assert_eq!(refused("sandbox_refused"), unfit.len(), "{audit:?}");
    assert_eq!(refused("entry_refused"), unfit.len(), "{audit:?}");
}

#[test]
fn n11_only_the_three_streams_come_along() {
    let world = World::start();
    // clawctl has more open.
    let script = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))";
    let policy = closed();
    let command = world
        .daemon
        .run_command(policy, None, &[PYTHON, "-I", "-c", script]);
    let output = Command::new("sh")
        .args(["-c", "exec 7</etc/passwd 8</root; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "[0, 1, 2, 3]\n", "{output:?}");
    // A datagram socket has no stream of bytes to copy.
    let mut command = world.daemon.run_command(policy, None, &["true"]);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = command.stdin(OwnedFd::from(datagrams)).output().unwrap();
    assert_eq!(code(&output), 125, "{output:?}");
    assert!(
        text(&output.stderr).contains("stdin is a socket"),
        "{output:?}"
    );
}

/// Both ends of a connection, by TCP and by a unix socket.
fn connections() -> [(OwnedFd, OwnedFd); 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let (our_unix, their_unix) = UnixStream::pair().unwrap();
    // Whoever shares it may have set this.
    their_unix.set_nonblocking(true).unwrap();
    [
        (ours.into(), theirs.into()),
        (our_unix.into(), their_unix.into()),
    ]
}

/// `clawctl` with all three streams at this socket, as inetd would start it.
fn at_socket(mut command: Command, socket: OwnedFd) -> Child {
    command
        .stdin(socket.try_clone().unwrap())
        .stdout(socket.try_clone().unwrap())
        .stderr(socket);
    command.spawn().unwrap()
}

#[test]
fn n11_streams_that_are_sockets_carry_every_byte_and_every_end() {
    const BYTES: usize = 3 << 20;
    let world = World::start();
    for (ours, theirs) in connections() {
        // The command hears the end of its input, and says the rest afterwards.
        let script = "cat; echo er''ror >&2; echo do''ne";
        let command = world
            .daemon
            .run_command(closed(), None, &["sh", "-c", script]);
        let mut child = at_socket(command, theirs);
        let bytes: Vec<u8> = (0..=250).cycle().take(BYTES).collect();
        let (reader, sent) = (File::from(ours.try_clone().unwrap()), bytes.clone());
        let writer = thread::spawn(move || {
            File::from(ours.try_clone().unwrap())
                .write_all(&sent)
                .unwrap();
            rustix::net::shutdown(&ours, rustix::net::Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        let mut reader = reader;
        reader.read_to_end(&mut heard).unwrap();
        writer.join().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(heard.starts_with(&bytes), "{} bytes", heard.len());
        assert_eq!(&heard[BYTES..], b"error\ndone\n");
    }
    for (ours, theirs) in connections() {
        // Nobody hears it any more.
        let command = world.daemon.run_command(closed(), None, &["yes"]);
        let mut child = at_socket(command, theirs);
        File::from(ours).read_exact(&mut [0; 2]).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(BROKEN_PIPE));
    }
}

#[test]
fn n11_copying_ends_with_the_command() {
    let world = World::start();
    let _keeper = world.prober("kept", &direct(""));
    for (ours, theirs) in connections() {
        // What stays behind has the output open, and writes; nothing comes in, and no end of it.
        let script = "head -c 100000 /dev/zero; yes '' & exit 7";
        let mut command = world.daemon.clawctl(["exec", "kept", "--"]);
        command.args(["sh", "-c", script]);
        let mut child = at_socket(command, theirs);
        let mut heard = Vec::new();
        File::from(ours).read_to_end(&mut heard).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert!(heard.starts_with(&[0; 100_000]), "{} bytes", heard.len());
    }
    // A signal ends the wait for somebody who does not read.
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let mut command = world.daemon.clawctl(["exec", "kept", "--"]);
    let stop = "head -c 100000000 /dev/zero & sleep 1; kill $!";
    command.args(["sh", "-c", stop]);
    let mut child = at_socket(command, theirs.into());
    thread::sleep(std::time::Duration::from_secs(2));
    assert!(
        child.try_wait().unwrap().is_none(),
        "there is more to write"
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
}
