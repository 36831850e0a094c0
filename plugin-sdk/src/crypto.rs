//! Cryptography by the host: digests, HMACs, signatures of JOSE, sealed data. It costs a fraction of what it
//! would cost in the plugin; make keys in [`Plugin::new`](crate::Plugin::new) and keep them.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize,
    de::{IntoDeserializer, value::StrDeserializer},
};

use crate::host::crypto;

/// A hash function (FIPS 180-4).
///
/// ```
/// use wasmgate_sdk::crypto::{self, Hash};
///
/// fn fingerprint(certificate: &[u8]) -> Vec<u8> {
///     crypto::digest(Hash::Sha256, certificate)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

/// The hash of these bytes.
///
/// ```
/// use wasmgate_sdk::{crypto::{self, Hash}, testing};
///
/// let digest = testing::Host::new().enter(|| crypto::digest(Hash::Sha256, "abc"));
/// assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
/// ```
pub fn digest(hash: Hash, data: impl AsRef<[u8]>) -> Vec<u8> {
    crypto::digest(hash.into(), data.as_ref())
}

/// The HMAC (RFC 2104) of these bytes, as long as the hash.
///
/// ```
/// use wasmgate_sdk::crypto::{self, Hash};
///
/// fn sign(secret: &[u8], body: &[u8]) -> Vec<u8> {
///     crypto::hmac(Hash::Sha256, secret, body)
/// }
/// ```
pub fn hmac(hash: Hash, key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Vec<u8> {
    crypto::hmac(hash.into(), key.as_ref(), data.as_ref())
}

/// Whether `tag` is the whole HMAC of the data. The time does not tell where they differ.
///
/// ```
/// use wasmgate_sdk::{crypto::{self, Hash}, testing};
///
/// testing::Host::new().enter(|| {
///     let tag = crypto::hmac(Hash::Sha512, "secret", "body");
///     assert!(crypto::verify_hmac(Hash::Sha512, "secret", "body", &tag));
///     assert!(!crypto::verify_hmac(Hash::Sha512, "secret", "another", &tag));
/// });
/// ```
pub fn verify_hmac(hash: Hash, key: impl AsRef<[u8]>, data: impl AsRef<[u8]>, tag: impl AsRef<[u8]>) -> bool {
    crypto::verify_hmac(hash.into(), key.as_ref(), data.as_ref(), tag.as_ref())
}

/// Whether two strings of bytes are equal. The time tells neither where they differ nor whether their lengths are
/// the same: for whatever is compared with a secret.
///
/// ```
/// use wasmgate_sdk::{Request, crypto};
///
/// fn has_token(request: &Request, token: &str) -> bool {
///     request.header("x-token").is_some_and(|given| crypto::equal(given, token))
/// }
/// ```
pub fn equal(a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> bool {
    crypto::equal(a.as_ref(), b.as_ref())
}

/// A signature algorithm of JOSE (RFC 7518, section 3.1, and RFC 8037). There is no `none`. In a config it stands by the
/// name that `alg` gives it.
///
/// ```
/// use wasmgate_sdk::crypto::Algorithm;
///
/// assert_eq!(Algorithm::from_name("ES256"), Some(Algorithm::Es256));
/// assert_eq!(Algorithm::from_name("none"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// ECDSA with P-521 and SHA-512.
    Es512,
    /// EdDSA with Ed25519.
    #[serde(rename = "EdDSA", alias = "Ed25519")]
    EdDsa,
}

impl Algorithm {
    /// The algorithm with this value of `alg`. `Ed25519` is another name of `EdDSA` here (RFC 9864).
    ///
    /// ```
    /// use wasmgate_sdk::crypto::Algorithm;
    ///
    /// assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::EdDsa));
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
        Algorithm::deserialize(name).ok()
    }
}

