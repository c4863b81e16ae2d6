//! Full tables, and making room.

use std::path::PathBuf;

use clawd_common::{decide::MaskValue, record::ChainKey, verdict::Reason};

use super::{Capacity, ROOMY, Rig, bits, content_entry, descendants, path_entry, run, sha256};
use crate::tests::Table;

const SMALL: Capacity = Capacity {
    files: 16,
    chains: 16,
    keys: 16,
};

fn small() -> Rig {
    five_sandboxes(SMALL)
}

fn five_sandboxes(capacity: Capacity) -> Rig {
    let mut rig = Rig::new(capacity);
    for sandbox_id in 1..=5 {
        rig.book.add_sandbox(sandbox_id, "box");
        rig.load(sandbox_id, sandbox_id, &[content_entry(1)]);
    }
    rig
}

/// What is published is complete: a step leads to a line that is written down, and all that the
/// line is granted is there.
fn assert_whole(rig: &Rig) {
    let maps = rig.memory.maps();
    for chain in maps.chain.values() {
        let line = maps.line(*chain);
        assert!(!line.is_empty(), "line {chain} is not in LINEAGE");
        let own = if line[0] == sha256(1) {
            bits(&[0])
        } else {
            bits(&[])
        };
        assert_eq!(maps.mask(1, *chain).own, own, "line {chain}");
    }
    for file_id in maps.identity.values() {
        assert!(maps.file.contains_key(file_id));
    }
}

#[test]
fn a_full_table_publishes_nothing_by_halves_and_later_everything() {
    let tables = [
        Table::File,
        Table::Lineage,
        Table::Mask,
        Table::Chain,
        Table::Identity,
        Table::Leased,
    ];
    for table in tables {
        let mut rig = Rig::with_policy(&[content_entry(1)]);
        let mut program = run(10, "/a", 1);
        program.leased = table == Table::Leased;
        rig.memory.maps().room.insert(table, 0);
        assert_eq!(
            rig.judge(&program, &[]),
            Err(Reason::TableFull),
            "{table:?}"
        );
        assert_eq!(rig.kernel_exec(&program), 0, "{table:?}");
        assert_whole(&rig);
        rig.memory.maps().room.clear();
        let chain = rig.exec(&program);
        assert_eq!(rig.mask(1, chain).own, bits(&[0]), "{table:?}");
        assert_eq!(rig.memory.maps().line(chain), [sha256(1)], "{table:?}");
        assert_whole(&rig);
    }
}

#[test]
fn a_line_without_room_for_one_sandboxs_mask_stays_whole_for_the_other() {
    let mut rig = small();
    let chain = rig.exec(&run(10, "/a", 1));
    rig.memory.maps().room.insert(Table::Mask, 1);
    let other = run(20, "/a", 1).of(2);
    assert_eq!(rig.judge(&other, &[]), Err(Reason::TableFull));
    assert!(rig.mask(2, chain).is_empty());
    assert_whole(&rig);
    rig.memory.maps().room.clear();
    assert_eq!(rig.exec(&other), chain);
    assert_eq!(rig.mask(2, chain).own, bits(&[0]));
    rig.memory.maps().exit(10);
    rig.memory.maps().exit(20);
    rig.evict_all();
    assert!(rig.memory.maps().chain.is_empty(), "a step was forgotten");
}

#[test]
fn a_mask_that_did_not_fit_is_written_by_the_next_exec() {
    let mut rig = Rig::with_policy(&[path_entry("/a")]);
    let chain = rig.exec(&run(10, "/b", 1));
    rig.memory.maps().room.insert(Table::Mask, 0);
    let pinned = rig
        .book
        .pin_at_load(1, ("rule", &PathBuf::from("/a")), sha256(1));
    assert_eq!(pinned.expect("written"), sha256(1));
    assert!(rig.mask(1, chain).is_empty());
    rig.memory.maps().room.clear();
    assert_eq!(rig.exec(&run(11, "/b", 1)), chain);
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
}

#[test]
fn a_policy_that_does_not_fit_is_refused_whole() {
    let mut rig = Rig::with_policy(&[]);
    rig.exec(&run(10, "/a", 1));
    rig.exec(&run(11, "/b", 2));
    rig.memory.maps().room.insert(Table::Mask, 1);
    let entries = [content_entry(1), content_entry(2)];
    let loaded = rig.book.load(2, 1, entries.as_slice().into(), Vec::new());
    assert!(loaded.is_err());
    assert!(rig.memory.maps().mask.is_empty());
    let chain = rig.exec(&run(12, "/a", 1));
    assert!(rig.mask(2, chain).is_empty());
}

#[test]
fn one_sandbox_uses_up_a_quarter_of_the_contents_alone() {
    // Lines without end, so that it is not they that run out.
    let mut rig = five_sandboxes(Capacity {
        chains: ROOMY.chains,
        ..SMALL
    });
    let results: Vec<_> = (1..=10)
        .map(|n| rig.judge(&run(10, &format!("/{n}"), n).leased(), &[]))
        .collect();
    let fit = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(fit, SMALL.files / 4);
    assert_eq!(results.last(), Some(&Err(Reason::TableFull)));
    for sandbox_id in 2..=4 {
        let content = 100 + u8::try_from(sandbox_id).expect("small");
        let program = run(sandbox_id, "/x", content).of(sandbox_id);
        assert_eq!(rig.judge(&program, &[]), Ok(()));
    }
}

