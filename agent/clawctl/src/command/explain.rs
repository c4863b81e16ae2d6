//! Checks the arguments of `policy explain`.

use std::path::PathBuf;

use clawd_control::SandboxName;
use clawd_policy::{Protocol, Question, Who, parse_sha256};

use super::name;
use crate::{
    arguments::{ExplainArguments, Transport},
    failure::Failure,
};

/// What to ask of which policy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExplainCommand {
    pub(crate) policy: PolicyOf,
    pub(crate) asked: Asked,
}

/// Where a policy is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PolicyOf {
    File(PathBuf),
    Sandbox(SandboxName),
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    One(Question),
    /// Questions in a file, `-` for standard input.
    Batch(PathBuf),
}

/// Checks what was typed.
pub(super) fn check_explain(typed: ExplainArguments) -> Result<ExplainCommand, Failure> {
    let policy = match (typed.policy, typed.sandbox) {
        (Some(file), None) => PolicyOf::File(file),
        (None, Some(sandbox)) => PolicyOf::Sandbox(name(&sandbox)?),
        _ => return Err(Failure::usage("name one policy: `--policy` or `--sandbox`")),
    };
    let asked = match (typed.batch, typed.binary, typed.destination) {
        (Some(file), None, None) => Asked::Batch(file),
        (None, Some(binary), Some(destination)) => {
            let (host, port) = check_destination(&destination)?;
            Asked::One(Question {
                who: Who {
                    binary,
                    sha256: typed.sha256.as_deref().map(check_sha256).transpose()?,
                    ancestors: typed.ancestor,
                },
                host,
                port,
                protocol: match typed.protocol {
                    Some(Transport::Udp) => Protocol::Udp,
                    Some(Transport::Tcp) | None => Protocol::Tcp,
                },
            })
        }
        _ => {
            return Err(Failure::usage(
                "name a program and a destination, or `--batch`",
            ));
        }
    };
    Ok(ExplainCommand { policy, asked })
}

/// Reads a SHA-256.
fn check_sha256(text: &str) -> Result<[u8; 32], Failure> {
    parse_sha256(text).ok_or_else(|| {
        Failure::usage(format!(
            "`{text}` is not a SHA-256; write the 64 hexadecimal digits that sha256sum prints"
        ))
    })
}

/// Reads `HOST:PORT`, without judging the host.
fn check_destination(text: &str) -> Result<(String, u16), Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!(
            "`{text}` is not a destination: {why}; write 192.0.2.1:443, [2001:db8::1]:443 or example.com:443"
        ))
    };
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| wrong("it has no port"))?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number);
    let port = port.ok_or_else(|| wrong("its port is not a number from 0 to 65535"))?;
    let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
        Some(Some(inner)) if inner.contains(':') => inner,
        Some(_) => return Err(wrong("what is between brackets is no IPv6 address")),
        None if host.contains(':') => {
            return Err(wrong("an IPv6 address goes between brackets"));
        }
        None if host.is_empty() => return Err(wrong("it has no host")),
        None => host,
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Asked, ExplainCommand, PolicyOf, check_destination};
    use crate::command::{Command, tests::check};

    /// What is typed behind `policy explain`.
    fn explain(line: &str) -> Result<Command, u8> {
        let words = ["policy", "explain"];
        check(
            &words
                .into_iter()
                .chain(line.split_whitespace())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn explain_needs_one_policy_and_one_kind_of_question() {
        for line in [
            "",
            "--policy f",
            "--policy f /bin/x",
            "--policy f /bin/x 192.0.2.1",
            "/bin/x 192.0.2.1:1",
            "--policy f --sandbox a /bin/x 192.0.2.1:1",
            "--sandbox A /bin/x 192.0.2.1:1",
            "--policy f --batch b /bin/x 192.0.2.1:1",
            "--policy f --batch b --protocol udp",
            "--policy f --batch b --ancestor /a",
            "--policy f --protocol icmp /bin/x 192.0.2.1:1",
            "--policy f --sha256 ab /bin/x 192.0.2.1:1",
        ] {
            assert_eq!(explain(line).map(|_| ()), Err(2), "{line}");
        }
        assert_eq!(check(&["policy", "pull"]).map(|_| ()), Err(2));
        assert_eq!(check(&["policy", "pull", "A"]).map(|_| ()), Err(2));
    }

    #[test]
    fn explain_is_understood() {
        let line = "--sandbox a --ancestor /a --ancestor /b --protocol udp /bin/x [2001:db8::1]:53";
        let Ok(Command::PolicyExplain(ExplainCommand { policy, asked })) = explain(line) else {
            panic!("not understood");
        };
        assert!(matches!(policy, PolicyOf::Sandbox(name) if name.as_str() == "a"));
        let Asked::One(question) = asked else {
            panic!("not one question");
        };
        assert_eq!((question.host.as_str(), question.port), ("2001:db8::1", 53));
        assert_eq!(question.protocol.name(), "udp");
        assert_eq!(question.who.binary, Path::new("/bin/x"));
        assert_eq!(question.who.ancestors, [Path::new("/a"), Path::new("/b")]);
        let Ok(Command::PolicyExplain(batch)) = explain("--policy f --batch -") else {
            panic!("not understood");
        };
        assert_eq!(batch.asked, Asked::Batch("-".into()));
        let pull = check(&["policy", "pull", "a"]);
        assert!(matches!(pull, Ok(Command::PolicyPull(name, None)) if name.as_str() == "a"));
    }

    #[test]
    fn destination_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("192.0.2.1:443", "192.0.2.1", 443),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
            ("api.example.com:0", "api.example.com", 0),
        ] {
            assert_eq!(check_destination(text), Ok((host.to_owned(), port)));
        }
        for text in [
            "",
            ":443",
            "192.0.2.1",
            "192.0.2.1:",
            "192.0.2.1:+1",
            "192.0.2.1:65536",
            "192.0.2.1:http",
            "2001:db8::1:443",
            "[2001:db8::1]",
            "[2001:db8::1:443",
            "[example.com]:443",
            "[]:443",
        ] {
            let failure = check_destination(text).expect_err(text);
            assert_eq!(failure.code, 2, "{text}");
        }
    }
}
