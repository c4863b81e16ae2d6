//! The threads that look at programs which are not known: they open, lease, read and hash.

use std::sync::Arc;

use crate::{
    digest::CHUNK_BYTES,
    gate::Shared,
    job::Turn,
    judge::{Judged, finish, judge},
    queue::{Step, Waiting},
    tables::Keys,
    watchdog::Progress,
};

/// One worker: a look or a slice of a hash for one exec, then the next sandbox has its turn.
pub(crate) fn work(shared: &Arc<Shared>, progress: &Progress, mut keys: Box<dyn Keys>) {
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        progress.waits();
        let waiting = shared.queue.take();
        progress.begins(shared.started);
        let sandbox_id = waiting.sandbox.id;
        match go_on(shared, (keys.as_mut(), &mut chunk), waiting) {
            Some(waiting) => shared.queue.put_back(waiting),
            None => shared.queue.done(sandbox_id),
        }
    }
}

/// Does the next step for an exec; returns it where it must wait on.
fn go_on(
    shared: &Shared,
    (keys, chunk): (&mut dyn Keys, &mut [u8]),
    waiting: Waiting,
) -> Option<Waiting> {
    // What it is granted is forgotten.
    if waiting.sandbox.has_left() {
        waiting.go_on();
        return None;
    }
    let Waiting {
        sandbox,
        reading,
        step,
    } = waiting;
    let judged = match step {
        Step::Event(event) => judge(shared, keys, &sandbox, event),
        Step::Job(mut job) => match job.turn(keys, chunk) {
            Turn::More => Judged::Hash(job),
            Turn::Done(hash) => Judged::Answer(finish(shared, *job, hash)),
        },
    };
    match judged {
        Judged::Hash(job) => Some(Waiting {
            sandbox,
            reading,
            step: Step::Job(job),
        }),
        Judged::Answer(event) => {
            reading.allow(event);
            None
        }
    }
}
