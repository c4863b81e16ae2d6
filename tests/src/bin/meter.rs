//! Times what a program in a sandbox does often: the same program measures inside and outside.
//!
//! With `serve ADDRESS` it takes connections one after the other and reads each to its end, and datagrams
//! there and at the next port, which it never looks at: once they find no room the kernel drops them. With
//! `dial ADDRESS` it connects a UDP socket and ends: with 0, or with [`DENIED`]. Without arguments it
//! does one job a line of standard input and answers with the nanoseconds that it took
//! (`CLOCK_MONOTONIC`), for `first` with how many of its programs were denied, or with `error` and
//! why. What it sets up before a job is not timed.
#![forbid(unsafe_code)]

use std::{
    env,
    fs::File,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, ExitCode},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::{net::sockopt::set_socket_linger, thread::CpuSet};
use sha2::{Digest as _, Sha256};

/// What is asked of nginx; it closes the connection after its answer.
const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: meter\r\nConnection: close\r\n\r\n";
/// What a datagram carries.
const DATAGRAM: &[u8] = &[0x5a; 32];
/// Bytes that one read or write moves.
const CHUNK_BYTES: usize = 128 * 1024;
/// Connections that may wait: a server that the scheduler lets wait for some time must not cost a
/// client the second after which a lost SYN is repeated.
const BACKLOG: i32 = 4096;

/// Exit code of `dial` where the kernel refuses the connect.
const DENIED: u8 = 77;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => obey(),
        ["serve", address] => serve(address),
        ["dial", address] => match dial(address) {
            Err(error) if is_denial(&error) => return ExitCode::from(DENIED),
            dialled => dialled,
        },
        _ => Err(anyhow::anyhow!(
            "usage: clawd-meter [serve ADDRESS | dial ADDRESS]"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does one job a line until the input ends. In a session of its own, as every sandbox is: the
/// scheduler gives each session the same share of a busy machine (`CONFIG_SCHED_AUTOGROUP`), and both
/// meters should have the same.
fn obey() -> anyhow::Result<()> {
    if let Err(error) = rustix::process::setsid() {
        ensure!(
            error == rustix::io::Errno::PERM,
            "cannot begin a session: {error}"
        );
        // It leads one already.
    }
    let mut output = io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    for line in io::stdin().lock().lines() {
        match job(&line?) {
            Ok(answer) => writeln!(output, "{answer}")?,
            Err(error) => writeln!(output, "error {error:#}")?,
        }
        output.flush()?;
    }
    Ok(())
}

fn job(line: &str) -> anyhow::Result<u128> {
    let words: Vec<&str> = line.split(' ').collect();
    let elapsed = match words.as_slice() {
        ["first", program, address, count] => {
            return first_connects(program, address, number(count)?);
        }
        ["udp", address, count] => udp_connects(number(address)?, number(count)?),
        ["send", "connected", address, count] => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(number::<SocketAddr>(address)?)?;
            calls(number(count)?, || Ok(socket.send(DATAGRAM).map(drop)?))
        }
        ["send", "to", count, addresses @ ..] => sends(addresses, number(count)?),
        ["tcp", address, count] => tcp_connects(number(address)?, number(count)?),
        ["get", address, count] => gets(number(address)?, number(count)?),
        ["bulk", address, mebibytes] => bulk(number(address)?, number(mebibytes)?),
        ["exec", program, count] => execs(program, number(count)?),
        ["hash", path] => hash(path),
        ["call", "getppid", count] => calls(number(count)?, || {
            std::hint::black_box(rustix::process::getppid());
            Ok(())
        }),
        ["call", "ioctl", count] => {
            let (pipe, _writer) = io::pipe()?;
            calls(number(count)?, || {
                Ok(rustix::io::ioctl_fionread(&pipe).map(drop)?)
            })
        }
        ["pin", cpu] => pin(number(cpu)?),
        _ => bail!("no such job: {line}"),
    };
    Ok(elapsed?.as_nanos())
}

/// Any value that is written in one word.
fn number<T: FromStr>(word: &str) -> anyhow::Result<T> {
    word.parse()
        .map_err(|_unexplained| anyhow::anyhow!("{word} is not what is expected here"))
}

/// A system call that does next to nothing, again and again.
fn calls(count: u32, call: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for _ in 0..count {
        call()?;
    }
    Ok(start.elapsed())
}

fn udp_connects(address: SocketAddr, count: u32) -> anyhow::Result<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let start = Instant::now();
    for _ in 0..count {
        socket.connect(address)?;
    }
    Ok(start.elapsed())
}

