//! What the running kernel's verifier goes through for each program, against the table of it.

use std::{collections::BTreeMap, fs, process::Command};

use clawd_tests::binaries;

const TABLE: &str = include_str!("../../../ebpf/verified.txt");

/// A kernel's release, as far as the table tells them apart.
type Release = (u32, u32);

/// Most instructions of each program, by kernel.
fn table() -> (Vec<Release>, BTreeMap<&'static str, Vec<u32>>) {
    let heading = |line: &str| line.strip_prefix("# program").map(str::to_owned);
    let releases = TABLE.lines().find_map(heading).expect("a heading");
    let releases = releases.split_whitespace().map(release).collect();
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    let rows = rows.map(|line| {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a program");
        (
            program,
            words.map(|word| word.parse().expect("a count")).collect(),
        )
    });
    (releases, rows.collect())
}

fn release(text: &str) -> Release {
    let mut numbers = text
        .split(['.', '-'])
        .map(|word| word.parse().expect("a number"));
    (
        numbers.next().expect("major"),
        numbers.next().expect("minor"),
    )
}

/// What `clawd verify` prints: a program and a count a line.
fn counted() -> BTreeMap<String, u32> {
    let clawd = binaries::find("clawd").expect("built");
    let output = Command::new(clawd).arg("verify").output().expect("started");
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let row = |line: &str| {
        let (program, count) = line.split_once(' ')?;
        Some((program.to_owned(), count.trim().parse().ok()?))
    };
    lines.lines().filter_map(row).collect()
}

#[test]
fn programs_take_the_verifier_no_longer_than_the_table_says() {
    let (releases, table) = table();
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let running = release(running.trim());
    let before = releases.iter().rposition(|release| *release <= running);
    let column = before.expect("kernels from 6.1 on are supported");
    if releases[column] != running {
        println!(
            "no column for {running:?}: compared with {:?}",
            releases[column]
        );
    }
    let counted = counted();
    let listed: Vec<_> = table.keys().copied().collect();
    let programs: Vec<_> = counted.keys().map(String::as_str).collect();
    assert_eq!(
        programs, listed,
        "the table lists other programs: {counted:?}"
    );
    let wrong: Vec<_> = counted
        .iter()
        .filter(|(program, count)| {
            let most = table[program.as_str()][column];
            !(most / 2..=most).contains(*count)
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?} of {counted:?}");
}
