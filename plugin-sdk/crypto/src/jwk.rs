//! JSON Web Keys (RFC 7517; members by RFC 7518, section 6, and RFC 8037).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::{
    Algorithm, Fault, KeyError,
    key::{Curve, Material},
};

/// Bytes of a JWK, chains of certificates included.
const MAX: usize = 64 * 1024;

/// Members that mean something here. A member that stands twice is an error.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

pub fn read(text: &str, algorithm: Algorithm) -> Result<Material, KeyError> {
    if text.len() > MAX {
        return Err(malformed(format!("the JWK is longer than {MAX} bytes")));
    }
    // Of the library's errors only the place is told: they may quote a secret.
    let jwk: Jwk = serde_json::from_str(text).map_err(|error| {
        let detail = match error.classify() {
            serde_json::error::Category::Data => "a member is missing, or of another type, or there twice",
            _ => "not JSON",
        };
        malformed(format!("the JWK, line {}, column {}: {detail}", error.line(), error.column()))
    })?;
    jwk.check_use(algorithm)?;
    match jwk.kty.as_str() {
        "RSA" => Ok(Material::Rsa { modulus: number(&jwk.n, "n")?, exponent: number(&jwk.e, "e")? }),
        "EC" => jwk.point(),
        "OKP" => match jwk.crv.as_deref() {
            Some("Ed25519") => Ok(Material::Ed25519(sized(&jwk.x, "x", 32)?)),
            other => Err(unsupported("crv", other)),
        },
        "oct" => Ok(Material::Secret(bytes(&jwk.k, "k")?)),
        other => Err(unsupported("kty", Some(other))),
    }
}

/// Whether this text is the JSON of a key.
pub fn is_jwk(text: &[u8]) -> bool {
    text.len() <= MAX && serde_json::from_slice::<Jwk>(text).is_ok()
}

impl Jwk {
    /// What the key says of itself (RFC 7517, sections 4.2 to 4.4).
    fn check_use(&self, algorithm: Algorithm) -> Result<(), KeyError> {
        let refuse = |detail: String| Err(KeyError::new(Fault::WrongUse, detail));
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return refuse("use: the key is not for signatures".to_owned());
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return refuse("key_ops: the key is not for verifying".to_owned());
        }
        if self.alg.as_deref().is_some_and(|alg| Algorithm::named(alg) != Some(algorithm)) {
            return refuse(format!("alg: the key is for another algorithm than {}", algorithm.name()));
        }
        Ok(())
    }

    /// RFC 7518, section 6.2.1: coordinates have the curve's full length.
    fn point(&self) -> Result<Material, KeyError> {
        let curve = match self.crv.as_deref() {
            Some("P-256") => Curve::P256,
            Some("P-384") => Curve::P384,
            Some("P-521") => Curve::P521,
            other => return Err(unsupported("crv", other)),
        };
        let (x, y) = (sized(&self.x, "x", curve.size())?, sized(&self.y, "y", curve.size())?);
        Ok(Material::Ec { curve, point: [&[4], &x[..], &y[..]].concat() })
    }
}

fn malformed(detail: impl Into<String>) -> KeyError {
    KeyError::new(Fault::Malformed, detail)
}

fn unsupported(member: &str, value: Option<&str>) -> KeyError {
    match value {
        Some(value) => {
            let value: String = value.chars().take(32).collect();
            KeyError::new(Fault::Unsupported, format!("{member}: {value:?} is not supported"))
        }
        None => malformed(format!("{member} is missing")),
    }
}

fn bytes(value: &Option<String>, member: &str) -> Result<Vec<u8>, KeyError> {
    let value = value.as_deref().ok_or_else(|| malformed(format!("{member} is missing")))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| malformed(format!("{member} is not base64url without padding")))
}

fn sized(value: &Option<String>, member: &str, size: usize) -> Result<Vec<u8>, KeyError> {
    let bytes = bytes(value, member)?;
    match bytes.len() == size {
        true => Ok(bytes),
        false => Err(malformed(format!("{member} has {} bytes and not {size}", bytes.len()))),
    }
}

/// Base64urlUInt; leading zeros, which some write, are dropped.
fn number(value: &Option<String>, member: &str) -> Result<Vec<u8>, KeyError> {
    let bytes = bytes(value, member)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}