/// A key that verifies signatures of one algorithm, whatever the message asks for. An instance may have 1024 keys and
/// sealers.
///
/// ```
/// use wasmgate_sdk::{crypto::{Algorithm, VerificationKey}, testing};
///
/// let jwk = r#"{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
/// testing::Host::new().enter(|| {
///     let key = VerificationKey::from_jwk(jwk, Algorithm::EdDsa)?;
///     assert!(!key.verify("data", "no signature"));
///     let refused = VerificationKey::from_jwk(jwk, Algorithm::Rs256).unwrap_err();
///     assert_eq!(refused.to_string(), "the key is Ed25519, which is not one for RS256");
/// # Ok::<(), wasmgate_sdk::Error>(())
/// })?;
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub struct VerificationKey(crypto::VerificationKey);

impl VerificationKey {
    /// From a JSON Web Key (RFC 7517) of at most 64 KiB: kty RSA, EC (P-256, P-384, P-521), OKP (Ed25519) or oct. Of a private
    /// key the public part is taken.
    ///
    /// ```
    /// use wasmgate_sdk::{Result, crypto::{Algorithm, VerificationKey}};
    ///
    /// fn read(jwk: &str) -> Result<VerificationKey> {
    ///     Ok(VerificationKey::from_jwk(jwk, Algorithm::Es256)?)
    /// }
    /// ```
    pub fn from_jwk(jwk: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        Ok(VerificationKey(crypto::VerificationKey::from_jwk(jwk, algorithm.into())?))
    }

    /// From a public key in PEM of at most 64 KiB: `PUBLIC KEY`, `RSA PUBLIC KEY`, or the key of a `CERTIFICATE`, of which
    /// nothing else is looked at; of several certificates that of the first.
    ///
    /// ```
    /// use wasmgate_sdk::{Result, crypto::{Algorithm, VerificationKey}};
    ///
    /// fn read(pem: &str) -> Result<VerificationKey> {
    ///     Ok(VerificationKey::from_pem(pem, Algorithm::Rs256)?)
    /// }
    /// ```
    pub fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        Ok(VerificationKey(crypto::VerificationKey::from_pem(pem, algorithm.into())?))
    }

    /// From the bytes of a secret, for HS256, HS384 and HS512.
    ///
    /// ```
    /// use wasmgate_sdk::{crypto::{self, Algorithm, Hash, KeyFault, VerificationKey}, testing};
    ///
    /// testing::Host::new().enter(|| {
    ///     let secret = [7; 32];
    ///     let key = VerificationKey::from_secret(&secret, Algorithm::Hs256)?;
    ///     assert!(key.verify("data", &crypto::hmac(Hash::Sha256, &secret, "data")));
    ///     let refused = VerificationKey::from_secret(b"secret", Algorithm::Hs256).err().unwrap();
    ///     assert_eq!(refused.fault, KeyFault::Weak);
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// })?;
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn from_secret(secret: impl AsRef<[u8]>, algorithm: Algorithm) -> Result<Self, KeyError> {
        Ok(VerificationKey(crypto::VerificationKey::from_secret(secret.as_ref(), algorithm.into())?))
    }

    /// Whether the signature is this key's of these bytes. Signatures have the form of JOSE: those of ES256, ES384 and
    /// ES512 are two numbers of fixed length (RFC 7518, section 3.4).
    ///
    /// ```
    /// use wasmgate_sdk::crypto::VerificationKey;
    ///
    /// /// Of a JWS in compact form: header, payload, and the decoded signature.
    /// fn is_genuine(key: &VerificationKey, header_and_payload: &str, signature: &[u8]) -> bool {
    ///     key.verify(header_and_payload, signature)
    /// }
    /// ```
    pub fn verify(&self, data: impl AsRef<[u8]>, signature: impl AsRef<[u8]>) -> bool {
        self.0.verify(data.as_ref(), signature.as_ref())
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationKey")
    }
}

