//! Which refused calls are alike, so that a flood of them is some records and a count.

use clawd_audit::{Flood, RefusedCall, flood::Summary};

/// What counts as the same call: a program may try every number of a foreign table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A call of the machine's own table.
    Call(u32),
    /// Any call of this table.
    Table(u32, bool),
}

/// So many of a call were refused besides those that have records.
pub(super) type Refused = Summary<Kind, RefusedCall>;

/// The refused calls of one sandbox: at most as many kinds as there are calls to refuse.
#[derive(Debug)]
pub(super) struct Limit(pub(super) Flood<Kind, RefusedCall>);

impl Default for Limit {
    fn default() -> Self {
        Self(Flood::new(usize::MAX))
    }
}

/// What a call is alike with. There is room for all of them.
pub(super) fn kinds(call: &RefusedCall) -> (Kind, Kind) {
    use clawd_common::syscall::{Arch, X32_BIT};

    let is_x32 = call.number & X32_BIT != 0;
    let kind = if Arch::native().map(Arch::audit) == Some(call.arch) && !is_x32 {
        Kind::Call(call.number)
    } else {
        Kind::Table(call.arch, is_x32)
    };
    (kind, kind)
}

#[cfg(test)]
mod tests {
    use clawd_audit::RefusedCall;
    use clawd_common::syscall::Arch;

    use super::kinds;

    #[test]
    fn foreign_numbers_are_one_call_and_own_ones_each_their_own() {
        let own = |number| RefusedCall {
            number,
            arch: Arch::native().expect("a known architecture").audit(),
            arguments: [0; 6],
        };
        let foreign = |number| RefusedCall {
            arch: 0x4000_0003,
            ..own(number)
        };
        let alike = |a: RefusedCall, b: RefusedCall| kinds(&a).0 == kinds(&b).0;
        assert!(alike(foreign(1), foreign(2)));
        assert!(!alike(own(1), own(2)) && !alike(own(1), foreign(1)));
        // The x32 table is another one under the same architecture.
        assert!(alike(own(0x4000_0001), own(0x4000_0002)) && !alike(own(0x4000_0001), own(1)));
        let with_arguments = RefusedCall {
            arguments: [1; 6],
            ..own(1)
        };
        assert!(alike(own(1), with_arguments));
    }
}
