//! What a program leaves behind when it ends.

use std::{io::Read as _, net::TcpListener, thread, time::Duration};

use crate::support::{PYTHON_ENTRY, World, code, direct, group};
use clawd_tests::Address;
use serde_json::Value;

#[test]
fn what_a_program_had_written_before_it_ended_arrives() {
    let world = World::start();
    let sink = world
        .internet
        .outside()
        .run(|| TcpListener::bind("192.0.2.10:7800").expect("free"));
    let reader = thread::spawn(move || {
        let (mut talk, _) = sink.accept().expect("a connection");
        // The window closes, and most of it waits in the sandbox's socket until the program is gone.
        thread::sleep(Duration::from_secs(2));
        let mut heard = Vec::new();
        talk.read_to_end(&mut heard).map(|_| heard.len())
    });
    let policy = direct(&group(
        "g",
        &format!("{{ host: {}, port: 7800 }}", Address::A),
        PYTHON_ENTRY,
    ));
    let script = format!(
        "
import socket
talk = socket.socket()
talk.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
talk.connect(({:?}, 7800))
talk.setblocking(False)
sent = 0
try:
    while True:
        sent += talk.send(bytes(65536))
except BlockingIOError:
    print(sent)
",
        Address::A
    );
    let output = world
        .daemon
        .run(&policy, &["/usr/bin/python3", "-I", "-c", &script]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(world.daemon.ps(), Vec::<Value>::new());
    let sent: usize = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a number");
    assert!(sent > 200_000, "{sent} bytes leave nothing to wait");
    assert_eq!(reader.join().expect("read").expect("no reset"), sent);
}
