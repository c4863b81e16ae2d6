//! Answers of a policy to many questions, one a line.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use clawd_audit::escape::escape_json;
use clawd_control::ExitCode;
use clawd_policy::{Explainer, Protocol, Question, Who, parse_sha256};
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, output::json as to_json};

/// Bytes of a line: a path has 4,096 at most, and few programs have more than a few ancestors.
const LINE_BYTES: u64 = 1 << 20;

/// A question as a line has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    binary: PathBuf,
    #[serde(default)]
    ancestors: Vec<PathBuf>,
    sha256: Option<String>,
    host: String,
    port: u16,
    #[serde(default)]
    protocol: Transport,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Transport {
    #[default]
    Tcp,
    Udp,
}

/// The answer to a line.
#[derive(Debug, Serialize)]
struct Reply<'a> {
    allowed: bool,
    policy: Option<&'a str>,
    reason: &'a str,
}

/// What a line gets that is no question.
#[derive(Debug, Serialize)]
struct Refusal {
    error: String,
    line: u64,
}

/// Answers the lines of a file, `-` for standard input. Each is answered before the next is waited for.
/// The exit code is 0 if all were questions.
pub(super) fn batch(explainer: &mut Explainer, file: &Path) -> Result<u8, Failure> {
    let shown = file.display();
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file);
        Box::new(opened.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?)
    };
    let output = BufWriter::new(io::stdout().lock());
    answer_all(explainer, BufReader::new(input), output).map_err(|error| {
        Failure::failed(format!("cannot answer the questions of {shown}: {error}"))
    })
}

fn answer_all(
    explainer: &mut Explainer,
    mut input: BufReader<impl Read>,
    mut output: impl Write,
) -> io::Result<u8> {
    let mut code = ExitCode::Ok;
    let mut text = Vec::new();
    for line in 1_u64.. {
        if input.buffer().is_empty() {
            // Whoever writes the questions may wait for the answers.
            output.flush()?;
        }
        text.clear();
        let read = (&mut input).take(LINE_BYTES).read_until(b'\n', &mut text)?;
        if read == 0 {
            break;
        }
        if text.last() != Some(&b'\n') && text.len() as u64 == LINE_BYTES {
            let message = format!("line {line} is longer than {LINE_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        match answer(explainer, &text) {
            Ok(reply) => writeln!(output, "{reply}")?,
            Err(error) => {
                code = ExitCode::Usage;
                writeln!(output, "{}", to_json(&Refusal { error, line }))?;
            }
        }
    }
    output.flush()?;
    Ok(code.code())
}

/// The answer to one line, as JSON.
fn answer(explainer: &mut Explainer, text: &[u8]) -> Result<String, String> {
    let asked: Asked = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let hash = |text: &str| parse_sha256(text).ok_or("`sha256` is not 64 hexadecimal digits");
    let question = Question {
        who: Who {
            binary: asked.binary,
            sha256: asked.sha256.as_deref().map(hash).transpose()?,
            ancestors: asked.ancestors,
        },
        host: asked.host,
        port: asked.port,
        protocol: match asked.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        },
    };
    let answer = explainer.decide(&question);
    let answer = answer.map_err(|error| error.to_string())?;
    let reply = Reply {
        allowed: answer.allowed,
        policy: explainer.policy_of(&answer),
        reason: answer.reason,
    };
    let json = serde_json::to_string(&reply).map_err(|error| error.to_string())?;
    Ok(escape_json(json))
}

#[cfg(test)]
mod tests;
