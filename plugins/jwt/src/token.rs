//! A token in the compact form of RFC 7515, read strictly: one meaning, or none.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use wasmgate_sdk::{
    serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor},
    serde_json::{self, Map, Number, Value},
};

/// Bytes of a token.
const MAX: usize = 16 * 1024;
/// How deep objects and lists may be within each other.
const MAX_DEPTH: usize = 16;

pub struct Token {
    pub algorithm: String,
    pub kid: Option<String>,
    pub claims: Map<String, Value>,
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
        let (mut header, claims) = (object(header)?, object(payload)?);
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
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match serde_json::from_slice::<Strict>(&bytes).ok()?.0 {
        Value::Object(map) if depth(&map) <= MAX_DEPTH => Some(map),
        _ => None,
    }
}

fn depth(map: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Object(map) => 1 + map.values().map(of).max().unwrap_or(0),
            Value::Array(list) => 1 + list.iter().map(of).max().unwrap_or(0),
            _ => 0,
        }
    }
    1 + map.values().map(of).max().unwrap_or(0)
}

/// JSON in which no object has a member twice (RFC 7519, section 4).
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Strict)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(map))
    }
}
