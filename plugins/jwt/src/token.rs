//! A token in the compact form of RFC 7515, read strictly: one meaning, or none.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use wasmgate_sdk::{
    auth::{self, Claims},
    serde_json::{Map, Value},
};

/// Bytes of a token.
const MAX: usize = 16 * 1024;

pub struct Token {
    pub algorithm: String,
    pub kid: Option<String>,
    pub claims: Claims,
    /// What is signed: header and payload as they came.
    pub signed: Vec<u8>,
    pub signature: Vec<u8>,
}

impl Token {
    /// None for what is no signed token, holds a member twice, or says that more has to be understood than is (crit).
    pub fn read(text: &[u8]) -> Option<Token> {
        if text.len() > MAX {
            return None;
        }
        let mut parts = text.split(|&byte| byte == b'.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let signed = text[..header.len() + 1 + payload.len()].to_vec();
        let signature = URL_SAFE_NO_PAD.decode(signature).ok().filter(|bytes| !bytes.is_empty())?;
        let (mut header, claims) = (object(header)?, Claims(object(payload)?));
        let mut text = |name: &str| match header.remove(name) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => None,
        };
        let (algorithm, kid, kind) = (text("alg")??, text("kid")?, text("typ")?);
        // Keys and their addresses that the token itself brings (jwk, jku, x5c, x5u) are not looked at.
        let is_understood = !header.contains_key("crit") && !header.contains_key("b64");
        let is_access = kind.is_none_or(|kind| is_kind(&kind));
        (is_understood && is_access).then_some(Token { algorithm, kid, claims, signed, signature })
    }
}

/// RFC 8725, section 3.11: a token of another kind is for something else.
fn is_kind(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}

fn object(part: &[u8]) -> Option<Map<String, Value>> {
    auth::strict_object(&URL_SAFE_NO_PAD.decode(part).ok()?)
}
