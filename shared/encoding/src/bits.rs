//! Integers of a known width, packed without gaps, the lowest bit first.

use crate::DecodeError;

/// The widest integer that one look at eight bytes gives: with up to seven bits before it, it still lies within them.
pub const MAX_WIDTH: u32 = 57;

/// How many bits an integer needs: 0 for 0.
#[must_use]
#[inline]
pub fn width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Packs integers.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    /// Fewer than 64 between two calls.
    pending_bits: u32,
}

impl BitWriter {
    /// Appends the low `width` bits, at most 64; the other bits must be zero.
    #[inline]
    pub fn put(&mut self, value: u64, width: u32) {
        debug_assert!(width <= 64 && crate::bits::width(value) <= width);
        let before = self.pending_bits;
        self.pending |= value << before;
        self.pending_bits += width;
        if self.pending_bits >= 64 {
            self.bytes.extend_from_slice(&self.pending.to_le_bytes());
            // The bits that did not fit: by 64 - before, which may be 64.
            self.pending = (value >> 1) >> (63 - before);
            self.pending_bits -= 64;
        }
    }

    /// The bytes, the last one filled up with zeros.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let bytes = self.pending_bits.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
        self.bytes
    }
}

/// The eight bytes from a byte on, as an integer. Bytes beyond the end are zero.
#[inline]
fn word(bytes: &[u8], first: usize) -> u64 {
    match bytes.get(first..first + 8).and_then(|slice| slice.try_into().ok()) {
        Some(word) => u64::from_le_bytes(word),
        None => last_word(bytes, first),
    }
}

#[cold]
fn last_word(bytes: &[u8], first: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(first)) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// The integer of `width` bits (at most [`MAX_WIDTH`]) at a bit offset. Bits beyond the end are zero.
#[must_use]
#[inline]
pub fn get(bytes: &[u8], at: usize, width: u32) -> u64 {
    (word(bytes, at / 8) >> (at % 8)) & ((1 << width) - 1)
}

/// Reads what a [`BitWriter`] wrote. Bits beyond the end are zero until [`BitReader::check`] is asked.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, at least [`MAX_WIDTH`] of them, without passing them.
    #[must_use]
    #[inline]
    pub fn peek(&self) -> u64 {
        word(self.bytes, self.at / 8) >> (self.at % 8)
    }

    /// Passes bits.
    #[inline]
    pub fn skip(&mut self, bits: u32) {
        self.at += bits as usize;
    }

    /// An integer of `width` bits, at most 64.
    #[inline]
    pub fn take(&mut self, width: u32) -> u64 {
        if width > MAX_WIDTH {
            let low = self.take(32);
            return low | self.take(width - 32) << 32;
        }
        let value = self.peek() & ((1 << width) - 1);
        self.skip(width);
        value
    }

    /// Whether all bits that were read are there.
    ///
    /// # Errors
    /// When some were not.
    #[inline]
    pub fn check(&self) -> Result<(), DecodeError> {
        if self.at <= self.bytes.len() * 8 {
            Ok(())
        } else {
            Err(DecodeError::Truncated)
        }
    }

    /// How many bytes were touched.
    #[must_use]
    pub fn bytes_read(&self) -> usize {
        self.at.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn beyond_the_end_is_zero() {
        assert_eq!(get(&[0xff], 4, 57), 0x0f);
        assert_eq!(get(&[], 100, 57), 0);
        let mut reader = BitReader::new(&[0xff]);
        assert_eq!((reader.take(8), reader.check()), (0xff, Ok(())));
        assert_eq!((reader.take(1), reader.check()), (0, Err(DecodeError::Truncated)));
    }

    proptest! {
        #[test]
        fn integers_of_any_width_survive(values in proptest::collection::vec((any::<u64>(), 0..=64_u32), 0..100)) {
            let low = |value: u64, width: u32| if width == 64 { value } else { value & ((1 << width) - 1) };
            let mut writer = BitWriter::default();
            for (value, width) in &values {
                writer.put(low(*value, *width), *width);
            }
            let bytes = writer.finish();
            let (mut at, mut reader) = (0, BitReader::new(&bytes));
            for (value, width) in &values {
                prop_assert_eq!(reader.take(*width), low(*value, *width));
                if *width <= MAX_WIDTH {
                    prop_assert_eq!(get(&bytes, at, *width), low(*value, *width));
                }
                at += *width as usize;
            }
            prop_assert_eq!(reader.check(), Ok(()));
            prop_assert_eq!(bytes.len(), at.div_ceil(8));
            prop_assert_eq!(bytes.len(), reader.bytes_read());
        }
    }
}
