//! What clawctl reads from its own environment.

use std::{env, path::PathBuf};

use clawd_control::SOCKET_VARIABLE;

/// Characters of the longest terminal name that is handed on.
const TERM_CHARS: usize = 64;

/// The socket that `CLAWD_SOCKET` names, if it is set and not empty.
pub(crate) fn socket() -> Option<PathBuf> {
    let path = env::var_os(SOCKET_VARIABLE)?;
    (!path.is_empty()).then(|| path.into())
}

/// The terminal's name, if it is one: it is a look-up key of terminfo's files.
pub(crate) fn term() -> Option<String> {
    env::var("TERM").ok().filter(|term| is_term(term))
}

fn is_term(term: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    let first = term.as_bytes().first();
    first.is_some_and(u8::is_ascii_alphanumeric)
        && term.len() <= TERM_CHARS
        && term.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::is_term;

    #[test]
    fn term_is_handed_on_only_if_it_is_a_plain_name() {
        for term in ["xterm-256color", "linux", "screen.xterm+x"] {
            assert!(is_term(term), "{term:?}");
        }
        let long = "x".repeat(65);
        for term in [
            "",
            "../../x",
            "/tmp/x",
            "a/b",
            "a b",
            "a\n",
            ".x",
            long.as_str(),
        ] {
            assert!(!is_term(term), "{term:?}");
        }
    }
}
