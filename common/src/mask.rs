//! Sets of a policy's `binaries` entries.

use crate::{abi::assert_layout, verdict::NO_GRANT};

/// `binaries` entries of one policy, as bits: at most 256.
pub const GRANT_BITS: usize = 256;
/// Words of a [`GrantMask`].
pub const GRANT_WORDS: usize = GRANT_BITS / 64;

/// A set of `binaries` entries of one policy; bit `i` of word `i / 64` is entry `i`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantMask {
    /// Least significant bits first.
    pub words: [u64; GRANT_WORDS],
}
impl GrantMask {
    /// The empty set.
    pub const ZERO: Self = Self {
        words: [0; GRANT_WORDS],
    };

    /// Adds entry `index`; one past [`GRANT_BITS`] is not in any set and changes nothing.
    pub const fn insert(&mut self, index: usize) {
        if index < GRANT_BITS {
            self.words[index / 64] |= 1 << (index % 64);
        }
    }

    /// Takes entry `index` out.
    pub const fn remove(&mut self, index: usize) {
        if index < GRANT_BITS {
            self.words[index / 64] &= !(1 << (index % 64));
        }
    }

    /// Whether entry `index` is in the set.
    #[must_use]
    pub const fn contains(&self, index: usize) -> bool {
        index < GRANT_BITS && self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// Adds every entry of `other`.
    pub const fn union(&mut self, other: &Self) {
        let mut i = 0;
        while i < GRANT_WORDS {
            self.words[i] |= other.words[i];
            i += 1;
        }
    }

    /// Whether no entry is in the set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words[0] | self.words[1] | self.words[2] | self.words[3] == 0
    }

    /// Whether an entry is in both sets.
    #[must_use]
    #[inline(always)]
    pub const fn meets(&self, other: &Self) -> bool {
        let (a, b) = (&self.words, &other.words);
        (a[0] & b[0]) | (a[1] & b[1]) | (a[2] & b[2]) | (a[3] & b[3]) != 0
    }

    /// The lowest entry in both sets, or [`NO_GRANT`].
    #[must_use]
    #[inline(always)]
    pub const fn first_common(&self, other: &Self) -> u32 {
        let mut i = 0;
        let mut base = 0;
        while i < GRANT_WORDS {
            let both = self.words[i] & other.words[i];
            if both != 0 {
                return base + lowest_bit(both);
            }
            i += 1;
            base += u64::BITS;
        }
        NO_GRANT
    }
}
assert_layout!(GrantMask, size 32, align 8, { words @ 0 });

/// Position of the lowest bit of a word that is not zero: the number of bits below it, counted in parallel
/// (Warren, Hacker's Delight, 5-1).
///
/// eBPF has no instruction for `trailing_zeros`, and LLVM's table for it needs a relocation into a section
/// that the loader would have to carry. Without branches, because the verifier of 6.1 goes on with each
/// result by itself.
#[inline(always)]
const fn lowest_bit(word: u64) -> u32 {
    let below = (word & word.wrapping_neg()).wrapping_sub(1);
    let pairs = below - (below >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{GRANT_BITS, GrantMask, lowest_bit};
    use crate::verdict::NO_GRANT;

    proptest! {
        #[test]
        fn lowest_bit_agrees_with_std(word in 1..=u64::MAX, shift in 0..64_u32) {
            let word = (word << shift).max(1);
            prop_assert_eq!(lowest_bit(word), word.trailing_zeros());
        }

        #[test]
        fn first_common_is_the_least_shared_member(
            a in proptest::collection::btree_set(0..GRANT_BITS, 0..20),
            b in proptest::collection::btree_set(0..GRANT_BITS, 0..20),
        ) {
            let mask = |set: &std::collections::BTreeSet<usize>| {
                let mut mask = GrantMask::ZERO;
                set.iter().for_each(|i| mask.insert(*i));
                mask
            };
            let want = a.intersection(&b).next().map_or(NO_GRANT, |i| u32::try_from(*i).expect("small"));
            prop_assert_eq!(mask(&a).first_common(&mask(&b)), want);
            prop_assert_eq!(mask(&a).meets(&mask(&b)), want != NO_GRANT);
        }
    }

    #[test]
    fn grant_mask_index_out_of_range_is_ignored() {
        let mut mask = GrantMask::ZERO;
        mask.insert(GRANT_BITS);
        assert!(mask.is_empty());
        assert!(!mask.contains(GRANT_BITS));
        mask.insert(GRANT_BITS - 1);
        assert!(mask.contains(GRANT_BITS - 1) && !mask.contains(GRANT_BITS - 2));
        mask.remove(GRANT_BITS - 1);
        assert!(mask.is_empty());
    }
}
