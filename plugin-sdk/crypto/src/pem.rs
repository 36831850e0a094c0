//! Public keys in PEM (RFC 7468): SubjectPublicKeyInfo, PKCS #1, certificates.

use x509_parser::{
    certificate::X509Certificate,
    der_parser::{Oid, oid},
    pem::Pem,
    prelude::FromDer,
    public_key::RSAPublicKey,
    x509::SubjectPublicKeyInfo,
};

use crate::{
    Fault, KeyError,
    key::{Curve, Material},
};

/// Bytes of a PEM text.
const MAX: usize = 64 * 1024;

const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const EC: Oid<'static> = oid!(1.2.840.10045.2.1);
const ED25519: Oid<'static> = oid!(1.3.101.112);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);
const P521: Oid<'static> = oid!(1.3.132.0.35);

/// One key, or a chain of certificates, of which the first is taken.
pub fn read(text: &str) -> Result<Material, KeyError> {
    if text.len() > MAX {
        return Err(malformed(format!("the PEM is longer than {MAX} bytes")));
    }
    let blocks: Vec<Pem> = Pem::iter_from_buffer(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| malformed("the PEM cannot be read"))?;
    let (first, others) = blocks.split_first().ok_or_else(|| malformed("there is no PEM in it"))?;
    let certificates = blocks.iter().all(|block| block.label == "CERTIFICATE");
    if !others.is_empty() && !certificates {
        return Err(malformed("the PEM holds more than one key"));
    }
    let der = &first.contents;
    match first.label.as_str() {
        "PUBLIC KEY" => subject_key(&whole(SubjectPublicKeyInfo::from_der(der), "PUBLIC KEY")?),
        "RSA PUBLIC KEY" => rsa(der, "RSA PUBLIC KEY"),
        "CERTIFICATE" => {
            subject_key(&whole(X509Certificate::from_der(der), "CERTIFICATE")?.tbs_certificate.subject_pki)
        }
        label if label.ends_with("PRIVATE KEY") => {
            Err(KeyError::new(Fault::WrongKind, "a private key stands where the public one should"))
        }
        _ => Err(KeyError::new(Fault::Unsupported, "the PEM is neither a public key nor a certificate")),
    }
}

/// Whether these bytes are the DER of a public key or of a certificate.
pub fn is_public_der(bytes: &[u8]) -> bool {
    whole(SubjectPublicKeyInfo::from_der(bytes), "").is_ok()
        || whole(RSAPublicKey::from_der(bytes), "").is_ok()
        || whole(X509Certificate::from_der(bytes), "").is_ok()
}

fn malformed(detail: impl Into<String>) -> KeyError {
    KeyError::new(Fault::Malformed, detail)
}

/// What was parsed, if nothing is left behind it.
fn whole<T, E>(parsed: Result<(&[u8], T), E>, what: &str) -> Result<T, KeyError> {
    match parsed {
        Ok(([], value)) => Ok(value),
        _ => Err(malformed(format!("{what}: not the DER of one"))),
    }
}

fn subject_key(key: &SubjectPublicKeyInfo) -> Result<Material, KeyError> {
    let bytes = &*key.subject_public_key.data;
    let kind = &key.algorithm.algorithm;
    if *kind == RSA {
        return rsa(bytes, "the RSA key");
    }
    if *kind == ED25519 {
        return Ok(Material::Ed25519(bytes.to_vec()));
    }
    if *kind != EC {
        return Err(KeyError::new(Fault::Unsupported, format!("keys of kind {kind} are not supported")));
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let curve = curve.ok_or_else(|| malformed("the key names no curve"))?;
    let curve = [(P256, Curve::P256), (P384, Curve::P384), (P521, Curve::P521)]
        .into_iter()
        .find_map(|(known, found)| (known == curve).then_some(found))
        .ok_or_else(|| KeyError::new(Fault::Unsupported, format!("the curve {curve} is not supported")))?;
    Ok(Material::Ec { curve, point: bytes.to_vec() })
}

fn rsa(der: &[u8], what: &str) -> Result<Material, KeyError> {
    let key = whole(RSAPublicKey::from_der(der), what)?;
    let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    Ok(Material::Rsa { modulus: number(key.modulus), exponent: number(key.exponent) })
}
