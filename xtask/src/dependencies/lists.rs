//! The string lists of `deny.toml`; the file is ours, so this reads no more of TOML than it uses.

/// The strings of `key = [...]` in `[section]`; `None` if there is no such list.
pub(super) fn strings(text: &str, section: &str, key: &str) -> Option<Vec<String>> {
    let without_comments: Vec<&str> = text
        .lines()
        .map(|line| {
            if line.trim_start().starts_with('#') {
                ""
            } else {
                line
            }
        })
        .collect();
    let heading = format!("[{section}]");
    let start = without_comments
        .iter()
        .position(|line| line.trim() == heading)?;
    let body: Vec<&str> = without_comments
        .into_iter()
        .skip(start + 1)
        .take_while(|line| !line.starts_with('['))
        .collect();
    let opening = format!("{key} = [");
    let first = body.iter().position(|line| line.starts_with(&opening))?;
    let list = body.get(first..)?.join("\n");
    let (list, _) = list.strip_prefix(&opening)?.split_once(']')?;
    Some(
        list.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[a]\nkey = [\"wrong\"]\n\n[b]\n# key = [\"no\"]\nkey = [\n    \"one\",\n    # \"not\",\n    \"two\",\n]\nempty = []\n";

    #[test]
    fn list_of_the_right_section_is_read_without_comments() {
        assert_eq!(strings(TEXT, "b", "key").unwrap(), ["one", "two"]);
        assert!(strings(TEXT, "b", "empty").unwrap().is_empty());
    }

    #[test]
    fn absent_list_is_none() {
        assert_eq!(strings(TEXT, "a", "empty"), None);
        assert_eq!(strings(TEXT, "c", "key"), None);
    }

    #[test]
    fn lists_of_our_deny_toml_are_found() {
        let text = std::fs::read_to_string(crate::workspace::root().join("deny.toml")).unwrap();
        assert!(
            strings(&text, "licenses", "allow")
                .unwrap()
                .contains(&"MIT".to_owned())
        );
        assert!(strings(&text, "bans", "skip").is_some());
    }
}
