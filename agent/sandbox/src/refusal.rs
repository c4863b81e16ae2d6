//! What pid 1 tells of each system call that it refused: a record of fixed size.

/// Bytes of a record; a pipe writes and reads it whole.
pub const REFUSAL_BYTES: usize = 96;
const _: () = assert!(REFUSAL_BYTES <= 4096, "PIPE_BUF");

/// One record of a sandbox's pipe of refusals.
///
/// All of it was read by pid 1 while the thread waited for its answer; process ids are those of the
/// sandbox's pid namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// When, in nanoseconds since boot.
    pub boottime_ns: u64,
    /// The registers, as they were.
    pub arguments: [u64; 6],
    /// When the process was started, in clock ticks since boot, as `/proc/<pid>/stat` tells it.
    pub start_ticks: u64,
    /// The thread; 0 where it was gone before anything was read of it.
    pub tid: u32,
    /// Its process; 0 likewise.
    pub tgid: u32,
    /// The number of the call.
    pub number: u32,
    /// `AUDIT_ARCH_*` of the table that the number is of.
    pub arch: u32,
    /// Refusals since the record before whose own records did not fit into the pipe.
    pub lost: u32,
    /// Whether this record tells of a call; else it tells of those that were lost alone.
    pub is_call: bool,
}

// === impl Refusal ===

impl Refusal {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; REFUSAL_BYTES] {
        let mut bytes = [0; REFUSAL_BYTES];
        let longs = [self.boottime_ns, self.start_ticks]
            .into_iter()
            .chain(self.arguments);
        let words = [
            self.tid,
            self.tgid,
            self.number,
            self.arch,
            self.lost,
            self.is_call.into(),
        ];
        let (head, tail) = bytes.split_at_mut(64);
        for (to, from) in head.as_chunks_mut::<8>().0.iter_mut().zip(longs) {
            *to = from.to_le_bytes();
        }
        for (to, from) in tail.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = from.to_le_bytes();
        }
        bytes
    }

    /// Reads a record; every sequence of bytes is one.
    #[must_use]
    pub fn decode(bytes: &[u8; REFUSAL_BYTES]) -> Self {
        let (head, tail) = bytes.split_at(64);
        let mut longs = [0; 8];
        for (to, from) in longs.iter_mut().zip(head.as_chunks::<8>().0) {
            *to = u64::from_le_bytes(*from);
        }
        let mut words = [0; 8];
        for (to, from) in words.iter_mut().zip(tail.as_chunks::<4>().0) {
            *to = u32::from_le_bytes(*from);
        }
        let [boottime_ns, start_ticks, a, b, c, d, e, f] = longs;
        let [tid, tgid, number, arch, lost, is_call, _, _] = words;
        Self {
            boottime_ns,
            arguments: [a, b, c, d, e, f],
            start_ticks,
            tid,
            tgid,
            number,
            arch,
            lost,
            is_call: is_call == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{REFUSAL_BYTES, Refusal};

    #[test]
    fn refusal_is_read_as_it_was_written() {
        let refusal = Refusal {
            boottime_ns: u64::MAX - 1,
            arguments: [1, 2, 3, 4, 5, u64::MAX],
            start_ticks: 7 << 40,
            tid: 8,
            tgid: 9,
            number: 10,
            arch: 0xc000_003e,
            lost: 11,
            is_call: true,
        };
        assert_eq!(Refusal::decode(&refusal.encode()), refusal);
        let lost = Refusal {
            lost: 3,
            ..Refusal::default()
        };
        assert_eq!(Refusal::decode(&lost.encode()), lost);
        assert_eq!(Refusal::decode(&[0; REFUSAL_BYTES]), Refusal::default());
    }
}
