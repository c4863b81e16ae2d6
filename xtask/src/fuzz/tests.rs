//! What is read from the command line, from Cargo and from the fuzzer.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::*;

fn target(name: &str) -> Target {
    Target {
        name: name.to_owned(),
        manifest: PathBuf::from("fuzz/Cargo.toml"),
        seeds: Vec::new(),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn output(code: i32, report: &str) -> Output {
    Output {
        status: ExitStatus::from_raw(code << 8),
        stdout: Vec::new(),
        stderr: report.as_bytes().to_vec(),
    }
}

#[test]
fn seconds_are_taken_from_anywhere_and_otherwise_short() {
    let (seconds, rest) = seconds_in(&words(&["a", "--seconds", "30", "b"])).unwrap();
    assert_eq!((seconds, rest), (30, words(&["a", "b"])));
    let (seconds, rest) = seconds_in(&words(&["a"])).unwrap();
    assert_eq!((seconds, rest), (SECONDS_DEFAULT, words(&["a"])));
}

#[test]
fn seconds_without_a_number_or_without_end_are_refused() {
    for typed in [
        &["--seconds"] as &[&str],
        &["--seconds", "x"],
        &["--seconds", "0"],
    ] {
        assert!(seconds_in(&words(typed)).is_err(), "{typed:?}");
    }
}

#[test]
fn named_targets_are_chosen_and_other_names_refused() {
    let targets = [target("a"), target("b")];
    assert_eq!(choose(&targets, &[]).unwrap().len(), 2);
    assert_eq!(choose(&targets, &words(&["b"])).unwrap()[0].name, "b");
    let Err(error) = choose(&targets, &words(&["b", "c"])) else {
        panic!("`c` is no target")
    };
    assert!(error.to_string().contains("`c`"), "{error}");
}

#[test]
fn run_that_tried_nothing_fails() {
    let judged = |code, report| judge(&target("a"), &output(code, report));
    assert!(judged(0, "stat::number_of_executed_units: 12\n").is_ok());
    assert!(judged(0, "stat::number_of_executed_units: 0\n").is_err());
    assert!(judged(0, "").is_err());
}

#[test]
fn failing_input_is_named() {
    let report = "artifact_prefix='/x/'; Test unit written to /x/crash-1\nBase64: YQ==\n";
    let error = judge(&target("a"), &output(77, report)).unwrap_err();
    assert!(error.to_string().contains("/x/crash-1 "), "{error}");
}

#[test]
fn checkout_has_targets_with_seeds() {
    let targets = find::targets().unwrap();
    for name in ["parse", "decode", "line"] {
        let found = targets.iter().find(|target| target.name == name);
        assert!(
            found.is_some_and(|target| !target.seeds.is_empty()),
            "{name}"
        );
    }
}

#[test]
fn only_binaries_are_targets_and_absent_seeds_are_refused() {
    let metadata = r#"{"packages":[{"targets":[{"kind":["lib"],"name":"l"},{"kind":["bin"],"name":"b"}],
        "metadata":{"seeds":{"b":["."]}}}]}"#;
    let manifest = workspace_manifest();
    let found = find::targets_in(metadata, &manifest).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].seeds.len(), 1);
    let absent = metadata.replace("[\".\"]", "[\"nowhere\"]");
    assert!(find::targets_in(&absent, &manifest).is_err());
    let no_binary = metadata.replace("\"bin\"", "\"test\"");
    assert!(find::targets_in(&no_binary, &manifest).is_err());
}

fn workspace_manifest() -> PathBuf {
    crate::workspace::root().join("Cargo.toml")
}
