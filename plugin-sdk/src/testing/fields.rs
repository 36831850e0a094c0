//! The headers of one message, and what the host refuses to put into them.

use crate::host::types::{Error, Header};

/// Bytes of a name and its value together.
const MAX_FIELD: usize = 8 * 1024;

/// Connection and framing headers (RFC 9110, section 7.6.1; RFC 9112, section 6).
const FORBIDDEN: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<Header>);

impl Fields {
    pub fn first(&self, name: &str) -> Option<Vec<u8>> {
        self.values(name).next().cloned()
    }

    pub fn all(&self, name: &str) -> Vec<Vec<u8>> {
        self.values(name).cloned().collect()
    }

    pub fn copy(&self) -> Vec<Header> {
        self.0.clone()
    }

    /// Adds what a peer sent: nothing is refused.
    pub fn receive(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        check(name, value)?;
        self.replace(name, value);
        Ok(())
    }

    /// Replaces what a peer sent: nothing is refused.
    pub fn replace(&mut self, name: &str, value: &[u8]) {
        let place = self.0.iter().position(|(n, _)| n.eq_ignore_ascii_case(name)).unwrap_or(self.0.len());
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.0.insert(place, (name.to_ascii_lowercase(), value.to_vec()));
    }

    pub fn append(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        check(name, value)?;
        self.receive(name, value);
        Ok(())
    }

    pub fn remove(&mut self, name: &str) -> Result<bool, Error> {
        check(name, b"")?;
        let before = self.0.len();
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        Ok(self.0.len() < before)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &Vec<u8>> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn check(name: &str, value: &[u8]) -> Result<(), Error> {
    if name.len() + value.len() > MAX_FIELD {
        return Err(Error::TooLarge);
    }
    if !is_token(name) {
        return Err(Error::InvalidName);
    }
    if FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        return Err(Error::Forbidden);
    }
    match value.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f)) {
        true => Ok(()),
        false => Err(Error::InvalidValue),
    }
}

/// RFC 9110, section 5.6.2.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_host_refuses() {
        let mut fields = Fields::default();
        for (name, value, error) in [
            ("", &b"v"[..], Error::InvalidName),
            ("x y", b"v", Error::InvalidName),
            ("x\u{e9}", b"v", Error::InvalidName),
            ("x", b"a\r\nb: c", Error::InvalidValue),
            ("x", b"\0", Error::InvalidValue),
            ("x", b"\x7f", Error::InvalidValue),
            ("x", &[b'a'; MAX_FIELD], Error::TooLarge),
            ("Transfer-Encoding", b"chunked", Error::Forbidden),
        ] {
            assert_eq!(fields.set(name, value), Err(error), "{name}");
            assert_eq!(fields.append(name, value), Err(error), "{name}");
        }
        for name in FORBIDDEN {
            assert_eq!(fields.remove(name), Err(Error::Forbidden), "{name}");
        }
        assert_eq!(fields.copy(), []);
        assert_eq!(fields.set("x", "tab\tand caf\u{e9}".as_bytes()), Ok(()));
        assert_eq!(fields.set("x", &[b'a'; MAX_FIELD - 1]), Ok(()));
    }

    #[test]
    fn setting_replaces_all_values_in_the_place_of_the_first() {
        let mut fields = Fields::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("a", "3")] {
            fields.append(name, value.as_bytes()).unwrap();
        }
        assert_eq!(fields.all("a"), [b"1", b"3"]);
        fields.set("A", b"4").unwrap();
        assert_eq!(fields.copy(), [("a".into(), b"4".to_vec()), ("b".into(), b"2".to_vec())]);
        assert_eq!((fields.remove("a"), fields.remove("a")), (Ok(true), Ok(false)));
    }
}
