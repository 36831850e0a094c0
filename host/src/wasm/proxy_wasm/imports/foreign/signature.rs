//! Signatures: RSA with PKCS #1 v1.5, and ECDSA on P-256 and P-384, with keys as Envoy takes them, in DER or PEM.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;

use crate::wasm::proxy_wasm::{
    abi::{Answer, Status},
    call::Call,
    proto::{SignArguments, SignResult, VerifySignatureArguments, VerifySignatureResult},
};

/// Algorithms of keys: the object identifiers with their parameters, in DER.
const RSA: &[u8] = b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01\x05\x00";
const P256: &[u8] = b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07";
const P384: &[u8] = b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x05\x2B\x81\x04\x00\x22";

/// Tags of DER.
const BIT_STRING: u8 = 3;
const SEQUENCE: u8 = 0x30;

pub fn verify(_: &mut Call<'_>, bytes: &[u8]) -> Answer<Vec<u8>> {
    let arguments = VerifySignatureArguments::decode(bytes).map_err(|_| Status::BadArgument)?;
    let key = key(arguments.public_key, &arguments.public_key_pem, &["PUBLIC KEY"])?;
    let verified = verified(&arguments.hash_function, &key, &arguments.signature, &arguments.text);
    let error = verified.err().unwrap_or_default();
    Ok(VerifySignatureResult { result: error.is_empty(), error }.encode_to_vec())
}

pub fn sign(_: &mut Call<'_>, bytes: &[u8]) -> Answer<Vec<u8>> {
    let arguments = SignArguments::decode(bytes).map_err(|_| Status::BadArgument)?;
    let key = key(arguments.private_key, &arguments.private_key_pem, &["PRIVATE KEY", "RSA PRIVATE KEY"])?;
    let result = match signed(&arguments.hash_function, &key, &arguments.text) {
        Ok(signature) => SignResult { result: true, signature, error: String::new() },
        Err(error) => SignResult { result: false, signature: Vec::new(), error },
    };
    Ok(result.encode_to_vec())
}

/// In DER; there has to be one of both. What is no PEM is no key either, which is told later on, as in Envoy.
fn key(der: Vec<u8>, pem: &str, labels: &[&str]) -> Answer<Vec<u8>> {
    match (der.is_empty(), pem.is_empty()) {
        (false, true) => Ok(der),
        (true, false) => Ok(labels.iter().find_map(|label| of_pem(pem, label)).unwrap_or_default()),
        _ => Err(Status::BadArgument.into()),
    }
}

