//! Integers of a known width, packed without gaps, the lowest bit first.

/// The widest integer that is packed: with up to seven bits before it, it still lies within eight bytes.
pub const MAX_WIDTH: u32 = 57;

/// How many bits an integer needs: 0 for 0.
#[must_use]
pub fn width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Packs integers.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl BitWriter {
    /// Appends the low `width` bits, at most [`MAX_WIDTH`]; the other bits must be zero.
    #[inline]
    pub fn put(&mut self, value: u64, width: u32) {
        debug_assert!(width <= MAX_WIDTH && crate::bits::width(value) <= width);
        self.pending |= value << self.pending_bits;
        self.pending_bits += width;
        while self.pending_bits >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.pending_bits -= 8;
        }
    }

    /// The bytes, the last one filled up with zeros.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if self.pending_bits > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// The integer of `width` bits (at most [`MAX_WIDTH`]) at a bit offset. Bits beyond the end are zero.
#[must_use]
#[inline]
pub fn get(bytes: &[u8], at: usize, width: u32) -> u64 {
    let first = at / 8;
    let word = match bytes.get(first..first + 8).and_then(|slice| slice.try_into().ok()) {
        Some(word) => u64::from_le_bytes(word),
        None => {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(bytes.iter().skip(first)) {
                *to = *from;
            }
            u64::from_le_bytes(word)
        }
    };
    (word >> (at % 8)) & ((1 << width) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn beyond_the_end_is_zero() {
        assert_eq!(get(&[0xff], 4, 57), 0x0f);
        assert_eq!(get(&[], 100, 57), 0);
    }

    proptest! {
        #[test]
        fn integers_of_any_width_survive(values in proptest::collection::vec((any::<u64>(), 0..=MAX_WIDTH), 0..100)) {
            let mut writer = BitWriter::default();
            for (value, width) in &values {
                writer.put(value & ((1 << width) - 1), *width);
            }
            let bytes = writer.finish();
            let mut at = 0;
            for (value, width) in &values {
                prop_assert_eq!(get(&bytes, at, *width), value & ((1 << width) - 1));
                at += *width as usize;
            }
            prop_assert_eq!(bytes.len(), at.div_ceil(8));
        }
    }
}
