//! Tests over the whole crate.

use super::{compile, parse};

mod decisions;
mod errors;
mod meaning;
mod robust;

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
