//! Integers in as few bytes as they need: LEB128 (seven bits to a byte, the lowest first, the high bit set on all bytes but
//! the last), and zigzag for signed ones (0, -1, 1, -2, … become 0, 1, 2, 3, …).

use crate::DecodeError;

/// Appends an unsigned integer: 1 to 10 bytes.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer: 1 to 10 bytes.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// Appends a length.
pub fn put_len(out: &mut Vec<u8>, length: usize) {
    put_u64(out, length as u64);
}

/// Appends bytes after their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_u64`] takes.
#[must_use]
pub fn len_u64(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Maps small numbers of either sign to small unsigned ones.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
#[must_use]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads bytes from the front, checked at each step.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// At the end, or when it does not fit 64 bits.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        match self.rest.split_first() {
            Some((first, rest)) if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_u64(),
        }
    }

    fn long_u64(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds the 64th bit and nothing else.
            if at == 9 && *byte > 1 {
                return Err(DecodeError::Overlong);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 {
            DecodeError::Truncated
        } else {
            DecodeError::Overlong
        })
    }

    /// A signed integer.
    ///
    /// # Errors
    /// As [`Self::u64`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.u64().map(unzigzag)
    }

    /// A number of things of which at most `limit` are allowed; `what` names them in the error.
    ///
    /// # Errors
    /// As [`Self::u64`], and above the limit.
    #[inline]
    pub fn count(&mut self, limit: usize, what: &'static str) -> Result<usize, DecodeError> {
        match usize::try_from(self.u64()?) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(DecodeError::OutOfRange(what)),
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When there are fewer.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes after their length, as [`put_bytes`] writes them.
    ///
    /// # Errors
    /// When there are fewer.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.u64()?).map_err(|_| DecodeError::Truncated)?;
        self.take(length)
    }

    /// Ends reading.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_tenth_byte_holds_one_bit() {
        let mut bytes = vec![0xff; 9];
        bytes.push(0x01);
        assert_eq!(Reader::new(&bytes).u64(), Ok(u64::MAX));
        bytes[9] = 0x02;
        assert_eq!(Reader::new(&bytes).u64(), Err(DecodeError::Overlong));
        bytes[9] = 0x81;
        assert_eq!(Reader::new(&bytes).u64(), Err(DecodeError::Overlong));
    }

    #[test]
    fn an_end_in_the_middle_is_an_error() {
        for length in 0..10 {
            assert_eq!(Reader::new(&vec![0x80; length]).u64(), Err(DecodeError::Truncated));
        }
        assert_eq!(Reader::new(&[5, 1, 2]).bytes(), Err(DecodeError::Truncated));
    }

    #[test]
    fn counts_above_the_limit_and_leftovers_are_errors() {
        assert_eq!(
            Reader::new(&[5]).count(4, "series"),
            Err(DecodeError::OutOfRange("series"))
        );
        assert_eq!(Reader::new(&[5]).finish(), Err(DecodeError::Trailing));
    }

    proptest! {
        #[test]
        fn integers_survive(unsigned: u64, signed: i64, shift in 0_u32..64) {
            let (unsigned, signed) = (unsigned >> shift, signed >> shift);
            let mut bytes = Vec::new();
            put_u64(&mut bytes, unsigned);
            prop_assert_eq!(bytes.len(), len_u64(unsigned));
            put_i64(&mut bytes, signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.u64(), Ok(unsigned));
            prop_assert_eq!(reader.i64(), Ok(signed));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }
}
