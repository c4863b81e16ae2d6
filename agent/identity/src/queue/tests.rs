//! Who may wait, and who has a turn.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clawd_sys::fanotify::ExecEvent;

use super::{LOOKED_AT_MAX, Lines, OF_SANDBOX_SURE, Queue, Step, Waiting};
use crate::{
    book::Basis,
    job::Job,
    sandbox::Sandbox,
    tables::Keys as _,
    tests::{StatKeys, entering, sandbox, waits},
};

fn file() -> File {
    tempfile::tempfile().expect("temporary file")
}

/// What becomes of an event when somebody has looked at it.
fn job(sandbox: &Arc<Sandbox>) -> Waiting {
    let file = file();
    let key = StatKeys.key(file.as_fd()).expect("a key");
    waits(Job::new(
        Arc::clone(sandbox),
        (file, 1),
        PathBuf::new(),
        key,
        Basis::Leased { lease: 1 },
    ))
}

/// An event that nobody has looked at.
fn event(sandbox: &Arc<Sandbox>) -> Waiting {
    let event = ExecEvent {
        file: file().into(),
        pid: 1,
    };
    Waiting {
        step: Step::Event(event),
        ..job(sandbox)
    }
}

fn push(lines: &mut Lines, sandbox: &Arc<Sandbox>) -> bool {
    lines.push(event(sandbox)).is_ok()
}

#[test]
fn room_that_is_nearly_used_up_is_kept_for_sandboxes_with_little_waiting() {
    const ROOM: usize = 8 * OF_SANDBOX_SURE;

    let mut lines = Lines::new(ROOM);
    let (storm, other) = (sandbox(1), sandbox(2));
    let of_storm = (0..ROOM).filter(|_| push(&mut lines, &storm)).count();
    assert_eq!(of_storm, ROOM - ROOM / 4);
    let of_other = (0..ROOM).filter(|_| push(&mut lines, &other)).count();
    assert_eq!(of_other, OF_SANDBOX_SURE);
    // What is done leaves room again.
    let taken = lines.take(Instant::now()).expect("ready");
    lines.done(taken.sandbox.id);
    assert!(!push(&mut lines, &storm), "still too many of others");
    for _ in 0..OF_SANDBOX_SURE {
        let taken = lines.take(Instant::now()).expect("ready");
        lines.done(taken.sandbox.id);
    }
    assert!(push(&mut lines, &storm));
}

#[test]
fn room_is_never_exceeded_however_many_sandboxes_there_are() {
    let mut lines = Lines::new(10);
    let sandboxes: Vec<_> = (1..=20).map(sandbox).collect();
    let admitted = sandboxes.iter().filter(|one| push(&mut lines, one)).count();
    assert_eq!(admitted, 10);
}

#[test]
fn a_sandbox_is_looked_at_in_bounds_and_others_have_their_turns() {
    let mut lines = Lines::new(1000);
    let (storm, other) = (sandbox(1), sandbox(2));
    for _ in 0..2 * LOOKED_AT_MAX {
        assert!(push(&mut lines, &storm));
    }
    assert!(push(&mut lines, &other));
    let now = Instant::now();
    let ids: Vec<u32> = std::iter::from_fn(|| lines.take(now))
        .map(|waiting| waiting.sandbox.id)
        .collect();
    assert_eq!(ids.iter().position(|id| *id == 2), Some(1));
    assert_eq!(ids.len(), LOOKED_AT_MAX + 1, "each may hold a lease");
    assert_eq!(lines.patience(now), None);
    lines.done(1);
    assert_eq!(lines.patience(now), Some(Duration::ZERO));
    assert!(lines.take(now).is_some());
}

#[test]
fn execs_wait_until_their_sandbox_has_entered_and_for_nothing_once_it_has_left() {
    let mut lines = Lines::new(1000);
    let entering = entering(1);
    assert!(push(&mut lines, &entering));
    let now = Instant::now();
    assert!(lines.take(now).is_none());
    assert_eq!(lines.patience(now), None, "time alone changes nothing");
    entering.enter();
    let taken = lines.take(now).expect("ready");
    // Its file has changed just now, so it would wait for that.
    lines.put_back(Waiting {
        step: job(&entering).step,
        ..taken
    });
    assert!(lines.take(now).is_none());
    assert!(lines.patience(now).is_some_and(|time| !time.is_zero()));
    entering.leave();
    assert!(lines.take(now).is_some());
}

#[test]
fn a_worker_that_sleeps_is_woken_by_an_event_and_by_a_sandbox_that_enters() {
    let queue = Arc::new(Queue::new(1000));
    let (ready, entering) = (sandbox(1), entering(2));
    let worker = Arc::clone(&queue);
    let taken = std::thread::spawn(move || {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let waiting = worker.take();
            ids.push(waiting.sandbox.id);
            worker.done(waiting.sandbox.id);
        }
        ids
    });
    assert!(queue.push(event(&entering)).is_ok());
    std::thread::sleep(Duration::from_millis(20));
    assert!(queue.push(event(&ready)).is_ok());
    std::thread::sleep(Duration::from_millis(20));
    entering.enter();
    queue.look_again();
    assert_eq!(taken.join().expect("no panic"), [1, 2]);
}
