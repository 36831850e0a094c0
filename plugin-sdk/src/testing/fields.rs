//! The headers of one message, and what the host refuses to put into them.

use crate::host::types::{Error, Header};
use crate::types::{FORBIDDEN, is_token};

/// Bytes of a name and its value together.
const MAX_FIELD: usize = 16 * 1024;

/// Header lines of one message.
const MAX_LINES: usize = 256;

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
        self.check(name, value)?;
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
        self.check(name, value)?;
        self.receive(name, value);
        Ok(())
    }

    pub fn remove(&mut self, name: &str) -> Result<bool, Error> {
        check_name(name)?;
        let before = self.0.len();
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        Ok(self.0.len() < before)
    }

    /// Those that a pattern fits, as the gateway has them; returns how many names are gone.
    pub fn remove_fitting(&mut self, patterns: &[&str]) -> u32 {
        let fits = |name: &str| {
            let name = name.to_ascii_lowercase().replace('_', "-");
            patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).any(|pattern| {
                match pattern.strip_suffix('*') {
                    Some(beginning) => name.starts_with(beginning),
                    None => name == pattern,
                }
            })
        };
        let mut gone: Vec<String> = self.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        gone.retain(|name| fits(name) && check_name(name).is_ok());
        gone.sort_unstable();
        gone.dedup();
        self.0.retain(|(name, _)| !gone.iter().any(|gone| name.eq_ignore_ascii_case(gone)));
        gone.len() as u32
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &Vec<u8>> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn check(&self, name: &str, value: &[u8]) -> Result<(), Error> {
        if name.len() + value.len() > MAX_FIELD || self.0.len() >= MAX_LINES {
            return Err(Error::TooLarge);
        }
        check_name(name)?;
        match value.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f)) {
            true => Ok(()),
            false => Err(Error::InvalidValue),
        }
    }
}

/// The fields after a body.
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    pub fields: Fields,
    /// The body has come to its end.
    pub are_there: bool,
}

impl Trailers {
    pub fn copy(&self) -> Vec<Header> {
        if self.are_there { self.fields.copy() } else { Vec::new() }
    }

    /// The fields, where they are there, in the phase of their body.
    pub fn open(&mut self, in_phase: bool) -> Result<&mut Fields, Error> {
        match in_phase && self.are_there {
            true => Ok(&mut self.fields),
            false => Err(Error::Immutable),
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > MAX_FIELD {
        return Err(Error::TooLarge);
    }
    if !is_token(name.as_bytes()) {
        return Err(Error::InvalidName);
    }
    match FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        true => Err(Error::Forbidden),
        false => Ok(()),
    }
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
    fn a_message_has_a_bounded_number_of_lines() {
        let mut fields = Fields::default();
        for _ in 0..MAX_LINES {
            fields.append("x", b"").unwrap();
        }
        assert_eq!(fields.append("x", b""), Err(Error::TooLarge));
        assert_eq!(fields.remove("x"), Ok(true));
        assert_eq!(fields.append("x", b""), Ok(()));
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
