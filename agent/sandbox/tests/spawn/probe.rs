//! The program inside: tries what a sandbox must refuse, and says what it got.

use std::{io, process::ExitCode};

use clawd_sandbox::{Profile, denials};
use clawd_sys::{
    probe::{call_with_zeros, executable_memory},
    rustix::{
        fs::{MemfdFlags, memfd_create},
        net::{AddressFamily, Protocol, SocketType, socket},
    },
};

pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    match arguments.next().as_deref() {
        Some("denied-calls") => denied_calls(),
        Some("call") => {
            let number = arguments
                .next()
                .and_then(|text| text.parse().ok())
                .expect("a number");
            println!("{}", told(call_with_zeros(number)));
        }
        #[cfg(target_arch = "x86_64")]
        Some("int80") => println!("{}", clawd_sys::probe::getpid_by_int80()),
        Some("sockets") => sockets(),
        Some("executable-memory") => {
            for how in ["mmap", "mprotect"] {
                println!("{how} {}", told(executable_memory(how)));
            }
            let file = memfd_create("x", MemfdFlags::CLOEXEC).map(|_| 0);
            println!("memfd_create {}", told(file.map_err(Into::into)));
        }
        Some("write-and-execute") => arguments.for_each(|dir| write_and_execute(&dir)),
        Some("files") => crate::files::attempts(arguments),
        Some("thread") => {
            let answer = std::thread::spawn(|| 42).join().expect("join");
            println!("{answer}");
        }
        Some("descriptors") => {
            let mut open: Vec<_> = std::fs::read_dir("/proc/self/fd")
                .expect("fd")
                .map(|entry| {
                    entry
                        .expect("entry")
                        .file_name()
                        .into_string()
                        .expect("utf-8")
                })
                .collect();
            open.sort();
            println!("{}", open.join(" "));
        }
        Some("abstract") => {
            let name = arguments.next().expect("a name");
            let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name).expect("address");
            let got = std::os::unix::net::UnixStream::connect_addr(&address);
            println!("{}", told(got.map(|_| 0)));
        }
        other => panic!("no probe {other:?}"),
    }
    ExitCode::SUCCESS
}

fn told(result: io::Result<i64>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(-1)),
    }
}

/// Prints the calls of the deny list that are not answered with EPERM.
fn denied_calls() {
    for denial in denials(Profile::Default)
        .into_iter()
        .filter(|denial| denial.always)
    {
        let got = told(call_with_zeros(denial.number.into()));
        if got != "errno 1" {
            println!("{}: {got}", denial.call);
        }
    }
    println!("done");
}

/// Prints how a program ended that is written into `dir` first, or why it could not start.
fn write_and_execute(dir: &str) {
    let program = std::path::Path::new(dir).join("program");
    match std::fs::copy("/bin/true", &program) {
        Err(error) => println!("not written: {}", told(Err(error))),
        Ok(_) => match std::process::Command::new(&program).status() {
            Ok(status) => println!("exit {}", status.code().unwrap_or(-1)),
            Err(error) => println!("{}", told(Err(error))),
        },
    }
}

fn sockets() {
    let protocol = |number: u32| Protocol::from_raw(number.try_into().expect("not 0"));
    let (inet, inet6) = (AddressFamily::INET, AddressFamily::INET6);
    let (stream, dgram) = (SocketType::STREAM, SocketType::DGRAM);
    for (name, family, kind, protocol) in [
        ("unix", AddressFamily::UNIX, stream, None),
        ("tcp", inet, stream, None),
        ("udp6", inet6, dgram, None),
        ("route", AddressFamily::NETLINK, SocketType::RAW, None),
        ("raw", inet, SocketType::RAW, Some(protocol(1))),
        ("raw-tcp", inet, SocketType::RAW, Some(protocol(6))),
        ("raw-udp6", inet6, SocketType::RAW, Some(protocol(17))),
        ("ping", inet, dgram, Some(protocol(1))),
        ("ping6", inet6, dgram, Some(protocol(58))),
        ("sctp", inet, SocketType::SEQPACKET, None),
        ("udplite", inet, dgram, Some(protocol(136))),
        (
            "audit",
            AddressFamily::NETLINK,
            SocketType::RAW,
            Some(protocol(9)),
        ),
        ("packet", AddressFamily::PACKET, SocketType::RAW, None),
        (
            "alg",
            AddressFamily::from_raw(38),
            SocketType::SEQPACKET,
            None,
        ),
        ("vsock", AddressFamily::from_raw(40), stream, None),
        ("mptcp", inet, stream, Some(protocol(262))),
    ] {
        let got = socket(family, kind, protocol)
            .map(|_| 0)
            .map_err(Into::into);
        println!("{name} {}", told(got));
    }
}
