//! API keys: the form of those that the gateway makes, and the digest that is kept in place of any.
//!
//! `wg_`, 12 characters of an id, `_`, 32 of a secret, 6 of a checksum: CRC-32 of all that stands before it, in base 62. The id
//! finds the key, the checksum tells a typo, and scanners for secrets know all of it by its form.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rand::{
    CryptoRng,
    distr::{Alphanumeric, SampleString},
};
use sha2::{Digest as _, Sha256};

/// Longer ones are no keys.
pub const LONGEST: usize = 4096;

const PREFIX: &str = "wg_";
const ID: usize = 12;
const SECRET: usize = 32;
const CHECKSUM: usize = 6;
const LENGTH: usize = PREFIX.len() + ID + 1 + SECRET + CHECKSUM;

/// From the smallest digit to the largest.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// What can be told of a key by looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'k> {
    /// Of the gateway's form, with this id.
    Own(&'k str),
    /// Of that form, but for its checksum.
    Mistyped,
    /// An operator's own.
    Other,
}

/// A new key of the gateway's form.
pub fn make(random: &mut impl CryptoRng) -> String {
    let [id, secret] = [ID, SECRET].map(|length| Alphanumeric.sample_string(random, length));
    complete(format!("{PREFIX}{id}_{secret}"))
}

/// With the checksum behind it.
pub fn complete(text: String) -> String {
    let checksum = checksum(&text);
    text + &checksum
}

pub fn form(key: &str) -> Form<'_> {
    let Some((id, rest)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
        return Form::Other;
    };
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if key.len() != LENGTH || id.len() != ID || !is_word(id) || !is_word(rest) {
        return Form::Other;
    }
    let (before, given) = key.split_at(LENGTH - CHECKSUM);
    if checksum(before) == given { Form::Own(id) } else { Form::Mistyped }
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [DIGITS[0]; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[rest % DIGITS.len()];
        rest /= DIGITS.len();
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

impl Digest {
    pub fn of(key: &str) -> Self {
        Digest(Sha256::digest(key).into())
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
        bytes.try_into().ok().map(Digest)
    }

    /// In hexadecimal.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// In a time that does not depend on where they differ.
    pub fn is(&self, other: &Digest) -> bool {
        wasmgate_crypto::equal(&self.0, &other.0)
    }
}

/// Leaves it out: a word that somebody chose could be guessed from it.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_key_has_the_form_and_tells_its_id() {
        let mut random = rand::rng();
        let (first, second) = (make(&mut random), make(&mut random));
        assert_ne!(first, second);
        let Form::Own(id) = form(&first) else { panic!("{first}") };
        assert_eq!((first.len(), id.len(), &first[3..15]), (54, 12, id));
    }

    /// CRC-32 of "123456789" is cbf43926 (the check value of CRC-32/ISO-HDLC).
    #[test]
    fn the_checksum_is_crc_32_in_base_62() {
        let digits = checksum("123456789");
        let values = digits.bytes().map(|digit| DIGITS.iter().position(|d| *d == digit).unwrap());
        assert_eq!(values.fold(0, |sum, digit| sum * 62 + digit), 0xcbf4_3926);
        assert_eq!(checksum("").len(), CHECKSUM);
    }

    #[test]
    fn what_is_not_of_the_form() {
        let key = make(&mut rand::rng());
        for other in ["", "wg_", "demo-key", &key[1..], &key[..53], &format!("{key}0"), &key.to_uppercase()] {
            assert_eq!(form(other), Form::Other, "{other}");
        }
        assert_eq!(form(&key.replacen("_", "-", 2)), Form::Other);
        assert_eq!(form(&format!("{}ä{}", &key[..20], &key[22..])), Form::Other);
    }

    #[test]
    fn digests() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of("").hex(), empty);
        assert!(Digest::from_hex(&empty.to_uppercase()).is_some_and(|digest| digest.is(&Digest::of(""))));
        for text in ["", &empty[1..], &format!("{empty}00"), &"zz".repeat(32), &"ä".repeat(32)] {
            assert_eq!(Digest::from_hex(text), None);
        }
        assert!(!Digest::of("a").is(&Digest::of("b")));
        assert_eq!(format!("{:?}", Digest::of("")), "(hidden)");
    }

    proptest! {
        /// One changed character is always told: CRC-32 sees every burst of up to 32 bits.
        #[test]
        fn a_typo_is_told(at in 3..54_usize, with in "[0-9A-Za-z]") {
            let mut key = make(&mut rand::rng());
            if at != 15 && key[at..=at] != *with {
                key.replace_range(at..=at, &with);
                prop_assert_eq!(form(&key), Form::Mistyped);
            }
        }

        #[test]
        fn any_text_has_a_form(text in any::<String>()) {
            form(&text);
        }
    }
}
