//! Which lines of a policy's text may hold secrets: those of `env`. Errors and warnings, which go to
//! terminals and logs, do not show them.
//!
//! Told from the text alone, because it must be told of a file that is no YAML too. In doubt a line
//! counts as one of `env`.

/// Keys of a policy that end what is within `env`.
const OTHER_KEYS: [&str; 9] = [
    "version",
    "filesystem_policy",
    "landlock",
    "process",
    "network",
    "env_allow",
    "ingress",
    "rootfs",
    "network_policies",
];

/// The lines of a text, each with whether values of `env` may be in it.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut within: Option<usize> = None;
    // YAML ends lines at LF, CR LF and CR.
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
        .map(move |line| {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            let ends = within.is_some_and(|outer| {
                indent <= outer && OTHER_KEYS.iter().any(|key| begins_with_key(line, key))
            });
            if ends {
                within = None;
            }
            if has_key_env(line) {
                within = Some(within.map_or(indent, |outer| outer.min(indent)));
            }
            (line, within.is_some())
        })
}

fn begins_with_key(line: &str, key: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '"', '\'']);
    line.strip_prefix(key).is_some_and(ends_key)
}

/// Whether a colon follows, behind quotes and blanks at most.
fn ends_key(rest: &str) -> bool {
    rest.trim_start_matches(['"', '\'', ' ', '\t'])
        .starts_with(':')
}

/// Whether a key `env` is anywhere in the line: it may be within braces.
fn has_key_env(line: &str) -> bool {
    line.match_indices("env").any(|(at, word)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + word.len()..).unwrap_or_default();
        let begins = before
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '_');
        // `? env` is a key too, and has its value on the next line.
        let explicit = before
            .trim_end_matches(['"', '\'', ' ', '\t'])
            .ends_with('?');
        begins && (ends_key(after) || explicit)
    })
}

/// A message of the YAML library's about a place within `env`, without what is written there.
pub(crate) fn without_values(message: String, text: &str) -> String {
    let parts = |text: &str| -> Vec<String> {
        let parts = text.split(|c: char| c.is_whitespace() || "'\"`{}[]:,()".contains(c));
        let parts = parts.filter(|part| part.len() > 2);
        parts.map(str::to_owned).collect()
    };
    let hidden: Vec<String> = lines(text)
        .filter(|(_, secret)| *secret)
        .flat_map(|(line, _)| parts(line))
        .collect();
    if parts(&message).iter().any(|part| hidden.contains(part)) {
        return "(what is wrong quotes a part of `env`, and is not shown)".to_owned();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::{lines, without_values};

    fn secret(text: &str) -> Vec<bool> {
        lines(text).map(|(_, secret)| secret).collect()
    }

    #[test]
    fn lines_of_env_are_secret_and_others_are_not() {
        let text = "version: 2\nenv:\n  A: b\n\n  C: |\n d\nnetwork: { mode: none }\nprocess: {}";
        let want = [false, true, true, true, true, true, false, false];
        assert_eq!(secret(text), want);
        assert_eq!(
            secret("env_allow: [A]\nenvironment: x\nmy_env: y"),
            [false; 3]
        );
        assert_eq!(
            secret("{version: 2, \"env\" : {A: b},\nnetwork: x}"),
            [true, false]
        );
        assert_eq!(
            secret("{version: 2,\n 'env': {A: b,\n C: d},\nprocess: {}}"),
            [false, true, true, false]
        );
    }

    #[test]
    fn lines_after_env_are_secret_until_a_key_that_is_known() {
        assert_eq!(
            secret("env:\n  A: \"b\nc: d\nlandlock: {}"),
            [true, true, true, false]
        );
        assert_eq!(secret("? env\n: A"), [true, true]);
        assert_eq!(secret("env:\r  A: b\r\nversion: 2"), [true, true, false]);
        // Deeper than `env` it is a value, whatever it looks like.
        assert_eq!(secret("env:\n  version: b"), [true, true]);
    }

    #[test]
    fn message_with_a_part_of_env_is_not_shown() {
        let text = "env: { A: hunter2 }\nversion: 2";
        assert!(!without_values("bad value 'hunter2'".to_owned(), text).contains("hunter2"));
        assert_eq!(
            without_values("unclosed '['".to_owned(), text),
            "unclosed '['"
        );
    }
}
