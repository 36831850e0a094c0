//! Paths of requests and of rules. Servers differ in what they take for the same path, and the gateway passes paths on as they
//! are, dot segments apart. So there are two forms of each: one for rules that allow, which has to fit as it is written,
//! and a loose one for rules that deny, which fits whatever some server might read from it.

use wasmgate_sdk::{Error, Result, config};

/// A path of a request.
pub struct Path {
    /// Escapes of what need not be escaped are decoded (RFC 3986, section 6.2.2).
    written: Vec<u8>,
    /// All escapes are decoded, parameters (`;x=1`), double slashes and one at the end are gone.
    loose: Vec<u8>,
}

/// A path of a rule, and whether those below it are meant, too.
#[config]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Pattern {
    path: Path,
    below: bool,
}

impl Path {
    pub fn of_request(path: &str) -> Self {
        Path { written: decoded(path, is_unreserved), loose: loose(&decoded(path, |_| true)) }
    }
}

impl Pattern {
    /// For rules that allow: it fits in both forms.
    pub fn fits(&self, path: &Path) -> bool {
        self.has(&self.path.written, &path.written) && self.has(&self.path.loose, &path.loose)
    }

    /// For rules that deny: it fits in one of them.
    pub fn may_fit(&self, path: &Path) -> bool {
        self.has(&self.path.written, &path.written) || self.has(&self.path.loose, &path.loose)
    }

    fn has(&self, own: &[u8], path: &[u8]) -> bool {
        match path.strip_prefix(own) {
            Some([]) => true,
            Some(rest) => self.below && (rest.starts_with(b"/") || own.is_empty()),
            None => false,
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text.as_str(), false),
        };
        if !text.starts_with('/') || path.contains(['*', '?', '#', '\\']) {
            return Err(Error::msg(
                "expected a path such as \"/users\", or \"/users/*\" for those below, too",
            ));
        }
        Ok(Pattern { path: Path::of_request(path), below })
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Decodes the escapes of some bytes; the digits of the others become upper case.
fn decoded(path: &str, which: impl Fn(u8) -> bool) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, behind @ ..]) => match (digit(high), digit(low)) {
                (Some(high_bits), Some(low_bits)) => {
                    rest = behind;
                    let byte = (high_bits * 16 + low_bits) as u8;
                    match which(byte) {
                        true => decoded.push(byte),
                        false => decoded.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
                    }
                }
                _ => decoded.push(b'%'),
            },
            _ => decoded.push(*first),
        }
    }
    decoded
}

fn loose(path: &[u8]) -> Vec<u8> {
    let mut loose = Vec::with_capacity(path.len());
    for segment in path.split(|&byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        if !name.is_empty() {
            loose.push(b'/');
            loose.extend_from_slice(name);
        }
    }
    loose
}
