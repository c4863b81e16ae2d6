//! Turns, over real files.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clawd_common::{record::FileKey, verdict::Reason};
use sha2::{Digest as _, Sha256};

use super::{Job, SLICE_BYTES, TRIES, Turn};
use crate::{
    book::Basis,
    digest::{CHUNK_BYTES, HASH_LIMIT_BYTES},
    queue::{Lines, Step},
    sandbox::Sandbox,
    tables::Keys,
    tests::{StatKeys, sandbox, waits},
};

/// A queue of jobs, and one worker.
struct Jobs(Lines);

impl Default for Jobs {
    fn default() -> Self {
        Self(Lines::new(1000))
    }
}

impl Jobs {
    fn push(&mut self, job: Job) {
        assert!(self.0.push(waits(job)).is_ok(), "no room");
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        self.0.patience(now)
    }

    /// Does one turn; returns the job if it is done.
    fn turn(
        &mut self,
        keys: &mut dyn Keys,
        chunk: &mut [u8],
    ) -> Option<(Job, Result<[u8; 32], Reason>)> {
        let mut waiting = self.0.take(Instant::now())?;
        let Step::Job(job) = &mut waiting.step else {
            panic!("nobody looked at it");
        };
        let Turn::Done(result) = job.turn(keys, chunk) else {
            self.0.put_back(waiting);
            return None;
        };
        self.0.done(waiting.sandbox.id);
        match waiting.step {
            Step::Job(job) => Some((*job, result)),
            Step::Event(_) => None,
        }
    }
}

fn file(len_bytes: u64) -> File {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(len_bytes).expect("sparse");
    file
}

/// A job whose file has rested.
fn job(sandbox: &Arc<Sandbox>, file: File, keys: &mut dyn Keys) -> Job {
    let key = keys.key(file.as_fd()).expect("a key");
    let place = (file, 1);
    let mut job = Job::new(
        Arc::clone(sandbox),
        place,
        PathBuf::new(),
        key,
        Basis::Leased { lease: 1 },
    );
    job.not_before = None;
    job
}

/// One answer after the other; the last one for ever.
struct Answers(VecDeque<FileKey>);

impl Keys for Answers {
    fn key(&mut self, _file: BorrowedFd<'_>) -> io::Result<FileKey> {
        let next = self.0.pop_front().expect("an answer");
        if self.0.is_empty() {
            self.0.push_back(next);
        }
        Ok(next)
    }
}

fn keys(sizes_bytes: &[u64]) -> Answers {
    let key = |size_bytes: &u64| FileKey {
        size_bytes: *size_bytes,
        fs_magic: 0x0102_1994,
        ..FileKey::ZERO
    };
    Answers(sizes_bytes.iter().map(key).collect())
}

/// Takes turns until nothing is left; returns the sandbox and outcome of each job in order.
fn finish(jobs: &mut Jobs, keys: &mut dyn Keys) -> Vec<(u32, Result<[u8; 32], Reason>)> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = Vec::new();
    while jobs.patience(Instant::now()).is_some() {
        if let Some((job, result)) = jobs.turn(keys, &mut chunk) {
            done.push((job.sandbox.id, result));
        }
    }
    done
}

#[test]
fn turns_alternate_between_sandboxes() {
    let mut jobs = Jobs::default();
    let sandboxes = [sandbox(1), sandbox(2), sandbox(3)];
    for sandbox in &sandboxes {
        for _ in 0..4 {
            jobs.push(job(sandbox, file(10), &mut StatKeys));
        }
    }
    let done = finish(&mut jobs, &mut StatKeys);
    let order: Vec<u32> = done.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [1, 2, 3].repeat(4));
}

