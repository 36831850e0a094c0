//! What a rule asks beside host and path, and in what words a request fails it. Shared by finding and explaining.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderName, Method};
use memchr::{memchr2, memmem};
use regex::bytes::Regex;

use super::pattern::anchored;
use super::{PatternError, Query, Rule};

/// What the value of a header or query parameter must be. Case matters.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    /// Made by [`ValueMatch::regex`], which anchors it.
    Regex(Regex),
    Present,
    Absent,
}

impl ValueMatch {
    /// A regular expression of the whole value, as those of paths are.
    pub fn regex(expression: &str) -> Result<Self, PatternError> {
        anchored(expression, expression).map(Self::Regex)
    }

    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => value == expected.as_bytes(),
            Self::Prefix(expected) => value.starts_with(expected.as_bytes()),
            Self::Suffix(expected) => value.ends_with(expected.as_bytes()),
            Self::Contains(expected) => memmem::find(value, expected.as_bytes()).is_some(),
            Self::Regex(regex) => regex.is_match(value),
            Self::Present => true,
            Self::Absent => false,
        }
    }

    /// Whether one of the values is accepted, or there are none and there should be none.
    pub fn holds(&self, values: impl Iterator<Item = impl AsRef<[u8]>>) -> bool {
        self.mismatch(values).is_none()
    }

    /// None if one of the values is accepted, or if there are none and there should be none.
    fn mismatch(&self, values: impl Iterator<Item = impl AsRef<[u8]>>) -> Option<Mismatch<'_>> {
        let mut found = false;
        for value in values {
            if self.accepts(value.as_ref()) {
                return None;
            }
            found = true;
        }
        (found || !matches!(self, Self::Absent)).then_some(Mismatch { expected: self, found })
    }
}

/// The first predicate of a rule that a request fails.
pub(super) enum Failure<'a> {
    Listener { found: u16, expected: &'a [u16] },
    Method { found: &'a Method, expected: &'a [Method] },
    Header(&'a HeaderName, Mismatch<'a>),
    Query(&'a str, Mismatch<'a>),
}

pub(super) struct Mismatch<'a> {
    expected: &'a ValueMatch,
    /// Whether there was any value.
    found: bool,
}

impl Rule {
    pub(super) fn failure<'a>(&'a self, query: &Query<'a>) -> Option<Failure<'a>> {
        if !self.listeners.is_empty() && !self.listeners.contains(&query.listener) {
            return Some(Failure::Listener { found: query.listener, expected: &self.listeners });
        }
        if !self.accepts_method(query.method) {
            return Some(Failure::Method { found: query.method, expected: &self.methods });
        }
        self.header_failure(query).or_else(|| self.query_failure(query))
    }

    fn accepts_method(&self, method: &Method) -> bool {
        let listed = |method| self.methods.contains(method);
        self.methods.is_empty() || listed(method) || (method == Method::HEAD && listed(&Method::GET))
    }

    fn header_failure<'a>(&'a self, query: &Query<'a>) -> Option<Failure<'a>> {
        self.headers.iter().find_map(|(name, expected)| {
            let mismatch = expected.mismatch(query.headers.get_all(name).iter())?;
            Some(Failure::Header(name, mismatch))
        })
    }

    fn query_failure<'a>(&'a self, query: &Query<'a>) -> Option<Failure<'a>> {
        self.query.iter().find_map(|(name, expected)| {
            let mismatch =
                expected.mismatch(query.query.and_then(|query| query_value(query, name)).into_iter())?;
            Some(Failure::Query(name, mismatch))
        })
    }
}

/// The decoded value of the first parameter of a name. A name without `=` has an empty value.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decoded(key) == *name.as_bytes()).then(|| decoded(value))
    })
}

/// `+` is a space, `%41` is `A`, and a percent sign without two hex digits is itself (WHATWG URL, 5.1).
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let (mut decoded, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, after @ ..]) => {
                hex(*high, *low).map_or((b'%', &rest[1..]), |byte| (byte, after))
            }
            _ => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(decoded)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

