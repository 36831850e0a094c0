//! `crypto`: digests, signatures and sealed data. Keys lie in the instance's table, and the guest has handles.

use wasmgate_crypto::{NONCE, Sealer, VerificationKey};
use wasmtime::{Error, Result, component::Resource};

use super::bindings::wasmgate::plugin::crypto::{
    self, Algorithm, Hash, HostSealer, HostVerificationKey, KeyError, KeyFault, PasswordError,
};
use crate::{
    capability::{self, passwords::Unknown},
    wasm::store::Host,
};

/// Keys and sealers of one instance: their memory is the host's and not the guest's.
const MAX_KEYS: usize = 1024;

impl Host {
    /// Keeps a key for the guest.
    fn keep<T: Send + 'static>(
        &mut self,
        made: Result<T, wasmgate_crypto::KeyError>,
    ) -> Result<Result<Resource<T>, KeyError>> {
        let key = match made {
            Ok(key) => key,
            Err(error) => return Ok(Err(error.into())),
        };
        if self.keys >= MAX_KEYS {
            let detail = format!("there are {MAX_KEYS} keys and sealers already");
            return Ok(Err(KeyError { fault: KeyFault::Exhausted, detail }));
        }
        let handle = self.table.push(key)?;
        self.keys += 1;
        Ok(Ok(handle))
    }

    fn forget<T: 'static>(&mut self, handle: Resource<T>) -> Result<()> {
        self.table.delete(handle)?;
        self.keys -= 1;
        Ok(())
    }
}

impl crypto::Host for Host {
    fn digest(&mut self, hash: Hash, data: Vec<u8>) -> Result<Vec<u8>> {
        Ok(wasmgate_crypto::digest(hash.into(), &data))
    }

    fn hmac(&mut self, hash: Hash, key: Vec<u8>, data: Vec<u8>) -> Result<Vec<u8>> {
        Ok(wasmgate_crypto::hmac(hash.into(), &key, &data))
    }

    fn verify_hmac(&mut self, hash: Hash, key: Vec<u8>, data: Vec<u8>, tag: Vec<u8>) -> Result<bool> {
        Ok(wasmgate_crypto::verify_hmac(hash.into(), &key, &data, &tag))
    }

    fn equal(&mut self, a: Vec<u8>, b: Vec<u8>) -> Result<bool> {
        Ok(wasmgate_crypto::equal(&a, &b))
    }

    async fn verify_password(
        &mut self,
        hash: String,
        password: Vec<u8>,
    ) -> Result<Result<bool, PasswordError>> {
        let _waiting = self.waiting.begin(&self.clock);
        let verified = self.plugin.capabilities.passwords.verify(&hash, password).await;
        Ok(verified.map_err(Into::into))
    }
}

impl HostVerificationKey for Host {
    fn from_jwk(
        &mut self,
        jwk: String,
        algorithm: Algorithm,
    ) -> Result<Result<Resource<VerificationKey>, KeyError>> {
        self.keep(VerificationKey::from_jwk(&jwk, algorithm.into()))
    }

    fn from_pem(
        &mut self,
        pem: String,
        algorithm: Algorithm,
    ) -> Result<Result<Resource<VerificationKey>, KeyError>> {
        self.keep(VerificationKey::from_pem(&pem, algorithm.into()))
    }

    fn from_secret(
        &mut self,
        secret: Vec<u8>,
        algorithm: Algorithm,
    ) -> Result<Result<Resource<VerificationKey>, KeyError>> {
        self.keep(VerificationKey::from_secret(&secret, algorithm.into()))
    }

    fn verify(&mut self, key: Resource<VerificationKey>, data: Vec<u8>, signature: Vec<u8>) -> Result<bool> {
        Ok(self.table.get(&key)?.verify(&data, &signature))
    }

    fn drop(&mut self, key: Resource<VerificationKey>) -> Result<()> {
        self.forget(key)
    }
}

impl HostSealer for Host {
    fn from_keys(&mut self, keys: Vec<Vec<u8>>) -> Result<Result<Resource<Sealer>, KeyError>> {
        self.keep(Sealer::new(&keys))
    }

    fn seal(&mut self, sealer: Resource<Sealer>, plaintext: Vec<u8>, associated: Vec<u8>) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE];
        capability::random::fill(&mut nonce);
        let sealed = self.table.get(&sealer)?.seal(nonce, &plaintext, &associated);
        sealed.ok_or_else(|| Error::msg("there is too much to be sealed at once"))
    }

    fn open(
        &mut self,
        sealer: Resource<Sealer>,
        sealed: Vec<u8>,
        associated: Vec<u8>,
    ) -> Result<Option<Vec<u8>>> {
        Ok(self.table.get(&sealer)?.open(&sealed, &associated))
    }

    fn drop(&mut self, sealer: Resource<Sealer>) -> Result<()> {
        self.forget(sealer)
    }
}

impl From<Hash> for wasmgate_crypto::Hash {
    fn from(hash: Hash) -> Self {
        match hash {
            Hash::Sha256 => Self::Sha256,
            Hash::Sha384 => Self::Sha384,
            Hash::Sha512 => Self::Sha512,
        }
    }
}

impl From<Algorithm> for wasmgate_crypto::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::Hs256,
            Algorithm::Hs384 => Self::Hs384,
            Algorithm::Hs512 => Self::Hs512,
            Algorithm::Rs256 => Self::Rs256,
            Algorithm::Rs384 => Self::Rs384,
            Algorithm::Rs512 => Self::Rs512,
            Algorithm::Ps256 => Self::Ps256,
            Algorithm::Ps384 => Self::Ps384,
            Algorithm::Ps512 => Self::Ps512,
            Algorithm::Es256 => Self::Es256,
            Algorithm::Es384 => Self::Es384,
            Algorithm::Es512 => Self::Es512,
            Algorithm::Eddsa => Self::EdDsa,
        }
    }
}

impl From<wasmgate_crypto::KeyError> for KeyError {
    fn from(error: wasmgate_crypto::KeyError) -> Self {
        use wasmgate_crypto::Fault;
        let fault = match error.fault {
            Fault::Malformed => KeyFault::Malformed,
            Fault::Unsupported => KeyFault::Unsupported,
            Fault::Weak => KeyFault::Weak,
            Fault::WrongKind => KeyFault::WrongKind,
            Fault::WrongUse => KeyFault::WrongUse,
        };
        KeyError { fault, detail: error.detail }
    }
}

impl From<Unknown> for PasswordError {
    fn from(unknown: Unknown) -> Self {
        use wasmgate_crypto::PasswordFault;
        match unknown {
            Unknown::Hash(PasswordFault::Unsupported) => PasswordError::Unsupported,
            Unknown::Hash(PasswordFault::Malformed) => PasswordError::Malformed,
            Unknown::Hash(PasswordFault::TooCostly) => PasswordError::TooCostly,
            Unknown::Busy => PasswordError::Busy,
        }
    }
}
