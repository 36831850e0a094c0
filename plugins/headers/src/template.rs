//! Values with `${...}` in them: parsed once, rendered for each message. A template without any
//! costs nothing, one that is a single `${...}` just the value it reads.

use std::borrow::Cow;

use wasmgate_sdk::{Error, Result, config};

use crate::message::Message;
use crate::source::Source;

/// Text with `${SOURCE}` or `${SOURCE|FILTER...}` in it; `$${` is a literal `${`.
#[config]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Template(Vec<Piece>);

enum Piece {
    Literal(Vec<u8>),
    Value(Source, Vec<Filter>),
}

enum Filter {
    Default(Vec<u8>),
    Lower,
    Upper,
    UrlEncode,
}

impl Template {
    /// None where a value is missing that has no default. The commonest template, a single value,
    /// takes a short way.
    #[inline(always)]
    pub fn render(&self, message: &Message) -> Option<Cow<'_, [u8]>> {
        match self.0.as_slice() {
            [Piece::Value(source, filters)] if filters.is_empty() => source.read(message).map(Cow::Owned),
            [piece] => piece.render(message),
            pieces => join(pieces, message).map(Cow::Owned),
        }
    }

    pub fn reads_status(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Value(Source::Status, _)))
    }
}

fn join(pieces: &[Piece], message: &Message) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for piece in pieces {
        text.extend_from_slice(&piece.render(message)?);
    }
    Some(text)
}

impl TryFrom<String> for Template {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(Error::msg("holds a control character"));
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                literal.extend([before, "${"]);
                rest = after;
                continue;
            }
            literal.push_str(before);
            pieces.push(Piece::Literal(std::mem::take(&mut literal).into_bytes()));
            let (value, after) = Piece::parse(after)?;
            pieces.push(value);
            rest = after;
        }
        literal.push_str(rest);
        pieces.push(Piece::Literal(literal.into_bytes()));
        pieces.retain(|piece| !matches!(piece, Piece::Literal(text) if text.is_empty()));
        Ok(Template(pieces))
    }
}

impl Piece {
    /// Reads what stands behind `${`; the rest begins behind its `}`.
    fn parse(text: &str) -> Result<(Self, &str)> {
        let (source, mut rest) = word(text)?;
        let source = Source::parse(source)?;
        let mut filters = Vec::new();
        while let Some(after) = rest.strip_prefix('|') {
            let (filter, after) = Filter::parse(after.trim_start())?;
            filters.push(filter);
            rest = after;
        }
        match rest.strip_prefix('}') {
            Some(rest) => Ok((Piece::Value(source, filters), rest)),
            None => Err(Error::msg(format_args!("`|` or `}}` is missing before `{rest}`"))),
        }
    }

    fn render(&self, message: &Message) -> Option<Cow<'_, [u8]>> {
        match self {
            Piece::Literal(text) => Some(Cow::Borrowed(text)),
            Piece::Value(source, filters) => {
                let value = source.read(message);
                filters.iter().fold(value, |value, filter| filter.apply(value)).map(Cow::Owned)
            }
        }
    }
}

impl Filter {
    fn parse(text: &str) -> Result<(Self, &str)> {
        if let Some(value) = text.strip_prefix("default(") {
            return default(value)
                .ok_or_else(|| Error::msg(format_args!("expected default('TEXT') at `{text}`")));
        }
        let (name, rest) = word(text)?;
        let filter = match name {
            "lower" => Filter::Lower,
            "upper" => Filter::Upper,
            "urlencode" => Filter::UrlEncode,
            _ => {
                return Err(Error::msg(format_args!(
                    "the filter `{name}` is not known, expected default('TEXT'), lower, upper or urlencode"
                )));
            }
        };
        Ok((filter, rest))
    }

    fn apply(&self, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let Some(mut value) = value else {
            return match self {
                Filter::Default(text) => Some(text.clone()),
                _ => None,
            };
        };
        match self {
            Filter::Default(_) => {}
            Filter::Lower => value.make_ascii_lowercase(),
            Filter::Upper => value.make_ascii_uppercase(),
            Filter::UrlEncode => value = urlencode(&value),
        }
        Some(value)
    }
}

/// Up to the next `|` or `}`, which the rest begins with.
fn word(text: &str) -> Result<(&str, &str)> {
    match text.find(['|', '}']) {
        Some(end) => Ok((text[..end].trim(), &text[end..])),
        None => Err(Error::msg(format_args!("`{text}` is never closed by `}}`"))),
    }
}

/// `'TEXT')`
fn default(text: &str) -> Option<(Filter, &str)> {
    let (value, rest) = text.strip_prefix('\'')?.split_once("')")?;
    Some((Filter::Default(value.as_bytes().to_vec()), rest.trim_start()))
}

/// All but the unreserved characters (RFC 3986, section 2.3).
fn urlencode(value: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(value.len());
    for &byte in value {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(byte),
            false => encoded.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    encoded
}