/// Datagrams with an address of their own, to each of these in turn.
fn sends(addresses: &[&str], count: u32) -> anyhow::Result<Duration> {
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .map(|address| number(address))
        .collect::<anyhow::Result<_>>()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut next = addresses.iter().cycle();
    let start = Instant::now();
    for _ in 0..count {
        let address = next.next().context("no address")?;
        socket.send_to(DATAGRAM, address)?;
    }
    Ok(start.elapsed())
}

/// Closes with a reset: the closed connections of a whole run would use up all ports otherwise.
fn tcp_connects(address: SocketAddr, count: u32) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for _ in 0..count {
        let stream = TcpStream::connect(address)?;
        set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(start.elapsed())
}

fn gets(address: SocketAddr, count: u32) -> anyhow::Result<Duration> {
    let mut answer = [0; 4096];
    let start = Instant::now();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(REQUEST)?;
        let mut total = 0;
        loop {
            let length = stream.read(&mut answer[total..])?;
            if length == 0 {
                break;
            }
            total += length;
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "the server did not answer with 200"
        );
    }
    Ok(start.elapsed())
}

/// From the first byte written until the server has read the last one.
fn bulk(address: SocketAddr, mebibytes: usize) -> anyhow::Result<Duration> {
    let chunk = vec![0; CHUNK_BYTES];
    let mut stream = TcpStream::connect(address)?;
    let start = Instant::now();
    for _ in 0..mebibytes * (1024 * 1024 / CHUNK_BYTES) {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let left = stream.read(&mut [0; 1])?;
    ensure!(left == 0, "the server answered");
    Ok(start.elapsed())
}

/// Without environment: programs do more or less by what they find there.
fn execs(program: &str, count: u32) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for _ in 0..count {
        let status = Command::new(program).env_clear().status()?;
        ensure!(status.success(), "{program} ended with {status}");
    }
    Ok(start.elapsed())
}

/// Starts a program that connects at once, again and again; tells how often it was denied.
fn first_connects(program: &str, address: &str, count: u32) -> anyhow::Result<u128> {
    let mut denials = 0;
    for _ in 0..count {
        let status = Command::new(program).args(["dial", address]).status()?;
        match status.code() {
            Some(0) => {}
            Some(code) if code == i32::from(DENIED) => denials += 1,
            _ => bail!("{program} ended with {status}"),
        }
    }
    Ok(denials)
}

fn dial(address: &str) -> anyhow::Result<()> {
    let address: SocketAddr = number(address)?;
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.connect(address)?;
    Ok(())
}

fn is_denial(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Hashes a file as the exec gate does.
fn hash(path: &str) -> anyhow::Result<Duration> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let start = Instant::now();
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        hasher.update(&chunk[..length]);
    }
    std::hint::black_box(hasher.finalize());
    Ok(start.elapsed())
}

fn pin(cpu: usize) -> anyhow::Result<Duration> {
    ensure!(cpu < CpuSet::MAX_CPU, "there is no CPU {cpu}");
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    rustix::thread::sched_setaffinity(None, &cpus)?;
    Ok(Duration::ZERO)
}

fn serve(address: &str) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
    rustix::net::listen(&listener, BACKLOG)?;
    let address = listener.local_addr()?;
    let next = SocketAddr::new(address.ip(), address.port() + 1);
    let _datagrams = (UdpSocket::bind(address)?, UdpSocket::bind(next)?);
    println!("ready");
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let (mut stream, _peer) = listener.accept()?;
        // A reset ends a connection as well as its last byte does.
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
    }
}
