//! Entries that deny: what is not known counts against a program.

use clawd_common::record::LINEAGE_MAX;

use super::{Rig, bits, content_entry, descendants, path_entry, run};
use crate::entries::Entry;

fn denies(entry: Entry) -> Entry {
    Entry {
        denies: true,
        ..entry
    }
}

#[test]
fn what_is_at_a_denied_path_is_denied_though_it_is_never_pinned() {
    let mut rig = Rig::with_policy(&[path_entry("/a"), denies(path_entry("/a"))]);
    let chain = rig.exec(&run(10, "/a", 1).leased());
    assert_eq!(rig.pin_of("/a"), None);
    let mask = rig.mask(1, chain);
    assert_eq!(mask.changed, bits(&[1]));
    assert!(mask.own.is_empty(), "it grants nothing");
    // A name that a sandbox may have made.
    let named = super::Run {
        is_path_trusted: false,
        ..run(11, "/a", 2)
    };
    let chain = rig.exec(&named);
    assert_eq!(rig.mask(1, chain).changed, bits(&[1]));
    // By another path it is not meant.
    let chain = rig.exec(&run(12, "/b", 3));
    assert!(rig.mask(1, chain).is_empty());
}

#[test]
fn program_that_runs_stays_denied_under_the_next_policy_and_the_next_gate() {
    let mut rig = Rig::with_policy(&[denies(path_entry("/a"))]);
    rig.exec(&run(9, "/a", 1));
    let chain = rig.exec(&run(10, "/a", 2));
    assert_eq!(rig.mask(1, chain).changed, bits(&[0]));
    let next = [content_entry(7), path_entry("/a"), denies(path_entry("/a"))];
    rig.load(2, 1, &next);
    assert_eq!(rig.mask(2, chain).changed, bits(&[2]));
    rig.book.retire(1);
    assert_eq!(rig.mask(2, chain).changed, bits(&[2]));

    rig.restart();
    rig.book.add_sandbox(1, "box-1");
    rig.load(2, 1, &next);
    assert_eq!(rig.mask(2, chain).changed, bits(&[2]));
}

#[test]
fn program_that_runs_stays_denied_when_its_pin_is_forgotten() {
    let entries = [denies(descendants(path_entry("/a"))), path_entry("/a")];
    let mut rig = Rig::with_policy(&entries);
    let chain = rig.exec(&run(10, "/a", 1));
    let child = rig.exec(&run(10, "/b", 2));
    assert_eq!(rig.mask(1, chain).own, bits(&[0, 1]));
    assert_eq!(rig.mask(1, child).lineage, bits(&[0]));
    rig.book.forget_pins(&["/a".into()]).expect("written");
    assert_eq!(rig.mask(1, chain).changed, bits(&[0]));
    assert!(rig.mask(1, chain).own.is_empty(), "it grants nothing");
    assert_eq!(rig.mask(1, child).lineage, bits(&[0]));
}

#[test]
fn denied_ancestor_is_not_shaken_off_by_a_program_without_identity() {
    let mut rig = Rig::with_policy(&[denies(descendants(content_entry(1)))]);
    // One that nothing was before.
    let chain = rig.exec(&run(9, "/bin/2", 2));
    assert!(rig.mask(1, chain).is_empty());
    rig.exec(&run(10, "/evil", 1));
    // The gate sees nothing of these.
    for _ in 0..2 {
        assert_eq!(rig.kernel_exec(&run(10, "/unseen", 3)), 0);
        rig.memory.maps().fork(10, 11);
        let chain = rig.exec(&run(11, "/bin/2", 2));
        assert_eq!(rig.mask(1, chain).lineage, bits(&[0]));
        let chain = rig.exec(&run(11, "/bin/4", 4));
        assert_eq!(rig.mask(1, chain).lineage, bits(&[0]));
    }
}

#[test]
fn denied_ancestor_is_not_shaken_off_by_a_long_line() {
    let mut rig = Rig::with_policy(&[denies(descendants(content_entry(0)))]);
    rig.exec(&run(10, "/evil", 0));
    let mut chain = 0;
    for content in 1..=40 {
        chain = rig.exec(&run(10, &format!("/bin/{content}"), content));
        assert_eq!(rig.mask(1, chain).lineage, bits(&[0]), "after {content}");
    }
    assert_eq!(rig.book.chains.files(chain).len(), LINEAGE_MAX);
    // A short line without it is not denied.
    let chain = rig.exec(&run(11, "/bin/1", 1));
    assert!(rig.mask(1, chain).is_empty());
}