/// Keeps data secret and genuine that others hold: cookies, states, tickets. Keys can change: the first one seals, all
/// of them open. What is sealed is 45 bytes longer (XAES-256-GCM, with what tells the key in front).
///
/// ```
/// use wasmgate_sdk::{crypto::Sealer, random, testing};
///
/// testing::Host::new().enter(|| {
///     let (old, new) = (random::array::<32>(), random::array::<32>());
///     let sealed = Sealer::new(&[&old])?.seal("alice", "session");
///     let sealer = Sealer::new(&[&new, &old])?;
///     assert_eq!(sealer.open(&sealed, "session").as_deref(), Some(&b"alice"[..]));
///     assert_eq!(sealer.open(&sealed, "ticket"), None);
/// # Ok::<(), wasmgate_sdk::Error>(())
/// })?;
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub struct Sealer(crypto::Sealer);

impl Sealer {
    /// From 1 to 16 keys of 32 random bytes each.
    ///
    /// ```
    /// use wasmgate_sdk::{crypto::Sealer, testing};
    ///
    /// let refused = testing::Host::new().enter(|| Sealer::new(&[b"password"])).unwrap_err();
    /// assert_eq!(refused.to_string(), "key 1 has 8 bytes and not 32");
    /// ```
    pub fn new(keys: &[impl AsRef<[u8]>]) -> Result<Self, KeyError> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        Ok(Sealer(crypto::Sealer::from_keys(&keys)?))
    }

    /// Seals. `associated` is not part of the result, but has to be the same when it is opened: what the data is for.
    ///
    /// ```
    /// use wasmgate_sdk::crypto::Sealer;
    ///
    /// fn cookie(sealer: &Sealer, session: &[u8]) -> Vec<u8> {
    ///     sealer.seal(session, "session cookie")
    /// }
    /// ```
    pub fn seal(&self, plaintext: impl AsRef<[u8]>, associated: impl AsRef<[u8]>) -> Vec<u8> {
        self.0.seal(plaintext.as_ref(), associated.as_ref())
    }

    /// None for all that was not sealed with one of the keys and the same `associated`.
    ///
    /// ```
    /// use wasmgate_sdk::crypto::Sealer;
    ///
    /// fn session(sealer: &Sealer, cookie: &[u8]) -> Option<Vec<u8>> {
    ///     sealer.open(cookie, "session cookie")
    /// }
    /// ```
    pub fn open(&self, sealed: impl AsRef<[u8]>, associated: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.0.open(sealed.as_ref(), associated.as_ref())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Why a key was refused. The text says what and where, and holds no secret.
///
/// ```
/// use wasmgate_sdk::{crypto::{Algorithm, VerificationKey}, testing};
///
/// let jwk = r#"{"kty": "oct", "k": "c2VjcmV0"}"#;
/// let refused = testing::Host::new().enter(|| VerificationKey::from_jwk(jwk, Algorithm::Hs512)).unwrap_err();
/// assert_eq!(refused.detail, "the secret has 6 bytes, and at least 64 are needed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// What is wrong.
    pub fault: KeyFault,
    /// For people.
    pub detail: String,
}

/// What is wrong with a key.
///
/// ```
/// use wasmgate_sdk::crypto::{KeyError, KeyFault};
///
/// /// Keys of a set that are for something else are no error.
/// fn may_be_skipped(error: &KeyError) -> bool {
///     matches!(error.fault, KeyFault::Unsupported | KeyFault::WrongKind | KeyFault::WrongUse)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// It cannot be read, or is none.
    Malformed,
    /// A kind, a curve or a size that the host does not know.
    Unsupported,
    /// RSA below 2048 bits or with an exponent below 65537; a secret shorter than its hash; a key of one repeated byte.
    Weak,
    /// Another kind of key than the algorithm's: a public key as a secret, above all.
    WrongKind,
    /// Its `use`, `key_ops` or `alg` say that it is for something else.
    WrongUse,
    /// The instance has as many keys and sealers as it may have.
    Exhausted,
}

