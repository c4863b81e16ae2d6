//! Answers the calls that the filters refuse, and tells of them.
//!
//! Every call is answered with EPERM at once, whether or not there is a daemon: what does not fit into
//! the pipe is counted, and the count is told as soon as there is room. No call is ever let go on.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
};

use clawd_common::syscall::{Arch, X32_BIT};
use clawd_sys::{
    rustix::{
        self,
        event::{PollFd, PollFlags},
        process::Pid,
        time::{ClockId, clock_gettime},
    },
    seccomp::{self, Notification},
    signals,
};

use super::reaper::Duty;
use crate::refusal::Refusal;

/// The listener of the filters, and the pipe that refusals are told through.
#[derive(Debug)]
pub(crate) struct Desk {
    listener: OwnedFd,
    /// Does not block.
    told: OwnedFd,
    /// Refusals whose records did not fit.
    lost: u32,
}

impl Desk {
    pub(crate) fn new(listener: OwnedFd, told: OwnedFd) -> Self {
        Self {
            listener,
            told,
            lost: 0,
        }
    }

    /// What to wait for: a call, and room in the pipe while lost records are to be told of.
    fn both(&self) -> [PollFd<'_>; 2] {
        let room = if self.lost == 0 {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        [
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.told.as_fd(), room),
        ]
    }

    /// Does what is to be done after a wait that found this.
    ///
    /// # Errors
    /// The listener failed; whoever served it must end, and the sandbox with it.
    fn serve(&mut self, [call, room]: [PollFlags; 2]) -> io::Result<()> {
        if room.contains(PollFlags::OUT) {
            self.tell(Refusal::default());
        }
        if call.is_empty() {
            return Ok(());
        }
        if !call.contains(PollFlags::IN) {
            return Err(io::Error::other("the listener is closed"));
        }
        match seccomp::receive(self.listener.as_fd())? {
            Some(notification) => self.answer(&notification),
            None => Ok(()),
        }
    }

    fn answer(&mut self, call: &Notification) -> io::Result<()> {
        let (tgid, start_ticks) = self.process(call).unwrap_or_default();
        self.tell(Refusal {
            boottime_ns: boottime_ns(),
            arguments: call.arguments,
            start_ticks,
            tid: if tgid == 0 { 0 } else { call.tid },
            tgid,
            number: call.number,
            arch: call.arch,
            lost: 0,
            is_call: true,
        });
        if is_foreign(call) {
            self.kill(call);
        }
        seccomp::refuse(self.listener.as_fd(), call.id, libc::EPERM)
    }

    /// A program that uses a foreign table gets nowhere, its exit not excepted: it would try for ever.
    fn kill(&self, call: &Notification) {
        let thread = i32::try_from(call.tid).ok().and_then(Pid::from_raw);
        // Nobody else can have the number while the call waits.
        if let Some(thread) = thread
            && seccomp::is_waiting(self.listener.as_fd(), call.id)
            && let Err(error) = signals::send(thread, libc::SIGKILL)
        {
            tracing::debug!(%error, "a program with a foreign system call table is gone already");
        }
    }

    /// The process of a waiting thread, and when it was started; `None` where that cannot be read or
    /// is not known to be of this thread.
    fn process(&self, call: &Notification) -> Option<(u32, u64)> {
        let status = fs::read(format!("/proc/{}/status", call.tid)).ok()?;
        let tgid = tgid(&status)?;
        let stat = fs::read(format!("/proc/{tgid}/stat")).ok()?;
        let start_ticks = start_ticks(&stat)?;
        seccomp::is_waiting(self.listener.as_fd(), call.id).then_some((tgid, start_ticks))
    }

    /// Writes a record, or counts it as lost.
    fn tell(&mut self, mut refusal: Refusal) {
        refusal.lost = self.lost;
        // A pipe takes a record whole or not at all.
        let is_told = rustix::io::write(&self.told, &refusal.encode()).is_ok();
        self.lost = match (is_told, refusal.is_call) {
            (true, _) => 0,
            (false, true) => self.lost.saturating_add(1),
            (false, false) => self.lost,
        };
    }
}

impl Duty for Desk {
    fn polled(&self) -> Vec<PollFd<'_>> {
        self.both().into()
    }

    fn attend(&mut self, found: &[PollFlags]) -> io::Result<bool> {
        let of = |number: usize| found.get(number).copied().unwrap_or(PollFlags::empty());
        self.serve([of(0), of(1)])?;
        Ok(true)
    }
}

fn is_foreign(call: &Notification) -> bool {
    Arch::native().map(Arch::audit) != Some(call.arch) || call.number & X32_BIT != 0
}

fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// `Tgid` of `/proc/<tid>/status`. The name that a program gives itself comes before it, but on a line
/// of its own, with line breaks escaped.
fn tgid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(b"Tgid:"))?;
    number(value.trim_ascii())
}

/// Field 22 of `/proc/<pid>/stat`. The second is a name in brackets, which may hold brackets.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(after..)?.split(|byte| *byte == b' ').skip(1);
    number(fields.nth(19)?)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::{Desk, Refusal, start_ticks, tgid};
    use crate::refusal::REFUSAL_BYTES;

    #[test]
    fn process_is_read_past_a_name_that_looks_like_fields() {
        let status = b"Name:\tx\\nTgid:\t1\nUmask:\t0022\nTgid:\t42\nNgid:\t0\n";
        assert_eq!(tgid(status), Some(42));
        assert_eq!(tgid(b"Name:\tx\n"), None);
        let fields = (4..=30).map(|field| field.to_string()).collect::<Vec<_>>();
        let stat = format!("7 (a) S 1 2 ) R {}", fields.join(" "));
        assert_eq!(start_ticks(stat.as_bytes()), Some(22));
        assert_eq!(start_ticks(b"7 (a) S 1 2"), None);
    }

    #[test]
    fn refusals_that_do_not_fit_are_counted_and_told_later() {
        let (reader, writer) = std::io::pipe().expect("pipe");
        for end in [
            &OwnedFd::from(reader.try_clone().expect("clone")),
            &writer.try_clone().expect("clone").into(),
        ] {
            clawd_sys::rustix::io::ioctl_fionbio(end, true).expect("non-blocking");
        }
        let listener = std::fs::File::open("/dev/null").expect("open").into();
        let mut desk = Desk::new(listener, writer.into());
        let call = Refusal {
            number: 101,
            is_call: true,
            ..Refusal::default()
        };
        let mut written = 0_u32;
        while desk.lost < 3 {
            desk.tell(call);
            written += 1;
        }
        let mut records = Vec::new();
        let mut read = || {
            let mut bytes = [0; REFUSAL_BYTES];
            while clawd_sys::rustix::io::read(&reader, &mut bytes).is_ok() {
                records.push(Refusal::decode(&bytes));
            }
            std::mem::take(&mut records)
        };
        let told = read();
        assert_eq!(told.len(), usize::try_from(written - 3).expect("small"));
        assert!(told.iter().all(|record| *record == call));
        desk.tell(Refusal::default());
        assert_eq!(
            read(),
            [Refusal {
                lost: 3,
                ..Refusal::default()
            }]
        );
        desk.tell(call);
        assert_eq!(read(), [call]);
    }
}
