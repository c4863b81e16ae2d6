//! Splitting a stream of bytes into lines of bounded length.

/// Collects bytes, gives out whole lines.
#[derive(Debug)]
pub(crate) struct Lines {
    pending: Vec<u8>,
    limit_bytes: usize,
}

/// A line longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

// === impl Lines ===

impl Lines {
    /// Takes lines of up to `limit_bytes`.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        let pending = Vec::new();
        Self {
            pending,
            limit_bytes,
        }
    }

    /// Takes in `bytes`; returns the lines that they end, without line breaks.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(at);
            self.extend(line)?;
            lines.push(std::mem::take(&mut self.pending));
            rest = after.get(1..).unwrap_or_default();
        }
        self.extend(rest)?;
        Ok(lines)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.pending.len().saturating_add(bytes.len()) > self.limit_bytes {
            return Err(TooLong);
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Lines, TooLong};

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_come(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            piece in 1..50_usize,
        ) {
            let mut lines = Lines::new(200);
            let mut got = Vec::new();
            for chunk in bytes.chunks(piece) {
                got.extend(lines.push(chunk).expect("below the limit"));
            }
            let mut want: Vec<_> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            want.pop();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn lines_too_long_are_refused_before_they_are_kept() {
        let mut lines = Lines::new(4);
        assert_eq!(lines.push(b"1234\n12"), Ok(vec![b"1234".to_vec()]));
        assert_eq!(lines.push(b"345"), Err(TooLong));
    }
}
