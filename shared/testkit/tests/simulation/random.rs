//! Random numbers that stay the same for a seed for ever: seeds that found a bug are kept, so that no update of a crate may
//! change what they stand for. SplitMix64 (Steele, Lea, Flood 2014).

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `count - 1`; 0 when `count` is 0. The bias is of no matter here.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.next() % (count.max(1) as u64)) as usize
    }

    /// From `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = to.abs_diff(from) + 1;
        from + (self.next() % span) as i64
    }

    /// Small numbers more often than large ones: from `from` to `to`, evenly in their logarithms.
    pub(crate) fn magnitude(&mut self, from: i64, to: i64) -> i64 {
        let (low, high) = ((from.max(1) as f64).ln(), (to.max(1) as f64).ln());
        let at = low + (high - low) * self.unit();
        (at.exp().round() as i64).clamp(from, to)
    }

    /// From 0 to less than 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of the things, which must not be none.
    pub(crate) fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        let at = self.below(things.len());
        &things[at]
    }
}
