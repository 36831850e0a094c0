//! What is behind the interface `crypto`: plain functions and keys, with nothing of their own but rules about
//! what is accepted. The gateway and the fake host of plugins' tests run the same code.

mod jwk;
mod key;
mod password;
mod pem;
mod sealer;

use aws_lc_rs::{constant_time, digest, hmac};

pub use key::{Algorithm, Fault, KeyError, VerificationKey};
pub use password::{PasswordFault, SALT, StoredPassword, hash_password};
pub use sealer::{NONCE, Sealer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha384 => hmac::HMAC_SHA384,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

pub fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, data).as_ref().to_vec()
}

pub fn hmac(hash: Hash, key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hash.hmac(), key), data).as_ref().to_vec()
}

/// Whether `tag` is the whole HMAC, in a time that does not depend on where they differ.
pub fn verify_hmac(hash: Hash, key: &[u8], data: &[u8], tag: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hash.hmac(), key), data, tag).is_ok()
}

/// Whether two strings of bytes are equal. Their hashes are compared, so that the time depends on either
/// length alone and not on whether the lengths are the same.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    let [a, b] = [a, b].map(|bytes| digest::digest(&digest::SHA256, bytes));
    constant_time::verify_slices_are_equal(a.as_ref(), b.as_ref()).is_ok()
}

#[cfg(test)]
mod tests;
