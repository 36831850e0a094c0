//! Values of attributes, and what expressions make of them, as they cross the border.

use crate::wasm::proxy_wasm::{
    abi::{Answer, Status},
    pairs,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// Also what cannot be told.
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    /// As it was received: it may be no UTF-8.
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    /// In nanoseconds since 1970.
    Time(i64),
    /// In nanoseconds.
    Duration(i64),
    List(Vec<Attribute>),
    Map(Vec<(Vec<u8>, Attribute)>),
}

impl Attribute {
    pub fn text(text: &str) -> Self {
        Attribute::Text(text.as_bytes().to_vec())
    }

    pub fn number(number: u64) -> Self {
        Attribute::Int(number.cast_signed())
    }

    /// As Envoy does it: numbers in eight bytes, maps and lists as pairs, those of a list without values.
    pub fn encode(self) -> Answer<Vec<u8>> {
        Ok(match self {
            Attribute::Null => return Err(Status::SerializationFailure.into()),
            Attribute::Bool(value) => vec![u8::from(value)],
            Attribute::Int(value) | Attribute::Time(value) | Attribute::Duration(value) => {
                value.to_le_bytes().to_vec()
            }
            Attribute::Uint(value) => value.to_le_bytes().to_vec(),
            Attribute::Double(value) => value.to_le_bytes().to_vec(),
            Attribute::Text(bytes) | Attribute::Bytes(bytes) => bytes,
            Attribute::List(values) => {
                let names: Vec<_> = values.into_iter().map(Attribute::encode).collect::<Answer<_>>()?;
                pairs::encode(names.iter().map(|name| (&name[..], &b""[..])))
            }
            Attribute::Map(entries) => {
                let pair = |(name, value): (_, Attribute)| Ok((name, value.encode()?));
                let list: Vec<(Vec<u8>, _)> = entries.into_iter().map(pair).collect::<Answer<_>>()?;
                pairs::encode(list.iter().map(|(name, value)| (&name[..], &value[..])))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_envoy_does() {
        let map = |entries: &[(&[u8], Attribute)]| {
            Attribute::Map(entries.iter().map(|(name, value)| (name.to_vec(), value.clone())).collect())
        };
        for (value, expected) in [
            (Attribute::Bool(true), &b"\x01"[..]),
            (Attribute::Int(-2), b"\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
            (Attribute::Uint(1), b"\x01\0\0\0\0\0\0\0"),
            (Attribute::Double(0.5), b"\0\0\0\0\0\0\xE0\x3F"),
            (Attribute::Time(3), b"\x03\0\0\0\0\0\0\0"),
            (Attribute::text("a"), b"a"),
            (Attribute::Bytes(vec![0]), b"\0"),
            (Attribute::List(vec![Attribute::text("a")]), b"\x01\0\0\0\x01\0\0\0\0\0\0\0a\0\0"),
            (map(&[(b"k", Attribute::Bool(false))]), b"\x01\0\0\0\x01\0\0\0\x01\0\0\0k\0\0\0"),
            (map(&[]), b""),
        ] {
            assert_eq!(value.clone().encode().unwrap(), expected, "{value:?}");
        }
        assert!(Attribute::Null.encode().is_err());
        assert!(map(&[(b"k", Attribute::Null)]).encode().is_err());
    }
}
