//! Which headers a plugin may touch and how large they may be. One rule for requests, responses and
//! local answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Why a plugin's call was refused. A refused call changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    InvalidName,
    InvalidValue,
    TooLarge,
    Forbidden,
    Immutable,
    Unknown,
    Exhausted,
}

/// Longest name and value together, in bytes.
pub const MAX_HEADER: usize = 16 * 1024;
/// Most header lines in one message.
pub const MAX_LINES: usize = 256;

/// Headers that a message to come is to have: so few that they are looked through one by one. Of several with one name the last
/// one counts.
#[derive(Clone, Debug, Default)]
pub struct Additions(Vec<(HeaderName, HeaderValue)>);

impl Additions {
    /// In place of those of the same names: all of them or none.
    pub fn set(&mut self, fields: Vec<(String, Vec<u8>)>) -> Result<(), Refusal> {
        let before = self.0.len();
        self.0.reserve(fields.len());
        for (name, value) in fields {
            match pair(self.0.len(), &name, value) {
                Ok(pair) => self.0.push(pair),
                Err(refusal) => {
                    self.0.truncate(before);
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        let (_, value) = self.0.iter().rfind(|(known, _)| known.as_str().eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Gives them to the message, in place of those of the same names.
    pub fn move_to(&mut self, map: &mut HeaderMap) {
        for (name, value) in self.0.drain(..) {
            map.insert(name, value);
        }
    }
}

pub fn set(map: &mut HeaderMap, name: &str, value: Vec<u8>) -> Result<(), Refusal> {
    let (name, value) = pair(map.len(), name, value)?;
    map.insert(name, value);
    Ok(())
}

pub fn append(map: &mut HeaderMap, name: &str, value: Vec<u8>) -> Result<(), Refusal> {
    let (name, value) = pair(map.len(), name, value)?;
    map.append(name, value);
    Ok(())
}

pub fn remove(map: &mut HeaderMap, name: &str) -> Result<bool, Refusal> {
    let name = checked_name(name)?;
    Ok(map.remove(name).is_some())
}

/// Removes those whose names fit a pattern, unless the host alone sets them; returns how many names are gone.
pub fn remove_fitting(map: &mut HeaderMap, patterns: &[impl AsRef<str>]) -> u32 {
    let fitting = |name: &&HeaderName| {
        patterns.iter().any(|pattern| fits(name.as_str(), pattern.as_ref())) && !is_forbidden(name)
    };
    // Nearly always there is none.
    let names: Vec<HeaderName> = map.keys().filter(fitting).cloned().collect();
    for name in &names {
        map.remove(name);
    }
    u32::try_from(names.len()).unwrap_or(u32::MAX)
}

/// A pattern is a name, or the beginning of names and `*`; `_` in the name counts as `-`.
fn fits(name: &str, pattern: &str) -> bool {
    let beginning = pattern.strip_suffix('*');
    let known = beginning.unwrap_or(pattern);
    let is_long_enough = name.len() == known.len() || (beginning.is_some() && name.len() > known.len());
    let same = |(a, b): (u8, u8)| a == b.to_ascii_lowercase() || (a == b'_' && b == b'-');
    is_long_enough && name.bytes().zip(known.bytes()).all(same)
}

/// `lines` is what the message has already.
fn pair(lines: usize, name: &str, value: Vec<u8>) -> Result<(HeaderName, HeaderValue), Refusal> {
    if name.len() + value.len() > MAX_HEADER || lines >= MAX_LINES {
        return Err(Refusal::TooLarge);
    }
    let name = checked_name(name)?;
    let value = HeaderValue::from_maybe_shared(Bytes::from(value));
    Ok((name, value.map_err(|_| Refusal::InvalidValue)?))
}

fn checked_name(name: &str) -> Result<HeaderName, Refusal> {
    if name.len() > MAX_HEADER {
        return Err(Refusal::TooLarge);
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::InvalidName)?;
    if is_forbidden(&name) {
        return Err(Refusal::Forbidden);
    }
    Ok(name)
}

/// Fields of the connection and of framing (RFC 9110, section 7.6.1), and Host, which is the
/// request's authority: the host alone writes them.
pub fn is_forbidden(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "host"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let mut map = HeaderMap::new();
        let mut try_set = |name: &str, value: &[u8]| set(&mut map, name, value.to_vec());
        assert_eq!(try_set("x y", b"v"), Err(Refusal::InvalidName));
        assert_eq!(try_set("", b"v"), Err(Refusal::InvalidName));
        assert_eq!(try_set("x", b"a\r\nb: c"), Err(Refusal::InvalidValue));
        assert_eq!(try_set("x", &[b'v'; MAX_HEADER]), Err(Refusal::TooLarge));
        assert_eq!(try_set("Content-Length", b"1"), Err(Refusal::Forbidden));
        assert_eq!(try_set("host", b"a"), Err(Refusal::Forbidden));
        assert_eq!(try_set("X-Ok", b"\xff"), Ok(()));
        assert_eq!(map["x-ok"], HeaderValue::from_bytes(b"\xff").unwrap());
    }

    #[test]
    fn all_or_none_are_added() {
        let mut added = Additions::default();
        let pair = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!(added.set(vec![pair("a", "0")]), Ok(()));
        assert_eq!(added.set(vec![pair("a", "1"), pair("host", "1")]), Err(Refusal::Forbidden));
        assert_eq!(added.get("a").unwrap(), "0");
        assert_eq!(added.set(vec![pair("A", "1"), pair("b", "1"), pair("b", "2")]), Ok(()));
        assert_eq!(added.get("A").unwrap(), "1");
        assert_eq!(added.set(vec![pair("c", ""); MAX_LINES]), Err(Refusal::TooLarge));
        let b = HeaderName::from_static("b");
        let values = ["3", "4"].map(|value| (b.clone(), HeaderValue::from_static(value)));
        let mut map = HeaderMap::from_iter(values);
        added.move_to(&mut map);
        let all: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(all, [("b", &b"2"[..]), ("a", &b"1"[..])]);
    }

    #[test]
    fn what_fits_a_pattern_goes() {
        let names = ["x-consumer-id", "x_consumer_name", "x-consumer", "x-consumerist", "y", "host"];
        let pairs = names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v")));
        let mut map = HeaderMap::from_iter(pairs);
        let patterns = |patterns: &[&str]| patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
        assert_eq!(remove_fitting(&mut map, &patterns(&["x-consumer-*", "z", ""])), 2);
        assert!(!map.contains_key("x_consumer_name") && map.contains_key("x-consumerist"));
        assert_eq!(remove_fitting(&mut map, &patterns(&["X-Consumer"])), 1);
        assert_eq!(remove_fitting(&mut map, &patterns(&["*"])), 2);
        assert_eq!(map.keys().collect::<Vec<_>>(), ["host"]);
    }

    #[test]
    fn a_message_has_a_bounded_number_of_lines() {
        let mut map = HeaderMap::new();
        for _ in 0..MAX_LINES {
            append(&mut map, "x", vec![]).unwrap();
        }
        assert_eq!(append(&mut map, "x", vec![]), Err(Refusal::TooLarge));
    }
}
