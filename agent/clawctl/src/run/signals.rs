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

// === impl Signals ===

impl Signals {
    /// Takes the signals over for the rest of the process.
    pub(super) fn take_over() -> Result<Self, Failure> {
        let mut receivers = Vec::with_capacity(FORWARDED_SIGNALS.len());
        for number in FORWARDED_SIGNALS {
            let receiver = signal(SignalKind::from_raw(number)).map_err(|error| {
                Failure::setup(format!("cannot take over signal {number}: {error}"))
            })?;
            receivers.push((number, receiver));
        }
        Ok(Self { receivers })
    }

    /// The number of the next signal. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, receiver) in &mut self.receivers {
                if let Poll::Ready(Some(())) = receiver.poll_recv(context) {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}
