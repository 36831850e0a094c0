//! Authenticated encryption with keys that change: the first seals, all open.
//!
//! XAES-256-GCM (C2SP): each message has an AES-256-GCM key of its own, derived from 192 random bits. With the
//! 96 bits of plain AES-GCM a key would be used up after 2^32 messages, which sessions of a busy gateway reach.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cmac,
    digest::{SHA256, digest},
    error::Unspecified,
};

use crate::{Fault, KeyError};

/// Random bytes of a message.
pub const NONCE: usize = 24;
const KEY: usize = 32;
const MAX_KEYS: usize = 16;
const TAG: usize = 16;
const VERSION: u8 = 1;
/// In front of every message: the version and what tells the key.
const HEAD: usize = 1 + 4;

pub struct Sealer(Vec<Key>);

struct Key {
    id: [u8; 4],
    derivation: cmac::Key,
}

impl Sealer {
    pub fn new(keys: &[impl AsRef<[u8]>]) -> Result<Self, KeyError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            let detail = format!("there are {} keys, and 1 to {MAX_KEYS} are possible", keys.len());
            return Err(KeyError::new(Fault::Malformed, detail));
        }
        let keys = keys.iter().enumerate().map(|(at, key)| Key::new(key.as_ref(), at + 1));
        Ok(Sealer(keys.collect::<Result<_, _>>()?))
    }

    /// Version, key, nonce, ciphertext, tag. The nonce has to be random. None for what is longer than AES-GCM can seal.
    pub fn seal(&self, nonce: [u8; NONCE], plaintext: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.first()?;
        let start = HEAD + NONCE;
        let mut sealed = Vec::with_capacity(start + plaintext.len() + TAG);
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let (cipher, nonce) = key.message(&nonce).ok()?;
        let tag =
            cipher.seal_in_place_separate_tag(nonce, Aad::from(associated), sealed.get_mut(start..)?).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// None for all that was not sealed by one of the keys with the same associated data.
    pub fn open(&self, sealed: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
        let (&[version, ref id @ ..], rest) = sealed.split_first_chunk::<HEAD>()?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>()?;
        if version != VERSION {
            return None;
        }
        // More than one only where two keys happen to have the same id.
        self.0.iter().filter(|key| key.id == *id).find_map(|key| {
            let (cipher, nonce) = key.message(nonce).ok()?;
            let mut buffer = ciphertext.to_vec();
            let length = cipher.open_in_place(nonce, Aad::from(associated), &mut buffer).ok()?.len();
            buffer.truncate(length);
            Some(buffer)
        })
    }
}

impl Key {
    fn new(key: &[u8], number: usize) -> Result<Self, KeyError> {
        let malformed = |detail| KeyError::new(Fault::Malformed, detail);
        if key.len() != KEY {
            return Err(malformed(format!("key {number} has {} bytes and not {KEY}", key.len())));
        }
        if key.iter().all(|byte| Some(byte) == key.first()) {
            return Err(KeyError::new(Fault::Weak, format!("key {number} is one byte again and again")));
        }
        Self::derive_from(key).ok_or_else(|| malformed(format!("key {number} is not one")))
    }

    fn derive_from(key: &[u8]) -> Option<Self> {
        let hash = digest(&SHA256, &[b"wasmgate sealer\0", key].concat());
        let id = *hash.as_ref().first_chunk()?;
        Some(Key { id, derivation: cmac::Key::new(cmac::AES_256, key).ok()? })
    }

    /// The key and the nonce of one message.
    fn message(&self, nonce: &[u8; NONCE]) -> Result<(LessSafeKey, Nonce), Unspecified> {
        let (salt, nonce) = nonce.split_at(NONCE / 2);
        let mut key = [0; KEY];
        for (half, counter) in key.chunks_exact_mut(KEY / 2).zip([1, 2]) {
            let mut block = [0, counter, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            block[4..].copy_from_slice(salt);
            half.copy_from_slice(cmac::sign(&self.derivation, &block)?.as_ref());
        }
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key)?);
        Ok((key, Nonce::try_assume_unique_for_key(nonce)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the specification (c2sp.org/XAES-256-GCM).
    #[test]
    fn messages_are_those_of_xaes_256_gcm() {
        let cases = [
            (1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
        ];
        for (byte, associated, expected) in cases {
            let sealer = Sealer(vec![Key::derive_from(&[byte; KEY]).unwrap()]);
            let sealed =
                sealer.seal(*b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM", associated.as_bytes()).unwrap();
            let hex: String = sealed[HEAD + NONCE..].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected);
            assert_eq!(sealer.open(&sealed, associated.as_bytes()).as_deref(), Some(&b"XAES-256-GCM"[..]));
        }
    }

    fn key(start: u8) -> Vec<u8> {
        (start..).take(KEY).collect()
    }

    #[test]
    fn keys_change() {
        let old = Sealer::new(&[key(1)]).unwrap();
        let new = Sealer::new(&[key(2), key(1)]).unwrap();
        let sealed = old.seal([7; NONCE], b"session", b"name").unwrap();
        assert_eq!(new.open(&sealed, b"name").as_deref(), Some(&b"session"[..]));
        let sealed = new.seal([7; NONCE], b"", b"").unwrap();
        assert_eq!((new.open(&sealed, b""), old.open(&sealed, b"")), (Some(Vec::new()), None));
    }

    #[test]
    fn nothing_that_was_changed_opens() {
        let sealer = Sealer::new(&[key(1), key(2)]).unwrap();
        let sealed = sealer.seal([7; NONCE], b"session", b"name").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(sealer.open(&changed, b"name"), None, "byte {at}");
            assert_eq!(sealer.open(&sealed[..at], b"name"), None, "length {at}");
        }
        assert_eq!(sealer.open(&sealed, b"names"), None);
        assert_eq!(sealer.open(&[sealed, vec![0]].concat(), b"name"), None);
    }

    #[test]
    fn keys_have_to_be_keys() {
        let fault = |keys: &[Vec<u8>]| Sealer::new(keys).err().map(|error| (error.fault, error.detail));
        let malformed = |text: &str| Some((Fault::Malformed, text.to_owned()));
        assert_eq!(fault(&[]), malformed("there are 0 keys, and 1 to 16 are possible"));
        assert_eq!(fault(&[key(1), vec![1; 31]]), malformed("key 2 has 31 bytes and not 32"));
        assert_eq!(fault(&[vec![0; 32]]).unwrap().0, Fault::Weak);
        assert!(fault(&vec![key(1); 17]).is_some());
    }
}
