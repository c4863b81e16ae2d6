//! Writing to the terminal: nothing that comes from elsewhere may steer it.

use std::io::{self, Write};

use clawd_audit::escape::{escape_json, steers};
use serde::Serialize;

use crate::failure::Failure;

/// `text` on one line with control characters, and characters that reorder or hide text, escaped.
pub(crate) fn shown(text: &str) -> String {
    escape(text, |_| false)
}

/// Like [`shown`], but keeps line breaks: for messages.
pub(crate) fn shown_lines(text: &str) -> String {
    escape(text, |c| c == '\n')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) && !keep(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Digits of a hash that are shown to people; `--json` has them all.
const SHA256_DIGITS: usize = 12;

/// The first digits of a hash, fit for a terminal.
pub(crate) fn shown_hash(sha256: &str) -> String {
    let digits: String = sha256.chars().take(SHA256_DIGITS).collect();
    shown(&digits)
}

/// One line of JSON, fit for a terminal.
///
/// A value that has no JSON becomes `null`; the API's types all have.
pub(crate) fn json<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    escape_json(json)
}

/// Writes `text` and a line break to standard output.
///
/// # Errors
/// The reader is gone, or the disk full.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))
}

/// Writes `text` and a line break to standard error, where it is the last resort.
pub(crate) fn complain(text: &str) {
    // Nobody is left to tell if standard error is gone; the exit code still tells.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{json, shown, shown_hash, shown_lines, steers};

    proptest! {
        #[test]
        fn shown_text_never_steers(text in any::<String>()) {
            prop_assert!(!shown(&text).chars().any(steers));
            prop_assert!(!json(&text).chars().any(steers));
            prop_assert!(!shown_hash(&text).chars().any(steers));
            prop_assert!(!shown_lines(&text).chars().any(|c| steers(c) && c != '\n'));
        }
    }

    #[test]
    fn shown_text_keeps_what_is_harmless() {
        assert_eq!(shown("/usr/bin/é 日本"), "/usr/bin/é 日本");
        assert_eq!(shown("a\u{1b}[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
        assert_eq!(shown_lines("a\nb\r"), "a\nb\\r");
    }
}