impl Failure<'_> {
    /// `listeners` are the names by which listeners go.
    pub(super) fn words(&self, listeners: &[&str]) -> String {
        let listener = |index: &u16| match listeners.get(usize::from(*index)) {
            Some(name) => (*name).to_owned(),
            None => index.to_string(),
        };
        match self {
            Self::Listener { found, expected } => {
                let expected: Vec<_> = expected.iter().map(listener).collect();
                format!("listener {} is not one of {}", listener(found), list(&expected))
            }
            Self::Method { found, expected } => format!("method {found} is not one of {}", list(expected)),
            Self::Header(name, mismatch) => format!("header {name} {mismatch}"),
            Self::Query(name, mismatch) => format!("query parameter {name} {mismatch}"),
        }
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            _ if !self.found => write!(f, "is absent"),
            ValueMatch::Exact(expected) => write!(f, "is not {expected:?}"),
            ValueMatch::Prefix(expected) => write!(f, "does not start with {expected:?}"),
            ValueMatch::Suffix(expected) => write!(f, "does not end with {expected:?}"),
            ValueMatch::Contains(expected) => write!(f, "does not contain {expected:?}"),
            ValueMatch::Regex(regex) => write!(f, "does not match {regex}"),
            ValueMatch::Present | ValueMatch::Absent => write!(f, "is present"),
        }
    }
}

/// As in a sentence: `GET, POST`.
pub(super) fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(query: &str, name: &str) -> Option<String> {
        query_value(query, name).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    #[test]
    fn the_first_value_counts_decoded_once() {
        for (query, expected) in [
            ("a=1&a=2", Some("1")),
            ("b=1&&a", Some("")),
            ("b=a=1", None),
            ("A=1", None),
            ("%61=x+y%2Bz", Some("x y+z")),
            ("a=%2541", Some("%41")),
            ("a=%4&c", Some("%4")),
            ("a=%", Some("%")),
            ("a=%zz%+1", Some("%zz% 1")),
            ("a=%+f", Some("% f")),
            ("a=b=c", Some("b=c")),
            ("", None),
        ] {
            assert_eq!(value(query, "a").as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn one_value_is_enough_and_absent_wants_none() {
        let words =
            |expected: ValueMatch, values: &[&str]| expected.mismatch(values.iter()).map(|m| m.to_string());
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(words(ValueMatch::Exact("b".into()), &["a", "b"]), None);
        assert_eq!(words(ValueMatch::Exact("b".into()), &["a", "B"]), said("is not \"b\""));
        assert_eq!(words(ValueMatch::Exact(String::new()), &[]), said("is absent"));
        assert_eq!(words(ValueMatch::Prefix("ab".into()), &["abc"]), None);
        assert_eq!(words(ValueMatch::Prefix("ab".into()), &["bab"]), said("does not start with \"ab\""));
        assert_eq!(words(ValueMatch::Suffix("bc".into()), &["abc"]), None);
        assert_eq!(words(ValueMatch::Suffix("bc".into()), &["bca"]), said("does not end with \"bc\""));
        assert_eq!(words(ValueMatch::Contains("b".into()), &["abc"]), None);
        assert_eq!(words(ValueMatch::Contains("b".into()), &["ac"]), said("does not contain \"b\""));
        assert_eq!(words(ValueMatch::Present, &[""]), None);
        assert_eq!(words(ValueMatch::Present, &[]), said("is absent"));
        assert_eq!(words(ValueMatch::Absent, &[]), None);
        assert_eq!(words(ValueMatch::Absent, &[""]), said("is present"));
        assert_eq!(words(ValueMatch::regex("a|ab").unwrap(), &["ab"]), None);
        assert_eq!(words(ValueMatch::regex("a|b").unwrap(), &["ab"]), said(r"does not match \A(?:a|b)\z"));
    }
}