fn of_pem(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

fn verified(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Result<(), String> {
    let hash = known(hash)?;
    let (algorithm, key) = public(key).ok_or("Failed to initialize digest verify.")?;
    let algorithm: &dyn VerificationAlgorithm = match (algorithm, &*hash) {
        (RSA, "sha1") => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (RSA, "sha256") => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (RSA, "sha384") => &signature::RSA_PKCS1_2048_8192_SHA384,
        (RSA, "sha512") => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (P256, "sha256") => &signature::ECDSA_P256_SHA256_ASN1,
        (P256, "sha384") => &signature::ECDSA_P256_SHA384_ASN1,
        (P384, "sha256") => &signature::ECDSA_P384_SHA256_ASN1,
        (P384, "sha384") => &signature::ECDSA_P384_SHA384_ASN1,
        _ => return Err("Failed to initialize digest verify.".to_owned()),
    };
    let verified = UnparsedPublicKey::new(algorithm, key).verify(text, signature);
    verified.map_err(|_| "Failed to verify digest. Error code: 0".to_owned())
}

fn signed(hash: &str, key: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
    let hash = known(hash)?;
    let random = SystemRandom::new();
    let failed = |_| "Failed to create signature.".to_owned();
    if let Ok(pair) = rsa::KeyPair::from_pkcs8(key).or_else(|_| rsa::KeyPair::from_der(key)) {
        let padding: &dyn signature::RsaEncoding = match &*hash {
            "sha256" => &signature::RSA_PKCS1_SHA256,
            "sha384" => &signature::RSA_PKCS1_SHA384,
            "sha512" => &signature::RSA_PKCS1_SHA512,
            _ => return Err("Failed to create signature.".to_owned()),
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &random, text, &mut signature).map_err(failed)?;
        return Ok(signature);
    }
    for (algorithm, of_curve) in [
        (&signature::ECDSA_P256_SHA256_ASN1_SIGNING, "sha256"),
        (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, "sha384"),
    ] {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, key) {
            return match hash == of_curve {
                true => pair.sign(&random, text).map(|signature| signature.as_ref().to_vec()).map_err(failed),
                false => Err("Failed to create signature.".to_owned()),
            };
        }
    }
    Err("Invalid key type: private key required for signing operation.".to_owned())
}

/// The name of a hash function that there is.
fn known(hash: &str) -> Result<String, String> {
    let name = hash.to_ascii_lowercase();
    match ["sha1", "sha256", "sha384", "sha512"].contains(&&*name) {
        true => Ok(name),
        false => Err(format!("{hash} is not supported.")),
    }
}

/// The algorithm and the bare key of a SubjectPublicKeyInfo (RFC 5280, section 4.1).
fn public(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, _) = element(key, SEQUENCE)?;
    let (algorithm, rest) = element(info, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    Some((algorithm, bits.strip_prefix(&[0])?))
}

/// What is in an element of DER, and what comes behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.strip_prefix(&[tag])?.split_first()?;
    match *length {
        short @ ..=0x7F => rest.split_at_checked(short.into()),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked((*length).into())
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            rest.split_at_checked(u16::from_be_bytes(*length).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [(&str, &str); 3] = [
        (include_str!("tests/rsa.pem"), include_str!("tests/rsa.pub.pem")),
        (include_str!("tests/p256.pem"), include_str!("tests/p256.pub.pem")),
        (include_str!("tests/p384.pem"), include_str!("tests/p384.pub.pem")),
    ];

    fn private(pem: &str) -> Vec<u8> {
        of_pem(pem, "PRIVATE KEY").unwrap()
    }

    fn public_of(pem: &str) -> Vec<u8> {
        of_pem(pem, "PUBLIC KEY").unwrap()
    }

    #[test]
    fn what_is_signed_is_verified() {
        for (place, hash) in [(0, "sha256"), (0, "SHA384"), (0, "sha512"), (1, "sha256"), (2, "Sha384")] {
            let (private_pem, public_pem) = KEYS[place];
            let key = public_of(public_pem);
            let signature = signed(hash, &private(private_pem), b"text").unwrap();
            assert_eq!(verified(hash, &key, &signature, b"text"), Ok(()), "{hash}");
            for (signature, text) in
                [(&signature[..], &b"texT"[..]), (&signature[1..], b"text"), (b"", b"text")]
            {
                let error = "Failed to verify digest. Error code: 0";
                assert_eq!(verified(hash, &key, signature, text), Err(error.to_owned()), "{hash}");
            }
        }
    }

    /// By OpenSSL, with the keys of this test.
    #[test]
    fn signatures_of_others_are_verified() {
        for (place, hash, signature) in [
            (0, "sha1", include_str!("tests/rsa.sha1")),
            (1, "sha384", include_str!("tests/p256.sha384")),
            (2, "sha256", include_str!("tests/p384.sha256")),
        ] {
            let signature = STANDARD.decode(signature.trim()).unwrap();
            assert_eq!(verified(hash, &public_of(KEYS[place].1), &signature, b"text"), Ok(()), "{hash}");
        }
    }

    #[test]
    fn keys_come_in_two_forms() {
        let (pem, der) = (include_str!("tests/rsa.pkcs1.pem"), private(KEYS[0].0));
        let pkcs1 = key(Vec::new(), pem, &["PRIVATE KEY", "RSA PRIVATE KEY"]).unwrap();
        assert_eq!(signed("sha256", &pkcs1, b"text"), signed("sha256", &der, b"text"));
        assert_eq!(key(der.clone(), "", &["PRIVATE KEY"]).unwrap(), der);
        assert!(key(der, KEYS[0].0, &["PRIVATE KEY"]).is_err(), "both");
        assert!(key(Vec::new(), "", &["PRIVATE KEY"]).is_err(), "none");
        assert!(key(Vec::new(), "no PEM", &["PRIVATE KEY"]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_done_is_told_as_envoy_does() {
        let error = |hash: &str, key: &[u8]| verified(hash, key, b"", b"").unwrap_err();
        let rsa = public_of(KEYS[0].1);
        assert_eq!(error("md5", &rsa), "md5 is not supported.");
        assert_eq!(error("SHA224", &rsa), "SHA224 is not supported.");
        assert_eq!(error("sha256", b"no key"), "Failed to initialize digest verify.");
        assert_eq!(error("sha256", &private(KEYS[0].0)), "Failed to initialize digest verify.");
        assert_eq!(error("sha512", &public_of(KEYS[1].1)), "Failed to initialize digest verify.");
        let error = |hash: &str, key: &[u8]| signed(hash, key, b"").unwrap_err();
        assert_eq!(error("", &private(KEYS[0].0)), " is not supported.");
        assert_eq!(error("sha1", &private(KEYS[0].0)), "Failed to create signature.");
        assert_eq!(error("sha256", &private(KEYS[2].0)), "Failed to create signature.");
        let no_key = "Invalid key type: private key required for signing operation.";
        assert_eq!(error("sha256", &rsa), no_key);
        assert_eq!(error("sha256", b""), no_key);
    }

    #[test]
    fn torn_and_changed_keys_are_no_keys_or_others() {
        for (private_pem, public_pem) in KEYS {
            let (private, public) = (private(private_pem), public_of(public_pem));
            for length in 0..public.len() {
                assert!(verified("sha256", &public[..length], b"", b"").is_err());
            }
            for place in 0..public.len().min(64) {
                for value in [0, 0x7F, 0x80, 0x81, 0x82, 0x83, 0xFF] {
                    let mut key = public.clone();
                    key[place] = value;
                    assert!(verified("sha256", &key, b"", b"").is_err());
                    let mut key = private.clone();
                    key[place] = value;
                    _ = signed("sha256", &key[..key.len() - place], b"");
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(key: Vec<u8>, signature: Vec<u8>, text: String) {
            _ = verified("sha256", &key, &signature, &key);
            _ = signed("sha256", &key, &signature);
            _ = of_pem(&text, "PUBLIC KEY");
        }
    }
}
