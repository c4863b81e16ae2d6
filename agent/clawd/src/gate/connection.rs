//! One gate process: requests and their answers over its socket.

use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use clawd_identity::protocol::{self, FrameError, FromGate, Reply, Request, ToGate};

use super::{GateError, Hears, down};

/// Who waits for which answer; `None` once the gate is gone.
type Waiting = Option<HashMap<u64, Sender<Reply>>>;

/// A gate that was started.
pub(super) struct Connection {
    pid: u32,
    writer: Mutex<UnixStream>,
    waiting: Mutex<Waiting>,
    next_id: AtomicU64,
}

impl Connection {
    /// Talks to the gate over `socket`, until it is gone.
    pub(super) fn new(
        pid: u32,
        socket: UnixStream,
        hears: Arc<dyn Hears>,
    ) -> io::Result<Arc<Self>> {
        let reader = socket.try_clone()?;
        // A gate that does not read must not hold up who asks.
        socket.set_write_timeout(Some(super::STALLED))?;
        let connection = Arc::new(Self {
            pid,
            writer: Mutex::new(socket),
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(0),
        });
        let reading = Arc::clone(&connection);
        thread::Builder::new()
            .name("gate-answers".to_owned())
            .spawn(move || reading.read(reader, hears.as_ref()))?;
        Ok(connection)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut socket: UnixStream, hears: &dyn Hears) {
        loop {
            match protocol::receive(&mut socket) {
                Ok(FromGate::Reply { id, reply }) => {
                    let asked = self
                        .waiting()
                        .as_mut()
                        .and_then(|waiting| waiting.remove(&id));
                    if asked.is_some_and(|asked| asked.send(reply).is_err()) {
                        tracing::debug!("an answer of the exec gate came too late");
                    }
                }
                Ok(FromGate::Notice(notice)) => hears.notice(notice),
                Err(FrameError::Closed) => break,
                Err(error) => {
                    tracing::error!(%error, "the exec gate is not understood");
                    break;
                }
            }
        }
        // First of all: what it held for execs, nobody holds any more.
        hears.gone();
        // Whoever waits hears of it at once.
        *self.waiting() = None;
    }

    /// Asks and waits for the answer.
    pub(super) fn ask(&self, request: Request, patience: Duration) -> Result<Reply, GateError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = mpsc::channel();
        match self.waiting().as_mut() {
            Some(waiting) => drop(waiting.insert(id, answer)),
            None => return Err(GateError::Down),
        }
        let sent = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            protocol::send(&mut *writer, &ToGate { id, request })
        };
        if let Err(error) = sent {
            self.forget(id);
            return Err(match error {
                FrameError::Io(error) => down(&error),
                FrameError::Closed => GateError::Down,
                error => GateError::Refused(error.to_string()),
            });
        }
        match answered.recv_timeout(patience) {
            Ok(reply) => Ok(reply),
            Err(RecvTimeoutError::Timeout) => {
                self.forget(id);
                Err(GateError::Silent)
            }
            Err(RecvTimeoutError::Disconnected) => Err(GateError::Down),
        }
    }

    fn forget(&self, id: u64) {
        if let Some(waiting) = self.waiting().as_mut() {
            waiting.remove(&id);
        }
    }
}
