//! System calls by name and number: what policies write, filters compare, and records tell.

mod essential;
mod refused;
mod table;

pub use essential::ESSENTIAL;
pub use refused::{JUDGED, REFUSED, Refused, STRICT, refused};
use table::{NO, TABLE};

/// The newest system call that was judged: `file_setattr`, Linux 6.17. Numbers are the same on all
/// architectures from 424 on. A newer one is not there for a sandbox.
pub const NEWEST_JUDGED: u32 = 469;

/// Set in the number of an x32 call, which the kernel tells of as one of x86_64.
pub const X32_BIT: u32 = 0x4000_0000;

/// An architecture that sandboxes run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// Both.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one that this program is compiled for; `None` on any other.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// `AUDIT_ARCH_*`, include/uapi/linux/audit.h.
    #[must_use]
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }
}

/// The number of a call; `None` where the architecture has none of that name.
#[must_use]
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    let at = TABLE.binary_search_by(|row| row.0.cmp(name)).ok()?;
    TABLE.get(at).and_then(|row| of(arch, row))
}

/// The name of the call with this number.
#[must_use]
pub fn name(arch: Arch, number: u32) -> Option<&'static str> {
    let found = TABLE.iter().find(|row| of(arch, row) == Some(number));
    found.map(|row| row.0)
}

/// Every name, of one architecture or both, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

fn of(arch: Arch, &(_, x86_64, aarch64): &(&str, u16, u16)) -> Option<u32> {
    let number = match arch {
        Arch::X86_64 => x86_64,
        Arch::Aarch64 => aarch64,
    };
    (number != NO).then_some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::{Arch, NEWEST_JUDGED, TABLE, name, names, number};

    #[test]
    fn table_is_sorted_and_gives_every_number_once() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for arch in Arch::ALL {
            let mut numbers: Vec<u32> = names().filter_map(|name| number(arch, name)).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count);
            assert_eq!(numbers.last(), Some(&NEWEST_JUDGED));
            // Above the last number that differs between architectures there are no gaps.
            let common = numbers.iter().filter(|number| **number >= 424);
            assert_eq!(common.count(), 469 - 424 + 1);
        }
    }

    #[test]
    fn number_and_name_are_inverse_and_differ_by_architecture() {
        for arch in Arch::ALL {
            for known in names() {
                let Some(number) = number(arch, known) else {
                    continue;
                };
                assert_eq!(name(arch, number), Some(known));
            }
        }
        assert_eq!(number(Arch::X86_64, "ptrace"), Some(101));
        assert_eq!(number(Arch::Aarch64, "ptrace"), Some(117));
        assert_eq!(number(Arch::X86_64, "seccomp"), Some(317));
        assert_eq!(number(Arch::Aarch64, "fork"), None);
        assert_eq!(number(Arch::X86_64, "no_such_call"), None);
        assert_eq!(name(Arch::X86_64, 100_000), None);
    }
}
