//! Tests over the whole crate.

use super::{compile, parse};

mod decisions;
mod errors;
mod explain;
mod meaning;
mod names;
mod robust;
mod sizes;

#[test]
fn shipped_policies_parse_and_compile_without_warnings() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the policies are there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ext| ext != "yaml") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).expect("a text");
        let name = path.display().to_string();
        let parsed = parse(&name, &text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(parsed.warnings, [], "{name}");
        let image = compile(&parsed.policy, 1).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!image.rules.is_empty(), "{name} allows nothing");
    }
    assert!(files > 0, "no policy in {dir}");
}

/// What somebody gets who takes the comment sign from an entry of the example.
#[test]
fn examples_in_comments_parse_and_compile_without_warnings() {
    let text = include_str!("../../../policies/example.yaml");
    let mut taken = 0;
    let uncommented: String = text
        .lines()
        .map(|line| {
            let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
            let keys = ["- {", "read_", "supplementary_groups:", "env_allow:"];
            let is_entry = |rest: &&str| keys.iter().any(|key| rest.starts_with(key));
            match rest.strip_prefix("# ").filter(is_entry) {
                Some(entry) => {
                    taken += 1;
                    format!("{indent}{entry}\n")
                }
                None => format!("{line}\n"),
            }
        })
        .collect();
    assert_eq!(taken, 6);
    let parsed = parse("example.yaml", &uncommented).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(parsed.warnings, []);
    assert_eq!(parsed.policy.filesystem.read_write_execute.len(), 1);
    let grants = parsed.policy.grants();
    assert_eq!(grants.len(), 4);
    assert!(grants.iter().any(|entry| entry.descendants));
    assert!(compile(&parsed.policy, 1).is_ok());
}
