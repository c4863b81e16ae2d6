//! Text from a policy file, made fit for a terminal or a log.
//!
//! A policy may come from somebody else. Control characters in it could move the cursor or recolour
//! the screen, and Unicode's bidirectional controls could show another text than the one in force.

use std::fmt::Write as _;

/// Characters of a quoted value in a message; the place in the file shows the rest.
const MAX_QUOTED_CHARS: usize = 80;

/// Whether a character would change how the text around it is shown, or not be seen at all.
pub(crate) fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Appends one character, escaped if it is unfit. Returns how many characters that took.
pub(crate) fn push_escaped(out: &mut String, c: char) -> usize {
    if !is_unfit(c) {
        out.push(c);
        return 1;
    }
    let before = out.len();
    out.extend(c.escape_default());
    out.len() - before // escapes are ASCII
}

/// The whole text, escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    out
}

/// A value from the file for use in a message: escaped, cut, between backquotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for c in text.chars().take(MAX_QUOTED_CHARS) {
        push_escaped(&mut out, c);
    }
    let left_out = text.chars().count().saturating_sub(MAX_QUOTED_CHARS);
    out.push('`');
    if left_out > 0 {
        // Writing to a String cannot fail.
        write!(out, " (and {left_out} more characters)").unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{escaped, quoted};

    #[test]
    fn escaped_shows_controls_and_bidi_marks() {
        assert_eq!(escaped("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escaped("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
        assert_eq!(escaped("tab\there"), "tab\\there");
        assert_eq!(escaped("größe 日本"), "größe 日本");
    }

    #[test]
    fn quoted_is_cut() {
        assert_eq!(quoted("x"), "`x`");
        assert!(quoted(&"x".repeat(90)).ends_with("` (and 10 more characters)"));
    }
}
