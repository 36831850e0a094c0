//! Sets of addresses and networks: what they are made of, and lists of them in files.

use std::{path::PathBuf, sync::Arc};

use wasmgate_networks::{Entry, Network, NetworkSet};

use super::{Stamp, check::NETWORK};

/// Entries of one list.
const MAX_ENTRIES: usize = 16_000_000;

/// A named set.
#[derive(Clone)]
pub struct Networks {
    pub name: Arc<str>,
    pub set: Arc<NetworkSet>,
    pub(super) made_of: MadeOf,
    pub(super) host_bits: HostBits,
}

/// What makes it another set.
#[derive(Clone, PartialEq)]
pub(super) struct MadeOf {
    pub entries: Vec<String>,
    /// With no state where it had just been changed: what is written so soon after need not look different.
    pub file: Option<(PathBuf, Option<Stamp>)>,
}

/// Entries with bits behind their length, which mean nothing.
#[derive(Clone, Default)]
pub(super) struct HostBits {
    count: usize,
    first: String,
}

impl Networks {
    /// Whether the two are one set, read once.
    pub fn is(&self, other: &Networks) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.set, &other.set)
    }

    /// For the operator, where there are entries with bits behind their length.
    pub fn host_bits(&self) -> Option<String> {
        let HostBits { count, first } = &self.host_bits;
        let more = match count {
            0 => return None,
            1 => String::new(),
            _ => format!(", and so do {} more", count - 1),
        };
        Some(format!("{first} has bits set behind its length, which mean nothing{more}"))
    }
}

impl MadeOf {
    /// Whether the other would become the same set.
    pub fn is_still(&self, other: &MadeOf) -> bool {
        let is_settled = self.file.as_ref().is_none_or(|(_, stamp)| stamp.is_some());
        is_settled && self == other
    }
}

impl HostBits {
    /// `place` tells where it stands.
    pub fn note(&mut self, entry: &Entry, place: impl FnOnce() -> String) {
        if entry.has_host_bits {
            self.count += 1;
            if self.count == 1 {
                self.first = place();
            }
        }
    }
}

/// Adds the entries of a file's text. The error is the first line that is at fault, and what is wrong with it, and how many
/// further ones are.
pub(super) fn read_list(
    name: &str,
    text: &[u8],
    networks: &mut Vec<Network>,
    host_bits: &mut HostBits,
) -> Result<(), String> {
    let (mut fault, mut further) = (None, 0);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        match entry(line) {
            Ok(None) => {}
            Ok(Some(entry)) if networks.len() < MAX_ENTRIES => {
                host_bits.note(&entry, || format!("{name}:{number}: {}", shown(line)));
                networks.push(entry.network);
            }
            Ok(Some(_)) => return Err(format!("{name}:{number}: more than {MAX_ENTRIES} entries")),
            Err(reason) if fault.is_none() => fault = Some(format!("{name}:{number}: {reason}")),
            Err(_) => further += 1,
        }
    }
    match (fault, further) {
        (None, _) => Ok(()),
        (Some(fault), 0) => Err(fault),
        (Some(fault), further) => Err(format!("{fault}; {further} more lines are at fault")),
    }
}

fn entry(line: &[u8]) -> Result<Option<Entry>, String> {
    let line = line.split(|byte| matches!(byte, b'#' | b';')).next().unwrap_or_default().trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    if word.is_empty() {
        return Ok(None);
    }
    // Of `10.0.0.0 /8` or `10.0.0.1 - 10.0.0.9` the first word would be another network than what is meant.
    let is_cut = matches!(rest.trim_ascii(), [b'/' | b'-', ..]);
    let entry = str::from_utf8(word).ok().and_then(Entry::read).filter(|_| !is_cut);
    entry.map(Some).ok_or_else(|| format!("expected {}, found {:?}", NETWORK, shown(line)))
}

/// What fits into a message.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line.trim_ascii()).chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<(Vec<String>, usize), String> {
        let (mut networks, mut host_bits) = (Vec::new(), HostBits::default());
        read_list("list.txt", text.as_bytes(), &mut networks, &mut host_bits)?;
        Ok((networks.iter().map(Network::to_string).collect(), host_bits.count))
    }

    #[test]
    fn a_list_has_an_entry_in_each_line() {
        let text = "\u{feff}192.0.2.1\r\n\n  # all of it\n; SBL1\n10.0.0.1/8 an office, 1.2.3.4\n\t::1\t# here\n\
                    198.51.100.0/24;SBL2\n::ffff:192.0.2.9#x";
        let entries = ["192.0.2.1", "10.0.0.0/8", "::1", "198.51.100.0/24", "192.0.2.9"];
        assert_eq!(list(text), Ok((entries.map(str::to_owned).into(), 1)));
        assert_eq!(list(""), Ok((Vec::new(), 0)));
    }

    #[test]
    fn a_line_at_fault_is_located() {
        for (text, place) in [
            ("a", "list.txt:1: expected an IP address or a network such as \"10.0.0.0/8\", found \"a\""),
            ("::1\n\n10.0.0.0 /8 x", "list.txt:3: "),
            ("10.0.0.1 - 10.0.0.9", "list.txt:1: "),
            ("10.0.0.1,10.0.0.2", "list.txt:1: "),
            ("deny 10.0.0.1;", "list.txt:1: "),
            ("10.0.0.0/33\n::1\nb\nc", "; 2 more lines are at fault"),
        ] {
            let fault = list(text).expect_err(text);
            assert!(fault.contains(place), "{fault}");
        }
        let fault = read_list("l", b"\xff\xfe1\0", &mut Vec::new(), &mut HostBits::default());
        assert!(fault.is_err_and(|fault| fault.starts_with("l:1: ")));
        assert!(list(&"9".repeat(100_000)).is_err_and(|fault| fault.len() < 200));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_list_or_a_fault(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read_list("l", &bytes, &mut Vec::new(), &mut HostBits::default());
        }
    }
}
