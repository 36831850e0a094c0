//! A map keyed by short texts (hosts and path segments). Knows nothing of what it maps to.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The keys come from the configuration and requests only look up, so nobody outside can crowd a bucket: a quick hash
/// without a secret is enough.
pub(super) type TextMap<V> = HashMap<Box<str>, V, BuildHasherDefault<TextHasher>>;

/// Eight bytes at a time, mixed by a wide multiplication whose halves are folded together.
#[derive(Default)]
pub(super) struct TextHasher(u64);

/// The fraction of the golden ratio, made odd: its bits look random.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for TextHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= bytes.len() as u64;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.mix(last_word(bytes));
        }
    }

    /// Ends every text and says nothing, since the length is hashed.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl TextHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ MULTIPLIER) * u128::from(MULTIPLIER);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

/// The end of a text in one word. It may overlap what was hashed before, which is quicker than to cut.
fn last_word(bytes: &[u8]) -> u64 {
    if let Some(word) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*word);
    }
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(low), Some(high)) => {
            u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32
        }
        _ => bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;

    #[test]
    fn spreads_similar_texts() {
        let build = BuildHasherDefault::<TextHasher>::default();
        let hashes: Vec<u64> = (0..4096).map(|n| build.hash_one(format!("resource-{n}"))).collect();
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0xfff).collect();
        let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 2400, "4096 random values fill about 2589 of 4096 buckets, these {}", low.len());
        assert_eq!(high.len(), 128);
    }
}
