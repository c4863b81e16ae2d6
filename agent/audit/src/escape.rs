//! Characters that steer whoever shows them: escaped in JSON, where sandboxes choose file names.
//!
//! JSON itself escapes only those below U+0020. A terminal obeys more, and a reader is misled by
//! text that is reordered or not seen.

/// Whether `c` is a control character, or one of Unicode's invisible, line-breaking and
/// bidirectional controls.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The same JSON with every character that [`steers`] written as `\uXXXX`.
///
/// `json` must be without line breaks and tabs between its parts, as serde writes it: then such
/// characters stand only within strings, where the escape means the same.
#[must_use]
pub fn escape_json(json: String) -> String {
    if !json.chars().any(steers) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    let mut units = [0; 2];
    for c in json.chars() {
        if !steers(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{escape_json, steers};

    proptest! {
        #[test]
        fn json_escaped_means_the_same_and_does_not_steer(
            text in "([\u{7f}-\u{9f}\u{202e}\u{e0041}\u{feff}\\\\\"]|.){0,20}"
        ) {
            let json = serde_json::to_string(&text).expect("serialises");
            let escaped = escape_json(json);
            prop_assert!(!escaped.chars().any(steers));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).expect("reads"), text);
        }
    }

    #[test]
    fn json_escapes_what_terminals_obey() {
        let escaped = escape_json("\"\u{9b}31m \u{e0041}é\"".to_owned());
        assert_eq!(escaped, r#""\u009b31m \udb40\udc41é""#);
    }
}
