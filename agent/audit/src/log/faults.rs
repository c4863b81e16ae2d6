//! System calls that fail when a test wants them to.

use std::{cell::Cell, io};

use rustix::io::Errno;

/// Which calls fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    /// None.
    #[default]
    None,
    /// The one after so many others.
    One(usize),
    /// All after so many: what is on the disk then is what a process leaves that is killed there.
    AllFrom(usize),
}

/// Counts calls and fails some.
#[derive(Debug, Default)]
pub(super) struct Faults {
    fault: Cell<Fault>,
    calls: Cell<usize>,
}

impl Faults {
    /// From now on, with the count at 0.
    pub(super) fn set(&self, fault: Fault) {
        self.fault.set(fault);
        self.calls.set(0);
    }

    /// Calls since then.
    pub(super) fn calls(&self) -> usize {
        self.calls.get()
    }

    /// To be asked before each call.
    pub(super) fn next(&self) -> io::Result<()> {
        let before = self.calls.replace(self.calls.get() + 1);
        let fails = match self.fault.get() {
            Fault::None => false,
            Fault::One(n) => before == n,
            Fault::AllFrom(n) => before >= n,
        };
        if fails {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }
}
