//! Positions in a stream.

use std::fmt;

/// A Kinesis sequence number. AWS writes up to 56 decimal digits, other implementations fewer; 192 bits hold 57.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber([u8; Self::BYTES]);

impl SequenceNumber {
    /// The bytes of a number in a key.
    pub const BYTES: usize = 24;

    /// Less than that of any record.
    pub const BEFORE_ALL: Self = Self([0; Self::BYTES]);

    /// Reads the decimal text. `None` when it is no number of at most 192 bits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let mut bytes = [0_u8; Self::BYTES];
        for digit in text.bytes() {
            if !digit.is_ascii_digit() {
                return None;
            }
            let mut carry = u16::from(digit - b'0');
            for byte in bytes.iter_mut().rev() {
                let product = u16::from(*byte) * 10 + carry;
                *byte = (product & 0xff) as u8;
                carry = product >> 8;
            }
            if carry != 0 {
                return None;
            }
        }
        Some(Self(bytes))
    }

    /// Big-endian, so that bytes order as numbers do.
    #[must_use]
    pub fn to_be_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// The reverse of [`Self::to_be_bytes`].
    #[must_use]
    pub fn from_be_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut digits = Vec::with_capacity(58);
        while rest.iter().any(|byte| *byte != 0) {
            let mut remainder = 0_u16;
            for byte in &mut rest {
                let dividend = (remainder << 8) | u16::from(*byte);
                *byte = (dividend / 10) as u8;
                remainder = dividend % 10;
            }
            digits.push(char::from(b'0' + remainder as u8));
        }
        if digits.is_empty() {
            digits.push('0');
        }
        f.pad_integral(true, "", &digits.iter().rev().collect::<String>())
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SequenceNumber({self})")
    }
}

/// The name of a shard, as Kinesis writes it (`shardId-000000000012`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub String);

impl ShardId {
    /// The number in the name. A name of another form gets a stable number of its own, so that keys stay distinct.
    #[must_use]
    pub fn number(&self) -> u32 {
        let digits = self.0.rsplit('-').next().unwrap_or_default();
        digits.parse().unwrap_or_else(|_| {
            let hash = xxhash_rust::xxh3::xxh3_64(self.0.as_bytes());
            (hash as u32) | 0x8000_0000
        })
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_of_56_digits_survives() {
        let text = "49590338271490256608559692538361571095921575989136588898";
        assert_eq!(SequenceNumber::parse(text).unwrap().to_string(), text);
        assert_eq!(SequenceNumber::parse("0").unwrap().to_string(), "0");
    }

    #[test]
    fn padding_goes_to_the_front() {
        assert_eq!(format!("{:060}", SequenceNumber::parse("42").unwrap()).len(), 60);
        assert!(format!("{:060}", SequenceNumber::parse("42").unwrap()).ends_with("0042"));
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for text in ["", "-1", "12a", &"9".repeat(59)] {
            assert_eq!(SequenceNumber::parse(text), None, "{text}");
        }
    }

    #[test]
    fn shards_are_numbered_by_their_names() {
        assert_eq!(ShardId("shardId-000000000012".into()).number(), 12);
        assert_ne!(ShardId("a".into()).number(), ShardId("b".into()).number());
    }

    proptest! {
        #[test]
        fn bytes_order_as_numbers_do(a: u128, b: u128) {
            let parse = |n: u128| SequenceNumber::parse(&n.to_string()).unwrap();
            prop_assert_eq!(parse(a).cmp(&parse(b)), a.cmp(&b));
            prop_assert_eq!(parse(a).to_string(), a.to_string());
            prop_assert_eq!(SequenceNumber::from_be_bytes(parse(a).to_be_bytes()), parse(a));
        }
    }
}
