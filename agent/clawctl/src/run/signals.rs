//! Signals that are meant for the command.

use std::future::poll_fn;
use std::task::Poll;

use clawd_control::run::FORWARDED_SIGNALS;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Receives the forwarded signals in place of their default actions.
pub(super) struct Signals {
    receivers: Vec<(i32, Signal)>,
}

/// A signal that came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Came {
    /// It is the command's.
    Forwarded(i32),
    /// This terminal has another size.
    Resized,
}

/// SIGWINCH, on x86_64 and aarch64.
const WINDOW_CHANGED: i32 = 28;

// === impl Signals ===

impl Signals {
    /// Takes the signals over for the rest of the process; that of a resized terminal where the
    /// command has a terminal.
    pub(super) fn take_over(with_terminal: bool) -> Result<Self, Failure> {
        let mut receivers = Vec::with_capacity(FORWARDED_SIGNALS.len() + 1);
        let resized = with_terminal.then_some(WINDOW_CHANGED);
        for number in FORWARDED_SIGNALS.into_iter().chain(resized) {
            let receiver = signal(SignalKind::from_raw(number)).map_err(|error| {
                Failure::setup(format!("cannot take over signal {number}: {error}"))
            })?;
            receivers.push((number, receiver));
        }
        Ok(Self { receivers })
    }

    /// The next signal. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Came {
        poll_fn(|context| {
            for (number, receiver) in &mut self.receivers {
                if let Poll::Ready(Some(())) = receiver.poll_recv(context) {
                    return Poll::Ready(match *number {
                        WINDOW_CHANGED => Came::Resized,
                        number => Came::Forwarded(number),
                    });
                }
            }
            Poll::Pending
        })
        .await
    }
}
