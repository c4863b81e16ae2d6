//! One line of `agent.sh`: an attempt, and what came of it as the program saw it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

/// The system call that names the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Connect,
    Sendmsg,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// What the agent reports about one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Its name in `agent.sh`.
    pub(super) name: String,
    /// The program, as the script calls it.
    pub(super) program: PathBuf,
    pub(super) call: Call,
    pub(super) protocol: Protocol,
    /// The destination as the program wrote it, so perhaps IPv4 mapped to IPv6.
    pub(super) to: SocketAddr,
    /// The program's exit code.
    pub(super) exit: i32,
    /// The name of the error, if there was one.
    pub(super) errno: Option<String>,
    /// From the call to its outcome, in microseconds.
    pub(super) elapsed_us: u64,
    /// The status of the HTTP answer, 0 for none.
    pub(super) http_status: u16,
    /// The first line of what the server said, with `_` for blanks.
    pub(super) answer: String,
}

const MARK: &str = "attempt ";

/// How the server answers the agent: with the file `/small`, or with the datagram that it got.
const PAGE: &str = "small_file";
const DATAGRAM: &str = "small_datagram";

// === impl Protocol ===

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// Reads a line; `None` if it is no report of an attempt.
    ///
    /// # Errors
    /// It begins like one and is none: the text names the field.
    pub(super) fn from_line(line: &str) -> anyhow::Result<Option<Self>> {
        let Some(fields) = line.strip_prefix(MARK) else {
            return Ok(None);
        };
        Self::from_fields(fields)
            .with_context(|| format!("cannot read the agent's line `{line}`"))
            .map(Some)
    }

    fn from_fields(text: &str) -> anyhow::Result<Self> {
        let mut fields = BTreeMap::new();
        for word in text.split(' ') {
            let (name, value) = word
                .split_once('=')
                .with_context(|| format!("`{word}` is no field"))?;
            ensure!(
                fields.insert(name, value).is_none(),
                "`{name}` is there twice"
            );
        }
        let field = |name: &str| {
            fields
                .get(name)
                .copied()
                .with_context(|| format!("no field `{name}`"))
        };
        let address: IpAddr = field("address")?.parse()?;
        Ok(Self {
            name: field("name")?.to_owned(),
            program: field("program")?.into(),
            call: match field("call")? {
                "connect" => Call::Connect,
                "sendmsg" => Call::Sendmsg,
                other => bail!("no call `{other}`"),
            },
            protocol: match field("protocol")? {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                other => bail!("no protocol `{other}`"),
            },
            to: SocketAddr::new(address, field("port")?.parse()?),
            exit: field("exit")?.parse()?,
            errno: Some(field("errno")?)
                .filter(|name| *name != "-")
                .map(str::to_owned),
            elapsed_us: field("us")?.parse()?,
            http_status: field("http")?.parse()?,
            answer: field("answer")?.to_owned(),
        })
    }

    /// The destination, whatever its spelling.
    pub(super) fn canonical_to(&self) -> SocketAddr {
        SocketAddr::new(self.to.ip().to_canonical(), self.to.port())
    }

    /// Whether the server's whole and right answer came.
    pub(super) fn has_reached(&self) -> bool {
        let (status, answer) = match self.protocol {
            Protocol::Tcp => (200, PAGE),
            Protocol::Udp => (0, DATAGRAM),
        };
        self.exit == 0
            && self.errno.is_none()
            && self.http_status == status
            && self.answer == answer
    }

    /// Whether the kernel refused the call itself, and nothing came.
    pub(super) fn was_refused(&self) -> bool {
        self.exit != 0
            && self.errno.as_deref() == Some("EPERM")
            && self.http_status == 0
            && self.answer.is_empty()
    }

    /// The outcome in a few words.
    pub(super) fn outcome(&self) -> String {
        let what = match (&self.errno, self.protocol) {
            (Some(errno), _) => errno.clone(),
            (None, Protocol::Tcp) if self.exit == 0 => format!("HTTP {}", self.http_status),
            (None, Protocol::Udp) if self.exit == 0 => "echo".to_owned(),
            (None, _) => format!("exit {}", self.exit),
        };
        format!("{what}, {}", milliseconds(self.elapsed_us))
    }
}

fn milliseconds(us: u64) -> String {
    let tenths = us.saturating_add(50) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::demo) const REACHED: &str = "attempt name=mapped program=/usr/bin/curl call=connect \
        protocol=tcp address=::ffff:192.0.2.10 port=80 exit=0 errno=- us=1249 http=200 answer=small_file";
    pub(in crate::demo) const REFUSED: &str = "attempt name=udp-send program=/usr/bin/python3 call=sendmsg \
        protocol=udp address=192.0.2.10 port=7000 exit=1 errno=EPERM us=51 http=000 answer=";

    pub(in crate::demo) fn read(line: &str) -> Attempt {
        Attempt::from_line(line).unwrap().unwrap()
    }

    #[test]
    fn line_of_an_answered_attempt_is_read() {
        let attempt = read(REACHED);
        assert!(attempt.has_reached() && !attempt.was_refused());
        assert_eq!(attempt.outcome(), "HTTP 200, 1.2 ms");
        assert_eq!(attempt.to.to_string(), "[::ffff:192.0.2.10]:80");
        assert_eq!(attempt.canonical_to().to_string(), "192.0.2.10:80");
    }

    #[test]
    fn line_of_a_refused_attempt_is_read() {
        let attempt = read(REFUSED);
        assert!(attempt.was_refused() && !attempt.has_reached());
        assert_eq!(
            (attempt.call, attempt.protocol),
            (Call::Sendmsg, Protocol::Udp)
        );
        assert_eq!(attempt.outcome(), "EPERM, 0.1 ms");
    }

    #[test]
    fn outcome_that_is_neither_counts_as_neither() {
        for (from, to) in [
            ("answer=small_file", "answer=other"),
            ("http=200", "http=404"),
            ("exit=0", "exit=7"),
            ("errno=-", "errno=ETIMEDOUT"),
        ] {
            let attempt = read(&REACHED.replace(from, to));
            assert!(!attempt.has_reached() && !attempt.was_refused(), "{to}");
        }
        for (from, to) in [
            ("errno=EPERM", "errno=ENETUNREACH"),
            ("exit=1", "exit=0"),
            ("answer=", "answer=x"),
        ] {
            let attempt = read(&REFUSED.replace(from, to));
            assert!(!attempt.has_reached() && !attempt.was_refused(), "{to}");
        }
    }

    #[test]
    fn other_lines_are_passed_over_and_broken_ones_refused() {
        assert_eq!(Attempt::from_line("hello").unwrap(), None);
        for broken in [
            "attempt ".to_owned(),
            REACHED.replace(" us=1249", ""),
            REACHED.replace("us=1249", "us=-1"),
            REACHED.replace("call=connect", "call=bind"),
            REACHED.replace("::ffff:", "::fffff:"),
            format!("{REACHED} exit=0"),
        ] {
            assert!(Attempt::from_line(&broken).is_err(), "{broken}");
        }
    }
}
