//! The gate's process: takes the daemon's requests from a socket and answers them.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use clawd_common::record::Executed;

use crate::{
    gate::{Parts, Shared, StartError},
    pins::PinError,
    protocol::{self, FrameError, FromGate, Notice, Reply, Request, ToGate},
};

/// Messages that wait for a daemon that does not read.
const QUEUE: usize = 1024;
/// How often leases are looked at that no exec gave back.
const TICK: Duration = Duration::from_millis(200);

/// Tells which execs of leased files are over.
pub trait ExecutedRing: Send {
    /// Waits for some, at most `patience`, and hands them over.
    ///
    /// # Errors
    /// Whatever kept it from waiting.
    fn wait(&mut self, patience: Duration, each: &mut dyn FnMut(Executed)) -> io::Result<()>;
}

/// Serves until the daemon closes the socket.
///
/// # Errors
/// [`StartError`] where it cannot start; a message that is not understood ends it too.
pub fn serve(
    parts: Parts,
    ring: Box<dyn ExecutedRing>,
    socket: UnixStream,
) -> Result<(), ServeError> {
    clawd_sys::lease::ignore_break_signal().map_err(ServeError::Signal)?;
    let (queue, messages) = mpsc::sync_channel(QUEUE);
    let shared = Shared::start(parts, queue.clone())?;
    let writer = socket.try_clone().map_err(ServeError::Socket)?;
    spawn("gate-replies", move || write_all(writer, &messages))?;
    let leases = Arc::clone(&shared);
    spawn("gate-leases", move || end_leases(&leases, ring))?;
    let mut socket = socket;
    loop {
        let message: ToGate = match protocol::receive(&mut socket) {
            Ok(message) => message,
            Err(FrameError::Closed) => return Ok(()),
            Err(error) => return Err(ServeError::Frame(error)),
        };
        // A request may wait for a slow file; the next one must not, nor must the daemon take this
        // process for dead.
        let (shared, queue) = (Arc::clone(&shared), queue.clone());
        spawn("gate-request", move || {
            let ToGate { id, request } = message;
            let reply = answer(&shared, request);
            send(&queue, FromGate::Reply { id, reply });
        })?;
    }
}

/// Why the gate ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The signal of broken leases would end it.
    #[error("cannot ignore the signal of broken leases")]
    Signal(#[source] io::Error),
    /// The socket failed.
    #[error("cannot use the daemon's socket")]
    Socket(#[source] io::Error),
    /// No thread could be had.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The daemon said something else.
    #[error("the daemon's message is not understood")]
    Frame(#[source] FrameError),
}

fn spawn(name: &str, what: impl FnOnce() + Send + 'static) -> Result<(), ServeError> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(what).map(drop).map_err(ServeError::Thread)
}

fn send(queue: &SyncSender<FromGate>, message: FromGate) {
    if queue.send(message).is_err() {
        tracing::debug!("the daemon is gone");
    }
}

fn write_all(mut socket: UnixStream, messages: &Receiver<FromGate>) {
    for message in messages {
        match protocol::send(&mut socket, &message) {
            Ok(()) => {}
            Err(FrameError::Closed) => return,
            Err(error) => tracing::error!(%error, "a message to the daemon is lost"),
        }
    }
}

fn end_leases(shared: &Shared, mut ring: Box<dyn ExecutedRing>) {
    loop {
        let mut over = Vec::new();
        if let Err(error) = ring.wait(TICK, &mut |executed| over.push(executed)) {
            tracing::error!(%error, "leases are given back by the clock");
            thread::sleep(TICK);
        }
        for executed in over {
            if shared.leases.finish(executed, shared.book_lock()) {
                let tgid = executed.tgid;
                shared.notify(vec![Notice::LeaseBroken { tgid }]);
            }
        }
        shared.tick();
    }
}

fn answer(shared: &Arc<Shared>, request: Request) -> Reply {
    let failed = |error: &dyn std::error::Error| Reply::Failed {
        message: explain(error),
    };
    match request {
        Request::Watch(watch) => match shared.watch(&watch) {
            Ok(warnings) => Reply::Loaded { warnings },
            Err(error) => failed(&error),
        },
        Request::Restore(watches) => {
            let results = shared.restore(&watches).into_iter();
            Reply::Restored(
                results
                    .map(|result| result.err().map(|e| explain(&e)))
                    .collect(),
            )
        }
        Request::Load { sandbox_id, policy } => match shared.watched.get(sandbox_id) {
            Some(sandbox) => match shared.load(&sandbox, &policy) {
                Ok(warnings) => Reply::Loaded { warnings },
                Err(error) => failed(&error),
            },
            None => Reply::Failed {
                message: "the exec gate does not watch that sandbox".to_owned(),
            },
        },
        Request::Retire { policy_id } => {
            shared.book().retire(policy_id);
            Reply::Done
        }
        Request::Unwatch { sandbox_id } => {
            shared.forget(sandbox_id);
            Reply::Done
        }
        Request::Pins => Reply::Pins(shared.book().pins().all()),
        Request::Forget(paths) => {
            let forgotten: Result<_, PinError> = shared.book().forget_pins(&paths);
            match forgotten {
                Ok(pins) => Reply::Pins(pins),
                Err(error) => failed(&error),
            }
        }
        Request::Health => Reply::Health(shared.health()),
    }
}

/// An error with its causes, in one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
