//! Ctrl-C and SIGTERM as an error at the next step, so that everything made is removed on the way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has come. The first one is noted; a second ends the process on the spot, and
/// the next run sweeps away what it leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals over.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(super) fn take_over() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset and sets it.
            flag::register_conditional_default(signal, Arc::clone(&interrupt.0))
                .and_then(|_id| flag::register(signal, Arc::clone(&interrupt.0)))
                .context("cannot take over signals")?;
        }
        Ok(interrupt)
    }

    pub(super) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Names the signal as the reason of a failure: whatever failed after it failed because of it.
    ///
    /// # Errors
    /// The result is one.
    pub(super) fn explain<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        match result {
            Err(_consequence) if self.has_come() => bail!("interrupted"),
            result => result,
        }
    }

    /// Fails once a signal has come.
    ///
    /// # Errors
    /// It has.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.has_come() {
            bail!("interrupted");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupt_is_an_error_once_it_has_come() {
        let interrupt = Interrupt::default();
        assert!(interrupt.check().is_ok());
        interrupt.0.store(true, Ordering::Relaxed);
        assert!(interrupt.check().is_err());
        let explained = interrupt.explain::<()>(Err(anyhow::anyhow!("no output")));
        assert_eq!(explained.unwrap_err().to_string(), "interrupted");
        assert!(interrupt.explain(Ok(())).is_ok());
    }
}
