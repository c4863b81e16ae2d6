//! Times what a program in a sandbox does often: the same program measures inside and outside.
//!
//! With `serve ADDRESS` it takes connections one after the other and reads each to its end. Without
//! arguments it does one job a line of standard input and answers with the nanoseconds that it took
//! (`CLOCK_MONOTONIC`), or with `error` and why. What it sets up before a job is not timed.
#![forbid(unsafe_code)]

use std::{
    env,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, ExitCode},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::{net::sockopt::set_socket_linger, thread::CpuSet};

/// What is asked of nginx; it closes the connection after its answer.
const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: meter\r\nConnection: close\r\n\r\n";
/// Bytes that one read or write moves.
const CHUNK_BYTES: usize = 128 * 1024;
/// Connections that may wait: a server that the scheduler lets wait for some time must not cost a
/// client the second after which a lost SYN is repeated.
const BACKLOG: i32 = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => obey(),
        ["serve", address] => serve(address),
        _ => Err(anyhow::anyhow!("usage: clawd-meter [serve ADDRESS]")),
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
            Ok(elapsed) => writeln!(output, "{}", elapsed.as_nanos())?,
            Err(error) => writeln!(output, "error {error:#}")?,
        }
        output.flush()?;
    }
    Ok(())
}

fn job(line: &str) -> anyhow::Result<Duration> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["udp", address, count] => udp_connects(number(address)?, number(count)?),
        ["tcp", address, count] => tcp_connects(number(address)?, number(count)?),
        ["get", address, count] => gets(number(address)?, number(count)?),
        ["bulk", address, mebibytes] => bulk(number(address)?, number(mebibytes)?),
        ["exec", program, count] => execs(program, number(count)?),
        ["pin", cpu] => pin(number(cpu)?),
        _ => bail!("no such job: {line}"),
    }
}

/// Any value that is written in one word.
fn number<T: FromStr>(word: &str) -> anyhow::Result<T> {
    word.parse()
        .map_err(|_unexplained| anyhow::anyhow!("{word} is not what is expected here"))
}

fn udp_connects(address: SocketAddr, count: u32) -> anyhow::Result<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let start = Instant::now();
    for _ in 0..count {
        socket.connect(address)?;
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

fn execs(program: &str, count: u32) -> anyhow::Result<Duration> {
    let start = Instant::now();
    for _ in 0..count {
        let status = Command::new(program).status()?;
        ensure!(status.success(), "{program} ended with {status}");
    }
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
    println!("ready");
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let (mut stream, _peer) = listener.accept()?;
        // A reset ends a connection as well as its last byte does.
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
    }
}
