//! Numbers for things that repeat: each distinct thing gets the next number, and is found again by its hash. The things stay
//! with the caller; here are only hashes and numbers, so that no thing is copied and nothing is allocated per thing.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Dense numbers by hash.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    /// The hash of each number, for when the table grows.
    hashes: Vec<u64>,
    /// A part of the hash and the number plus one; zero where free. The length is a power of two.
    table: Vec<(u32, u32)>,
}

impl Interner {
    /// The number of a thing that was numbered before.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.table.is_empty() {
            return None;
        }
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (tag, number) = self.table[at];
            let number = number.checked_sub(1)?;
            if tag == (hash >> 32) as u32 && is(number) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    /// Numbers a thing that [`Self::find`] does not know.
    pub(crate) fn add(&mut self, hash: u64) -> u32 {
        let number = self.hashes.len() as u32;
        self.hashes.push(hash);
        // At most half full, so that a search ends soon.
        if self.hashes.len() * 2 > self.table.len() {
            let length = (self.table.len() * 2).max(64);
            self.table.clear();
            self.table.resize(length, (0, 0));
            for number in 0..self.hashes.len() {
                self.place(number as u32);
            }
        } else {
            self.place(number);
        }
        number
    }

    fn place(&mut self, number: u32) {
        let hash = self.hashes[number as usize];
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while self.table[at].1 != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = ((hash >> 32) as u32, number + 1);
    }
}

/// A seed that a client cannot know, so that it cannot send texts that all have one hash. No result depends on it.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Mixes a small number into a hash.
#[inline]
pub(crate) fn mix(hash: u64, number: u32) -> u64 {
    let product = u128::from(hash ^ u64::from(number).wrapping_add(0x9e37_79b9_7f4a_7c15)) * 0xd6e8_feb8_6659_fd93_u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_get_dense_numbers_and_are_found_again() {
        let things: Vec<String> = (0..1_000).map(|i| format!("thing {i}")).collect();
        let mut interner = Interner::default();
        // A poor hash: many things share it.
        let hash = |thing: &str| mix(7, thing.len() as u32 + u32::from(thing.as_bytes()[thing.len() - 1]));
        for (at, thing) in things.iter().enumerate() {
            let find = |number: u32| things[number as usize] == *thing;
            assert_eq!(interner.find(hash(thing), find), None);
            assert_eq!(interner.add(hash(thing)), at as u32);
        }
        for (at, thing) in things.iter().enumerate() {
            let find = |number: u32| things[number as usize] == *thing;
            assert_eq!(interner.find(hash(thing), find), Some(at as u32));
        }
    }
}
