//! `crypto` of the fake host: the gateway's own code, with the fake host's randomness.

use wasmgate_crypto::{Fault, NONCE, PasswordFault, StoredPassword};

pub use crate::bindings::plugin::wasmgate::plugin::crypto::{
    Algorithm, Hash, KeyError, KeyFault, PasswordError,
};
use crate::testing::host::current;

pub fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    wasmgate_crypto::digest(known(hash), data)
}

pub fn hmac(hash: Hash, key: &[u8], data: &[u8]) -> Vec<u8> {
    wasmgate_crypto::hmac(known(hash), key, data)
}

pub fn verify_hmac(hash: Hash, key: &[u8], data: &[u8], tag: &[u8]) -> bool {
    wasmgate_crypto::verify_hmac(known(hash), key, data, tag)
}

pub fn equal(a: &[u8], b: &[u8]) -> bool {
    wasmgate_crypto::equal(a, b)
}

pub fn verify_password(hash: &str, password: &[u8]) -> Result<bool, PasswordError> {
    let stored = StoredPassword::read(hash).map_err(|fault| match fault {
        PasswordFault::Unsupported => PasswordError::Unsupported,
        PasswordFault::Malformed => PasswordError::Malformed,
        PasswordFault::TooCostly => PasswordError::TooCostly,
    })?;
    stored.verify(password).ok_or(PasswordError::Busy)
}

pub struct VerificationKey(wasmgate_crypto::VerificationKey);

impl VerificationKey {
    pub fn from_jwk(jwk: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        wasmgate_crypto::VerificationKey::from_jwk(jwk, named(algorithm)).map(Self).map_err(refused)
    }

    pub fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        wasmgate_crypto::VerificationKey::from_pem(pem, named(algorithm)).map(Self).map_err(refused)
    }

    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        wasmgate_crypto::VerificationKey::from_secret(secret, named(algorithm)).map(Self).map_err(refused)
    }

    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        self.0.verify(data, signature)
    }
}

pub struct Sealer(wasmgate_crypto::Sealer);

impl Sealer {
    pub fn from_keys(keys: &[&[u8]]) -> Result<Self, KeyError> {
        wasmgate_crypto::Sealer::new(keys).map(Self).map_err(refused)
    }

    pub fn seal(&self, plaintext: &[u8], associated: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&current(|host| host.random_bytes(NONCE as u32)));
        self.0.seal(nonce, plaintext, associated).expect("not too much to be sealed at once")
    }

    pub fn open(&self, sealed: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
        self.0.open(sealed, associated)
    }
}

fn known(hash: Hash) -> wasmgate_crypto::Hash {
    match hash {
        Hash::Sha256 => wasmgate_crypto::Hash::Sha256,
        Hash::Sha384 => wasmgate_crypto::Hash::Sha384,
        Hash::Sha512 => wasmgate_crypto::Hash::Sha512,
    }
}

fn named(algorithm: Algorithm) -> wasmgate_crypto::Algorithm {
    use wasmgate_crypto::Algorithm as Known;
    match algorithm {
        Algorithm::Hs256 => Known::Hs256,
        Algorithm::Hs384 => Known::Hs384,
        Algorithm::Hs512 => Known::Hs512,
        Algorithm::Rs256 => Known::Rs256,
        Algorithm::Rs384 => Known::Rs384,
        Algorithm::Rs512 => Known::Rs512,
        Algorithm::Ps256 => Known::Ps256,
        Algorithm::Ps384 => Known::Ps384,
        Algorithm::Ps512 => Known::Ps512,
        Algorithm::Es256 => Known::Es256,
        Algorithm::Es384 => Known::Es384,
        Algorithm::Es512 => Known::Es512,
        Algorithm::Eddsa => Known::EdDsa,
    }
}

fn refused(error: wasmgate_crypto::KeyError) -> KeyError {
    let fault = match error.fault {
        Fault::Malformed => KeyFault::Malformed,
        Fault::Unsupported => KeyFault::Unsupported,
        Fault::Weak => KeyFault::Weak,
        Fault::WrongKind => KeyFault::WrongKind,
        Fault::WrongUse => KeyFault::WrongUse,
    };
    KeyError { fault, detail: error.detail }
}
