//! What the guest does with cryptography, each as the text that it shows.

use wasmgate_sdk::{
    Error, Result,
    crypto::{self, Algorithm, Hash, Sealer, VerificationKey},
    random,
};

pub fn verify_password(hash: &str, password: &str) -> String {
    format!("{:?}", crypto::verify_password(hash, password))
}

pub fn verify(jwk: &str, algorithm: &str, text: &str, signature: &str) -> Result<String> {
    let algorithm = Algorithm::from_name(algorithm).ok_or_else(|| Error::msg("unknown algorithm"))?;
    let signature = (0..signature.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&signature[at..at + 2], 16))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match VerificationKey::from_jwk(jwk, algorithm) {
        Ok(key) => format!("{} {}", key.verify(text, &signature), key.verify("other", &signature)),
        Err(error) => format!("{:?}: {error}", error.fault),
    })
}

pub fn seal(text: &str) -> Result<String> {
    let sealer = Sealer::new(&[random::array::<32>()])?;
    let sealed = sealer.seal(text, "this");
    let opened = sealer.open(&sealed, "this").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let id = crypto::hmac(Hash::Sha256, "key", "text") == crypto::hmac(Hash::Sha256, "key", "text");
    Ok(format!("{} {opened:?} {:?} {id}", sealed.len() - text.len(), sealer.open(&sealed, "that")))
}

pub fn fill_keys() -> String {
    let fill = || {
        let make = || VerificationKey::from_secret([7; 32], Algorithm::Hs256);
        let keys: Vec<_> = std::iter::from_fn(|| make().ok()).take(5000).collect();
        format!("{} {:?}", keys.len(), make().err().map(|error| error.fault))
    };
    format!("{}, {}", fill(), fill())
}
