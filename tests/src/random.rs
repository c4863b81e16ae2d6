//! Numbers that can be had again.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

/// Names the seed of a run that is to be repeated.
const SEED_VARIABLE: &str = "CLAWD_TESTS_SEED";

/// Numbers from a seed: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Of the seed in `CLAWD_TESTS_SEED`, else of the clock; prints it.
    #[must_use]
    pub fn seeded() -> Self {
        let given = env::var(SEED_VARIABLE).ok();
        let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
        });
        println!("seed: {SEED_VARIABLE}={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from(self.number() % end).unwrap_or_default()
    }

    /// From 0 up to 1.
    pub fn fraction(&mut self) -> f64 {
        let upper = u32::try_from(self.number() >> 32).unwrap_or_default();
        f64::from(upper) / 4_294_967_296.0
    }
}