#[test]
fn large_files_of_one_sandbox_delay_a_small_one_of_another_by_one_slice() {
    const LARGE: usize = 30;

    let (storm, other) = (sandbox(1), sandbox(2));
    let mut jobs = Jobs::default();
    for _ in 0..LARGE {
        jobs.push(job(&storm, file(3 * SLICE_BYTES), &mut StatKeys));
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    // Some are under way when the small one comes.
    for _ in 0..5 {
        drop(jobs.turn(&mut StatKeys, &mut chunk));
    }
    jobs.push(job(&other, file(100), &mut StatKeys));
    let first = jobs.turn(&mut StatKeys, &mut chunk);
    let second = jobs.turn(&mut StatKeys, &mut chunk);
    let ids: Vec<u32> = [first, second]
        .into_iter()
        .flatten()
        .map(|(job, _)| job.sandbox.id)
        .collect();
    assert!(
        ids.contains(&2),
        "the small file waits for more than a slice"
    );
}

#[test]
fn a_sandbox_finishes_one_file_before_it_begins_the_next() {
    let sandbox = sandbox(1);
    let mut jobs = Jobs::default();
    for len_bytes in [2 * SLICE_BYTES, 10] {
        jobs.push(job(&sandbox, file(len_bytes), &mut StatKeys));
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut sizes = Vec::new();
    while jobs.patience(Instant::now()).is_some() {
        if let Some((job, _)) = jobs.turn(&mut StatKeys, &mut chunk) {
            sizes.push(job.key.size_bytes);
        }
    }
    assert_eq!(sizes, [2 * SLICE_BYTES, 10]);
}

#[test]
fn the_hash_is_that_of_the_whole_file() {
    let content = vec![7; usize::try_from(SLICE_BYTES).expect("small") + 5];
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(&content).expect("written");
    let mut jobs = Jobs::default();
    jobs.push(job(&sandbox(1), file, &mut StatKeys));
    let want: [u8; 32] = Sha256::digest(&content).into();
    assert_eq!(finish(&mut jobs, &mut StatKeys), [(1, Ok(want))]);
}

#[test]
fn a_file_that_changes_while_hashed_is_hashed_again_whole() {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(&vec![1; 2 * CHUNK_BYTES]).expect("written");
    let mut jobs = Jobs::default();
    let mut writer = file.try_clone().expect("a second descriptor");
    let mut begun = job(&sandbox(1), file, &mut StatKeys);
    let mut chunk = vec![0; CHUNK_BYTES];
    // The first half is hashed when the file becomes another one.
    let mut hashing = super::Hashing::new(begun.deadline);
    let half = hashing.step(&begun.file, &mut chunk, 1).expect("readable");
    assert_eq!(half, None);
    begun.hashing = Some(hashing);
    io::Seek::rewind(&mut writer).expect("rewound");
    writer.write_all(b"another").expect("written");
    writer.set_len(7).expect("cut");
    jobs.push(begun);
    let want: [u8; 32] = Sha256::digest(b"another").into();
    assert_eq!(finish(&mut jobs, &mut StatKeys), [(1, Ok(want))]);
}

#[test]
fn a_hash_belongs_to_the_key_that_was_there_before_and_after_it() {
    let mut jobs = Jobs::default();
    let mut keys = keys(&[1, 2, 2]);
    jobs.push(job(&sandbox(1), file(1), &mut keys));
    let mut chunk = vec![0; CHUNK_BYTES];
    assert!(jobs.turn(&mut keys, &mut chunk).is_none());
    let (job, result) = jobs.turn(&mut keys, &mut chunk).expect("done");
    assert!(result.is_ok());
    assert_eq!(job.key.size_bytes, 2);
}

#[test]
fn a_file_that_never_rests_is_given_up() {
    let mut jobs = Jobs::default();
    let mut keys = keys(&(1..100).collect::<Vec<_>>());
    jobs.push(job(&sandbox(1), file(1), &mut keys));
    let done = finish(&mut jobs, &mut keys);
    assert_eq!(done, [(1, Err(Reason::ChangedWhileHashed))]);
    let asked = 99 - keys.0.len();
    assert_eq!(u32::try_from(asked), Ok(1 + TRIES));
}

#[test]
fn a_file_that_becomes_too_large_is_given_up() {
    let mut jobs = Jobs::default();
    let mut keys = keys(&[1, HASH_LIMIT_BYTES + 1]);
    jobs.push(job(&sandbox(1), file(1), &mut keys));
    let done = finish(&mut jobs, &mut keys);
    assert_eq!(done, [(1, Err(Reason::TooLarge))]);
}

#[test]
fn a_file_past_the_deadline_is_given_up() {
    let mut jobs = Jobs::default();
    let mut late = job(&sandbox(1), file(10), &mut StatKeys);
    late.deadline = Instant::now() - Duration::from_millis(1);
    jobs.push(late);
    let done = finish(&mut jobs, &mut StatKeys);
    assert_eq!(done, [(1, Err(Reason::Deadline))]);
}

#[test]
fn a_file_that_changed_just_now_waits_and_lets_others_go_first() {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut jobs = Jobs::default();
    let (one, two) = (sandbox(1), sandbox(2));
    let mut fresh = job(&one, file(1), &mut StatKeys);
    let begin = Instant::now();
    fresh.not_before = Some(begin + Duration::from_millis(80));
    jobs.push(fresh);
    assert!(jobs.turn(&mut StatKeys, &mut chunk).is_none());
    let patience = jobs.patience(begin).expect("something waits");
    assert_eq!(patience, Duration::from_millis(80));
    jobs.push(job(&one, file(2), &mut StatKeys));
    jobs.push(job(&two, file(3), &mut StatKeys));
    assert_eq!(jobs.patience(begin), Some(Duration::ZERO));
    let mut sizes = Vec::new();
    while jobs.patience(Instant::now()).is_some() {
        if let Some((job, result)) = jobs.turn(&mut StatKeys, &mut chunk) {
            assert!(result.is_ok());
            assert!(job.key.size_bytes != 1 || begin.elapsed() >= Duration::from_millis(80));
            sizes.push(job.key.size_bytes);
        }
    }
    assert_eq!(sizes.last(), Some(&1));
    assert_eq!(sizes.len(), 3);
}

#[test]
fn a_file_written_just_now_is_not_hashed_at_once() {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(b"new").expect("written");
    let key = StatKeys.key(file.as_fd()).expect("a key");
    let place = (file, 1);
    let job = Job::new(
        sandbox(1),
        place,
        PathBuf::new(),
        key,
        Basis::Leased { lease: 1 },
    );
    let now = Instant::now();
    assert!(!job.ready_in(now).is_zero());
    assert!(job.ready_in(now + Duration::from_millis(20)).is_zero());
}

#[test]
fn no_jobs_wait_for_ever() {
    let mut jobs = Jobs::default();
    assert_eq!(jobs.patience(Instant::now()), None);
    assert!(jobs.turn(&mut StatKeys, &mut [0; 16]).is_none());
}