/// Whether a stored hash is that of a password: bcrypt (`$2a$`, `$2b$`, `$2y$`), which looks at the first 72 bytes, or
/// Argon2id and Argon2i in the PHC string format; for import also `{SHA}` and `$apr1$` as Apache's htpasswd writes them. A
/// password above 4096 bytes is never right. Other requests go on meanwhile, and the time does not count as the plugin's.
///
/// ```
/// use wasmgate_sdk::{crypto::{self, PasswordError}, testing};
///
/// testing::Host::new().enter(|| {
///     let hash = "$2b$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
///     assert_eq!(crypto::verify_password(hash, "password"), Ok(true));
///     assert_eq!(crypto::verify_password(hash, "guess"), Ok(false));
///     assert_eq!(crypto::verify_password("plain", "plain"), Err(PasswordError::Unsupported));
/// });
/// ```
pub fn verify_password(hash: &str, password: impl AsRef<[u8]>) -> Result<bool, PasswordError> {
    Ok(crypto::verify_password(hash, password.as_ref())?)
}

/// Why a password could not be held against a hash.
///
/// ```
/// use wasmgate_sdk::{LocalResponse, crypto::PasswordError};
///
/// fn answer(error: PasswordError) -> LocalResponse {
///     match error {
///         PasswordError::Busy => LocalResponse::new(503),
///         _ => LocalResponse::new(500),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordError {
    /// Not a hash of a kind that the host knows.
    Unsupported,
    /// Of a known kind, but not whole.
    Malformed,
    /// It asks for more than a cost of 17 (bcrypt), 1 GiB of memory or 100 passes (Argon2).
    TooCostly,
    /// Too many passwords are being verified, and none was done within a second; or there was no memory.
    Busy,
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PasswordError::Unsupported => "the password's hash is of an unknown kind",
            PasswordError::Malformed => "the password's hash is not whole",
            PasswordError::TooCostly => "the password's hash costs too much",
            PasswordError::Busy => "too many passwords are being verified",
        })
    }
}

impl std::error::Error for PasswordError {}

impl From<crypto::PasswordError> for PasswordError {
    fn from(error: crypto::PasswordError) -> Self {
        match error {
            crypto::PasswordError::Unsupported => PasswordError::Unsupported,
            crypto::PasswordError::Malformed => PasswordError::Malformed,
            crypto::PasswordError::TooCostly => PasswordError::TooCostly,
            crypto::PasswordError::Busy => PasswordError::Busy,
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for KeyError {}

impl From<crypto::KeyError> for KeyError {
    fn from(error: crypto::KeyError) -> Self {
        let fault = match error.fault {
            crypto::KeyFault::Malformed => KeyFault::Malformed,
            crypto::KeyFault::Unsupported => KeyFault::Unsupported,
            crypto::KeyFault::Weak => KeyFault::Weak,
            crypto::KeyFault::WrongKind => KeyFault::WrongKind,
            crypto::KeyFault::WrongUse => KeyFault::WrongUse,
            crypto::KeyFault::Exhausted => KeyFault::Exhausted,
        };
        KeyError { fault, detail: error.detail }
    }
}

impl From<Hash> for crypto::Hash {
    fn from(hash: Hash) -> Self {
        match hash {
            Hash::Sha256 => crypto::Hash::Sha256,
            Hash::Sha384 => crypto::Hash::Sha384,
            Hash::Sha512 => crypto::Hash::Sha512,
        }
    }
}

impl From<Algorithm> for crypto::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => crypto::Algorithm::Hs256,
            Algorithm::Hs384 => crypto::Algorithm::Hs384,
            Algorithm::Hs512 => crypto::Algorithm::Hs512,
            Algorithm::Rs256 => crypto::Algorithm::Rs256,
            Algorithm::Rs384 => crypto::Algorithm::Rs384,
            Algorithm::Rs512 => crypto::Algorithm::Rs512,
            Algorithm::Ps256 => crypto::Algorithm::Ps256,
            Algorithm::Ps384 => crypto::Algorithm::Ps384,
            Algorithm::Ps512 => crypto::Algorithm::Ps512,
            Algorithm::Es256 => crypto::Algorithm::Es256,
            Algorithm::Es384 => crypto::Algorithm::Es384,
            Algorithm::Es512 => crypto::Algorithm::Es512,
            Algorithm::EdDsa => crypto::Algorithm::Eddsa,
        }
    }
}
