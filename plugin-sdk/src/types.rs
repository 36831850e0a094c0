//! Values that many configs hold, checked while the config is read: an error names the key and
//! what was expected.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::time::Duration as Time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A header that a plugin may touch, in lower case. Refused are names that are no token (RFC 9110,
/// section 5.1) and those that belong to the connection or to framing, which the gateway writes.
///
/// ```
/// use wasmgate_sdk::{HeaderName, serde_json};
///
/// let name: HeaderName = serde_json::from_str("\"X-Request-Id\"")?;
/// assert_eq!(&*name, "x-request-id");
/// assert!(serde_json::from_str::<HeaderName>("\"content-length\"").is_err());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(Cow<'static, str>);

/// Fields of the connection and of framing (RFC 9110, section 7.6.1), and Host, which follows from
/// the request's authority.
pub(crate) const FORBIDDEN: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "host",
];

impl HeaderName {
    /// A name from elsewhere. Errors: it is no token, or the gateway's to set.
    ///
    /// ```
    /// let name = wasmgate_sdk::HeaderName::new("X-Api-Key")?;
    /// assert_eq!(name.to_string(), "x-api-key");
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn new(name: &str) -> crate::Result<Self> {
        if !is_token(name.as_bytes()) {
            return Err(crate::Error::msg(format_args!("`{name}` is not a header name")));
        }
        let name = name.to_ascii_lowercase();
        match FORBIDDEN.contains(&name.as_str()) {
            true => Err(crate::Error::msg(format_args!("`{name}` is the gateway's to set"))),
            false => Ok(HeaderName(name.into())),
        }
    }

    /// A name that the plugin itself knows, in lower case. In a `const` a bad one does not compile.
    ///
    /// ```
    /// use wasmgate_sdk::HeaderName;
    ///
    /// const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
    /// # assert_eq!(API_KEY, HeaderName::new("X-Api-Key").unwrap());
    /// ```
    ///
    /// ```compile_fail
    /// # use wasmgate_sdk::HeaderName;
    /// const API_KEY: HeaderName = HeaderName::from_static("X-Api-Key");
    /// # let _ = API_KEY;
    /// ```
    pub const fn from_static(name: &'static str) -> Self {
        let mut at = 0;
        while at < name.len() {
            assert!(!name.as_bytes()[at].is_ascii_uppercase(), "the name is not in lower case");
            at += 1;
        }
        assert!(is_token(name.as_bytes()), "the name is not a token");
        HeaderName(Cow::Borrowed(name))
    }
}

/// RFC 9110, section 5.6.2.
pub(crate) const fn is_token(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {}
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' => {}
            b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {}
            _ => return false,
        }
        at += 1;
    }
    !text.is_empty()
}

impl Deref for HeaderName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A time as "250ms", "5s", "1m", "1h" or "1d"; a bare number is refused.
///
/// ```
/// use wasmgate_sdk::{Duration, serde_json};
///
/// let timeout: Duration = serde_json::from_str("\"250ms\"")?;
/// assert_eq!(timeout.as_millis(), 250);
/// assert!(serde_json::from_str::<Duration>("250").is_err());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub Time);

impl Deref for Duration {
    type Target = Time;

    fn deref(&self) -> &Time {
        &self.0
    }
}

/// A number of bytes as "512B", "64KiB" or "10MB"; a bare number is refused.
///
/// ```
/// use wasmgate_sdk::{Size, serde_json};
///
/// let limit: Size = serde_json::from_str("\"64KiB\"")?;
/// assert_eq!(limit.0, 65536);
/// assert!(serde_json::from_str::<Size>("\"64\"").is_err());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// A whole number in front of one of the units.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl<'de> Deserialize<'de> for HeaderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        HeaderName::new(&name).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let millis = measure(&text, &TIMES);
        let wrong = || D::Error::custom(format_args!("{text:?} is not a time such as \"5s\""));
        millis.map(|millis| Duration(Time::from_millis(millis))).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom(format_args!("{text:?} is not a size such as \"64KiB\""));
        measure(&text, &SIZES).map(Size).ok_or_else(wrong)
    }
}

macro_rules! schema {
    ($type:ident, $pattern:literal, $description:literal) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

schema!(HeaderName, "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "A header name.");
schema!(Duration, "^[0-9]+(ms|s|m|h|d)$", "A time such as \"250ms\", \"5s\", \"1m\", \"1h\".");
schema!(Size, "^[0-9]+(B|KB|KiB|MB|MiB|GB|GiB)$", "A size such as \"64KiB\" or \"10MB\".");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(&*HeaderName::new("X-A").unwrap(), "x-a");
        assert_eq!(&*HeaderName::new("!#$%&'*+-.^_`|~09az").unwrap(), "!#$%&'*+-.^_`|~09az");
        for name in ["", "a b", "a:", "ä", "Connection", "HOST"] {
            assert!(HeaderName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn measures() {
        assert_eq!(measure("90s", &TIMES), Some(90_000));
        assert_eq!(measure("2MiB", &SIZES), Some(2 << 20));
        for text in
            ["", "5", "s", "-5s", "5 s", "1.5s", "5S", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(measure(text, &TIMES), None, "{text}");
        }
    }
}