#[test]
fn one_sandbox_uses_up_a_quarter_of_the_lines_alone() {
    let mut rig = small();
    // Two programs, executed in every order: many lines of few contents.
    let mut fit = 0;
    for n in 0..200_u32 {
        let program = run(10 + n / 4, "/x", u8::try_from(1 + n % 3).expect("small"));
        if rig.judge(&program, &[]).is_ok() {
            fit += 1;
            rig.kernel_exec(&program);
        }
        assert!(rig.memory.maps().lineage.len() <= SMALL.chains / 4);
    }
    assert!(fit > 0);
    let program = run(9, "/y", 9).of(2);
    assert_eq!(rig.judge(&program, &[]), Ok(()));
}

#[test]
fn eviction_keeps_what_runs_and_forgets_the_rest() {
    let mut rig = Rig::with_policy(&[descendants(content_entry(1))]);
    rig.exec(&run(10, "/a", 1));
    let child = rig.exec(&run(10, "/b", 2));
    let gone = rig.exec(&run(11, "/c", 3));
    rig.memory.maps().exit(11);
    rig.evict_all();
    let maps = rig.memory.maps();
    assert_eq!(maps.line(child), [sha256(2), sha256(1)]);
    assert_eq!(maps.mask(1, child).lineage, bits(&[0]));
    assert!(!maps.lineage.contains_key(&gone));
    assert_eq!(maps.file.len(), 2);
    assert_eq!(maps.identity.len(), 2, "contents of the line keep keys");
    assert!(maps.chain.values().all(|chain| *chain != gone));
    assert!(maps.mask.keys().all(|key| key.chain != gone));
}

#[test]
fn eviction_leaves_alone_what_an_exec_used_just_now() {
    let mut rig = Rig::with_policy(&[content_entry(1)]);
    let program = run(10, "/a", 1);
    // The gate has answered; the kernel has not made its record yet.
    rig.judge(&program, &[]).expect("room");
    rig.book.evict();
    let chain = rig.kernel_exec(&program);
    assert_ne!(chain, 0);
    assert_eq!(rig.mask(1, chain).own, bits(&[0]));
}

#[test]
fn eviction_makes_room_for_new_programs_at_once() {
    let mut rig = small();
    for n in 1..=4 {
        rig.exec(&run(10, &format!("/{n}"), n));
    }
    rig.memory.maps().exit(10);
    assert_eq!(
        rig.judge(&run(11, "/5", 5), &[]),
        Err(Reason::TableFull),
        "what was used just now is kept"
    );
    rig.age();
    assert_eq!(rig.judge(&run(11, "/5", 5), &[]), Ok(()));
    assert_eq!(rig.memory.maps().file.len(), 1);
}

#[test]
fn a_number_that_something_refers_to_is_not_used_again() {
    let mut rig = Rig::with_policy(&[]);
    rig.exec(&run(10, "/a", 1));
    let chain = rig.exec(&run(10, "/b", 2));
    rig.memory.maps().lineage.clear();
    rig.memory.maps().chain.clear();
    rig.restart();
    rig.book.add_sandbox(1, "box-1");
    rig.load(1, 1, &[content_entry(3)]);
    let new = rig.exec(&run(11, "/c", 3));
    assert!(
        new > chain,
        "{new} is the line of process 10, which it had before"
    );
    // Nor after room was made: a process has the number still.
    let maps = rig.memory.maps();
    assert_eq!(maps.process[&10].chain, chain);
    assert!(maps.mask(1, chain).is_empty());
}

#[test]
fn the_number_of_a_content_that_a_process_has_is_not_used_again() {
    let mut rig = Rig::with_policy(&[]);
    rig.exec(&run(10, "/a", 1));
    rig.exec(&run(11, "/b", 2));
    rig.memory.maps().exit(11);
    // An exec of a known file that the gate did not see: a content, and no line.
    assert_eq!(rig.kernel_exec(&run(10, "/b", 2)), 0);
    let file_id = rig.memory.maps().process[&10].file_id;
    assert_ne!(file_id, 0);
    rig.evict_all();
    rig.restart();
    rig.book.add_sandbox(1, "box-1");
    rig.exec(&run(12, "/c", 3));
    let named = rig.memory.maps().file.get(&file_id).map(|file| file.sha256);
    let what = "reports would name process 10 by another's content";
    assert!(named.is_none_or(|named| named == sha256(2)), "{what}");
}

#[test]
fn a_lease_of_a_gate_that_ended_is_taken_back() {
    let mut rig = Rig::new(ROOMY);
    rig.book.add_sandbox(1, "box-1");
    let program = run(10, "/a", 1).leased();
    rig.judge(&program, &[]).expect("room");
    // The gate that held the lease ends before the exec is over.
    rig.restart();
    assert_eq!(rig.kernel_exec(&program), 0, "nobody holds a lease for it");
}

#[test]
fn a_step_whose_line_was_forgotten_makes_a_new_line() {
    let mut rig = Rig::with_policy(&[descendants(content_entry(1))]);
    let first = rig.exec(&run(10, "/a", 1));
    rig.memory.maps().exit(10);
    rig.evict_all();
    let again = rig.exec(&run(10, "/a", 1));
    assert!(again > first);
    let key = ChainKey {
        parent: 0,
        file_id: rig.memory.maps().process[&10].file_id,
    };
    assert_eq!(rig.memory.maps().chain.get(&key), Some(&again));
    assert_ne!(rig.mask(1, again), MaskValue::ZERO);
}
