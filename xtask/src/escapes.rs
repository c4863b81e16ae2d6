//! The table of ways out (`tests/escapes/README.md`), held against the sources: it names tests that exist.

use std::{collections::BTreeSet, fs, path::Path};

use crate::workspace;

/// Folders below the root whose tests the table may name.
const SOURCES: [&str; 2] = ["tests/tests/kernel", "agent"];
/// What the table has; each further way out gets a row.
const ROWS: usize = 21 + 9 + 11;

/// The rows of the tables: each row's name, and the tests that it names, in backticks.
fn rows(readme: &str) -> Vec<(&str, Vec<&str>)> {
    let cells = readme.lines().filter_map(|line| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let (name, rest) = line.split_once(" | ")?;
        let (_attempt, tests) = rest.rsplit_once(" | ")?;
        let is_name = name.starts_with(|first: char| first.is_ascii_uppercase());
        is_name.then_some((name, tests))
    });
    cells
        .map(|(name, tests)| (name, tests.split('`').skip(1).step_by(2).collect()))
        .collect()
}

/// Adds the names of the functions that `#[test]` stands before, attributes between them passed over.
fn tests_in(source: &str, found: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let (true, Some(rest)) = (is_test, line.strip_prefix("fn ")) {
            let name = rest.split('(').next().unwrap_or_default();
            found.insert(name.to_owned());
            is_test = false;
        } else if !line.starts_with('#') && !line.starts_with("//") {
            is_test = false;
        }
    }
}

/// As [`tests_in`], of every source below a folder.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let entry = entry.expect("an entry");
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|name| name == "rs") {
            tests_in(&fs::read_to_string(&path).expect("a source"), found);
        }
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    let root = workspace::root();
    let readme = fs::read_to_string(root.join("tests/escapes/README.md")).expect("the table");
    let mut known = BTreeSet::new();
    for folder in SOURCES {
        tests_below(&root.join(folder), &mut known);
    }
    let rows = rows(&readme);
    assert_eq!(rows.len(), ROWS, "{rows:?}");
    let mut names = BTreeSet::new();
    for (name, tests) in rows {
        assert!(names.insert(name), "{name} has two rows");
        assert!(!tests.is_empty(), "{name} names no test");
        for test in tests {
            assert!(known.contains(test), "{name}: there is no test {test}");
        }
    }
}

/// Who adds a test of a way out of the network, which has the row in its name, gives it its place.
#[test]
fn every_test_that_is_named_after_a_row_is_in_the_table() {
    let root = workspace::root();
    let readme = fs::read_to_string(root.join("tests/escapes/README.md")).expect("the table");
    let mut known = BTreeSet::new();
    tests_below(&root.join("tests/tests/kernel"), &mut known);
    let is_named = |test: &&String| {
        let digits = test.strip_prefix('n').and_then(|rest| rest.split_once('_'));
        digits.is_some_and(|(number, _)| number.parse::<u8>().is_ok())
    };
    let named: Vec<_> = known.iter().filter(is_named).collect();
    assert!(!named.is_empty());
    for test in named {
        assert!(readme.contains(&format!("`{test}`")), "{test} has no row");
    }
}

#[test]
fn tests_and_rows_are_read_as_they_are_written() {
    let mut found = BTreeSet::new();
    let source = "#[test]\n#[cfg(x)]\nfn one() {\n}\nfn helper() {\n#[test]\n\nfn none() {\n";
    tests_in(source, &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["one"]);
    let table =
        "| row | a | tests |\n|---|---|---|\n| N1 | a `b` | `one` `two` |\n| N2 | c | none |\n";
    let want = [("N1", vec!["one", "two"]), ("N2", vec![])];
    assert_eq!(rows(table), want);
}
