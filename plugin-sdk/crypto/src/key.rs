//! Keys that verify signatures, each for one algorithm of JOSE (RFC 7518, RFC 8037).

use std::fmt;

use aws_lc_rs::{
    hmac,
    signature::{
        self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents,
        VerificationAlgorithm,
    },
};

use crate::{Hash, jwk, pem};

/// The signature algorithms of JOSE. There is no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read, or is none.
    Malformed,
    /// A kind, a curve or a size that nobody here knows.
    Unsupported,
    /// Too short, or with an exponent that is too small.
    Weak,
    /// Another kind of key than the algorithm's.
    WrongKind,
    /// It says of itself that it is for something else.
    WrongUse,
}

/// Why a key is refused. The text says where and never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    pub fault: Fault,
    pub detail: String,
}

impl KeyError {
    pub fn new(fault: Fault, detail: impl Into<String>) -> Self {
        KeyError { fault, detail: detail.into() }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for KeyError {}

/// A key as it was read, before it is held against an algorithm.
pub enum Material {
    /// Without leading zeros.
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point in the form of SEC 1.
    Ec {
        curve: Curve,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Bytes of a coordinate.
    pub fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }
}

/// What an algorithm demands of a key.
enum Family {
    Hmac(Hash),
    Rsa(&'static RsaParameters),
    Ec(Curve, &'static EcdsaVerificationAlgorithm),
    Ed25519,
}

impl Algorithm {
    const ALL: [Algorithm; 13] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
    ];

    /// Its value of `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this value of `alg`. RFC 9864 calls EdDSA with this curve Ed25519.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Algorithm::EdDsa),
            _ => Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name),
        }
    }

    fn family(self) -> Family {
        match self {
            Algorithm::Hs256 => Family::Hmac(Hash::Sha256),
            Algorithm::Hs384 => Family::Hmac(Hash::Sha384),
            Algorithm::Hs512 => Family::Hmac(Hash::Sha512),
            Algorithm::Rs256 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Family::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Family::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 => Family::Ec(Curve::P256, &signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::Es384 => Family::Ec(Curve::P384, &signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::Es512 => Family::Ec(Curve::P521, &signature::ECDSA_P521_SHA512_FIXED),
            Algorithm::EdDsa => Family::Ed25519,
        }
    }
}

/// A key for one algorithm, parsed once.
#[derive(Debug)]
pub struct VerificationKey(Key);

#[derive(Debug)]
enum Key {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl VerificationKey {
    /// From a JWK (RFC 7517). Of a private key the public part is taken.
    pub fn from_jwk(jwk: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        Self::new(jwk::read(jwk, algorithm)?, algorithm)
    }

    /// From a public key in PEM: SubjectPublicKeyInfo, PKCS #1, or a certificate, whose key it is.
    pub fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        Self::new(pem::read(pem)?, algorithm)
    }

    /// From the bytes of a secret.
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        Self::new(Material::Secret(secret.to_vec()), algorithm)
    }

    fn new(material: Material, algorithm: Algorithm) -> Result<Self, KeyError> {
        let key = match (material, algorithm.family()) {
            (Material::Secret(secret), Family::Hmac(hash)) => Key::Hmac(Box::new(secret_key(&secret, hash)?)),
            (Material::Rsa { modulus, exponent }, Family::Rsa(parameters)) => {
                Key::Public(rsa_key(&modulus, &exponent, parameters)?)
            }
            (Material::Ec { curve, point }, Family::Ec(expected, verification)) => {
                if curve != expected {
                    return Err(wrong_kind(curve.name(), algorithm));
                }
                Key::Public(public_key(verification, &point, "the point is not on the curve")?)
            }
            (Material::Ed25519(key), Family::Ed25519) => {
                Key::Public(public_key(&signature::ED25519, &key, "the key is not one of Ed25519")?)
            }
            (Material::Secret(_), _) => return Err(wrong_kind("a secret", algorithm)),
            (Material::Rsa { .. }, _) => return Err(wrong_kind("RSA", algorithm)),
            (Material::Ec { curve, .. }, _) => return Err(wrong_kind(curve.name(), algorithm)),
            (Material::Ed25519(_), _) => return Err(wrong_kind("Ed25519", algorithm)),
        };
        Ok(VerificationKey(key))
    }

    /// Whether the signature, in the form of JOSE, is this key's of these bytes.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Key::Hmac(key) => hmac::verify(key, data, signature).is_ok(),
            Key::Public(key) => key.verify_sig(data, signature).is_ok(),
        }
    }
}

fn wrong_kind(found: &str, algorithm: Algorithm) -> KeyError {
    KeyError::new(Fault::WrongKind, format!("the key is {found}, which is not one for {}", algorithm.name()))
}

fn public_key(
    algorithm: &'static dyn VerificationAlgorithm,
    bytes: &[u8],
    detail: &str,
) -> Result<ParsedPublicKey, KeyError> {
    ParsedPublicKey::new(algorithm, bytes).map_err(|_| KeyError::new(Fault::Malformed, detail))
}

/// RFC 7518, section 3.2: a key as long as the hash at least. What an attacker knows, as a public key, is no
/// secret, however long it is.
fn secret_key(secret: &[u8], hash: Hash) -> Result<hmac::Key, KeyError> {
    let algorithm = hash.hmac();
    let least = algorithm.digest_algorithm().output_len();
    if looks_public(secret) {
        return Err(KeyError::new(Fault::WrongKind, "a public key or certificate, or a JWK, is no secret"));
    }
    if secret.len() < least {
        let detail = format!("the secret has {} bytes, and at least {least} are needed", secret.len());
        return Err(KeyError::new(Fault::Weak, detail));
    }
    Ok(hmac::Key::new(algorithm, secret))
}

fn looks_public(secret: &[u8]) -> bool {
    let text = secret.trim_ascii_start();
    let begins = |prefix: &str| text.starts_with(prefix.as_bytes());
    begins("-----BEGIN ")
        || ["ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-"].into_iter().any(begins)
        || (begins("{") && jwk::is_jwk(text))
        || pem::is_public_der(secret)
}

/// Bits of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// RFC 7518, section 3.3, for the modulus; FIPS 186-5, section 5.1, for the exponent.
fn rsa_key(
    modulus: &[u8],
    exponent: &[u8],
    parameters: &'static RsaParameters,
) -> Result<ParsedPublicKey, KeyError> {
    let even = |number: &[u8]| number.last().is_none_or(|last| last % 2 == 0);
    let size = bits(modulus);
    if size < 2048 {
        let detail = format!("the modulus has {size} bits, and at least 2048 are needed");
        return Err(KeyError::new(Fault::Weak, detail));
    }
    if size > 8192 {
        let detail = format!("the modulus has {size} bits, and at most 8192 are supported");
        return Err(KeyError::new(Fault::Unsupported, detail));
    }
    if even(modulus) {
        return Err(KeyError::new(Fault::Malformed, "the modulus is even"));
    }
    if even(exponent) {
        return Err(KeyError::new(Fault::Malformed, "the exponent is even"));
    }
    if bits(exponent) < 17 {
        return Err(KeyError::new(Fault::Weak, "the exponent is less than 65537"));
    }
    if bits(exponent) > 32 {
        return Err(KeyError::new(Fault::Unsupported, "the exponent has more than 32 bits"));
    }
    RsaPublicKeyComponents { n: modulus, e: exponent }
        .to_parsed_public_key(parameters)
        .map_err(|_| KeyError::new(Fault::Malformed, "modulus and exponent are no key of RSA"))
}
