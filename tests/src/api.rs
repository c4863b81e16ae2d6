//! Requests of the control API without a `clawctl` for each.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

/// How long an answer may take; emulated machines are slow.
const DEADLINE: Duration = Duration::from_secs(120);
/// The byte that carries descriptors (`DESCRIPTORS_BYTE` of the control API).
const DESCRIPTORS_BYTE: u8 = b'F';

/// A connection to clawd, used for one request after the other.
#[derive(Debug)]
pub struct Api(BufReader<UnixStream>);

/// A start whose request clawd has answered: it has a name.
#[derive(Debug)]
pub struct Begun(UnixStream);

impl Api {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request; returns the answer's status code and body.
    ///
    /// # Errors
    /// The connection ends, or the answer is none.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        self.send(method, path, "", body)?;
        let (status, len_bytes) = self.head()?;
        let mut bytes = vec![0; len_bytes];
        self.0.read_exact(&mut bytes)?;
        Ok((status, serde_json::from_slice(&bytes)?))
    }

    /// Puts a policy in force.
    ///
    /// # Errors
    /// As [`Api::ask`], or clawd refuses it.
    pub fn push(&mut self, sandbox: &str, policy: &str) -> anyhow::Result<Value> {
        let body = json!({ "policy": { "file": "pushed.yaml", "text": policy } });
        let path = format!("/v1/sandboxes/{sandbox}/policy");
        let (status, answer) = self.ask("POST", &path, Some(&body))?;
        anyhow::ensure!(status == 200, "{status}: {answer}");
        Ok(answer)
    }

    /// Asks for a detached sandbox; returns when the start has its name.
    ///
    /// # Errors
    /// As [`Api::ask`], or clawd refuses it.
    pub fn begin_run(mut self, name: &str, policy: &str, argv: &[&str]) -> anyhow::Result<Begun> {
        let body = json!({
            "name": name,
            "policy": { "file": "run.yaml", "text": policy },
            "command": argv,
            "cwd": "/",
            "detach": true,
        });
        let upgrade = "Connection: Upgrade\r\nUpgrade: clawd-run/1\r\n";
        self.send("POST", "/v1/sandboxes", upgrade, Some(&body))?;
        let (status, len_bytes) = self.head()?;
        anyhow::ensure!(status == 101, "{status}, {len_bytes} bytes");
        Ok(Begun(self.0.into_inner()))
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: Option<&Value>,
    ) -> io::Result<()> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let len_bytes = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: clawd\r\n{headers}Content-Length: {len_bytes}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes())
    }

    /// Reads an answer's head: its status, and how many bytes follow.
    fn head(&mut self) -> anyhow::Result<(u16, usize)> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("clawd hung up")?.parse()?;
        let mut len_bytes = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status, len_bytes));
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                len_bytes = value.trim().parse()?;
            }
        }
    }
}

impl Begun {
    /// Hands over the command's streams: after that it starts.
    ///
    /// # Errors
    /// clawd has hung up.
    pub fn hand_over(&self) -> anyhow::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (_reader, status) = io::pipe()?;
        let fds = [null.as_fd(), null.as_fd(), null.as_fd(), status.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let byte = [DESCRIPTORS_BYTE];
        sendmsg(
            &self.0,
            &[IoSlice::new(&byte)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// What clawd says of it until it hangs up: one line, or nothing.
    ///
    /// # Errors
    /// Nothing comes in time, or something else than a line of JSON.
    pub fn outcome(mut self) -> anyhow::Result<Option<Value>> {
        let mut said = String::new();
        self.0.read_to_string(&mut said)?;
        let line = said.lines().next();
        Ok(line.map(serde_json::from_str).transpose()?)
    }
}
