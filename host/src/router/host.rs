//! Hosts: their patterns, how an authority is read, and which path tree belongs to it. Knows no paths and no rules.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::PatternError;
use super::hash::TextMap;

/// `api.example.com`, `[::1]`, `*.example.com` (one or more labels in place of the star) or `*`. Read it from text,
/// which folds the name as requests are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(Box<str>),
    /// The name that follows `*.`.
    Wildcard(Box<str>),
    Any,
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(source: &str) -> Result<Self, PatternError> {
        if source == "*" {
            return Ok(Self::Any);
        }
        if source.starts_with('[') {
            let address = fold_v6(source).ok_or_else(|| {
                PatternError::new(source, 1, "this is not an IPv6 address in brackets, such as [::1]")
            })?;
            return Ok(Self::Exact(address.into()));
        }
        if let Some(suffix) = source.strip_prefix("*.") {
            return Ok(Self::Wildcard(parse_name(source, suffix)?));
        }
        Ok(Self::Exact(parse_name(source, source)?))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// `name` is the end of `source`.
fn parse_name(source: &str, name: &str) -> Result<Box<str>, PatternError> {
    let mut at = source.len() - name.len();
    let name = name.strip_suffix('.').unwrap_or(name);
    for label in name.split('.') {
        if label.is_empty() {
            return Err(PatternError::new(source, at, "a label is missing here"));
        }
        if let Some((offset, problem)) =
            label.char_indices().find_map(|(offset, c)| Some((offset, problem_of(c)?)))
        {
            return Err(PatternError::new(source, at + offset, problem));
        }
        at += label.len() + 1;
    }
    Ok(name.to_ascii_lowercase().into())
}

fn problem_of(c: char) -> Option<String> {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => None,
        '*' => Some("`*` stands for whole labels at the start only, as in *.example.com".into()),
        ':' | '/' => Some("a host pattern is a name alone, without scheme, port or path".into()),
        c if !c.is_ascii() => {
            Some(format!("{c:?} is not ASCII: write the name as requests do, with xn-- labels"))
        }
        c => Some(format!("{c:?} cannot be part of a host name")),
    }
}

/// The host of an authority in the form patterns have: lower case, no port, no trailing dot, and IPv6 as RFC 5952 writes it.
pub(super) fn fold(authority: &str) -> Cow<'_, str> {
    if is_plain(authority.as_bytes()) {
        return Cow::Borrowed(authority);
    }
    let host = without_port(authority);
    if host.starts_with('[') {
        return fold_v6(host).map_or(Cow::Borrowed(host), Cow::Owned);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

/// The usual host, which needs no folding. The loop has no early end, so that it is vectorised.
fn is_plain(authority: &[u8]) -> bool {
    let odd = authority
        .iter()
        .fold(false, |odd, byte| odd | (*byte == b':') | (*byte == b'[') | byte.is_ascii_uppercase());
    !odd && authority.last() != Some(&b'.')
}

/// The last colon of a bare `[::1]` is followed by a bracket, so it starts no port.
fn without_port(authority: &str) -> &str {
    // Ports are short: looking at each byte is faster than a search.
    match authority.bytes().rposition(|byte| !byte.is_ascii_digit()) {
        Some(at) if authority.as_bytes()[at] == b':' => &authority[..at],
        _ => authority,
    }
}

fn fold_v6(host: &str) -> Option<String> {
    let address: Ipv6Addr = host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    Some(format!("[{address}]"))
}

/// Which tree belongs to which host pattern.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: TextMap<usize>,
    wildcards: TextMap<usize>,
    /// Bytes of the longest wildcard suffix: an endless host costs no more lookups than the configured ones can need.
    longest_wildcard: usize,
    any: Option<usize>,
}

impl Hosts {
    /// The tree of a pattern, which is `next` if it has none yet.
    pub(super) fn insert(&mut self, pattern: &HostPattern, next: usize) -> usize {
        match pattern {
            HostPattern::Exact(name) => *self.exact.entry(name.clone()).or_insert(next),
            HostPattern::Wildcard(suffix) => {
                self.longest_wildcard = self.longest_wildcard.max(suffix.len());
                *self.wildcards.entry(suffix.clone()).or_insert(next)
            }
            HostPattern::Any => *self.any.get_or_insert(next),
        }
    }

    /// The trees of all patterns that match a folded host, the most specific first.
    pub(super) fn trees(&self, host: &str) -> impl Iterator<Item = usize> {
        let exact = self.exact.get(host).copied();
        exact.into_iter().chain(self.wildcard_trees(host)).chain(self.any)
    }

    fn wildcard_trees(&self, host: &str) -> impl Iterator<Item = usize> {
        let host = if self.wildcards.is_empty() { "" } else { host };
        let dots = host.match_indices('.').filter(|(at, _)| *at > 0);
        let suffixes =
            dots.map(|(at, _)| &host[at + 1..]).filter(|suffix| suffix.len() <= self.longest_wildcard);
        suffixes.filter_map(|suffix| self.wildcards.get(suffix).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_authorities() {
        for (authority, host) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.com.:8080", "api.example.com"),
            ("api.example.com:", "api.example.com"),
            ("[::1]", "[::1]"),
            ("[0:0::1]:443", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
            ("[oops]:1", "[oops]"),
            ("a..", "a."),
            ("127.0.0.1:80", "127.0.0.1"),
            ("", ""),
            (":", ""),
        ] {
            assert_eq!(fold(authority), host, "{authority}");
        }
        assert!(matches!(fold("api.example.com.:80"), Cow::Borrowed(_)));
    }

    #[test]
    fn reads_patterns() {
        for (source, shown) in [
            ("*", "*"),
            ("Example.com.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("[0::1]", "[::1]"),
            ("10.0.0.1", "10.0.0.1"),
            ("my_host", "my_host"),
        ] {
            assert_eq!(source.parse::<HostPattern>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_patterns_and_says_where() {
        for (source, at, problem) in [
            ("", 0, "label is missing"),
            (".", 0, "label is missing"),
            ("*.", 2, "label is missing"),
            ("a..b", 2, "label is missing"),
            ("api.*.com", 4, "at the start only"),
            ("*example.com", 0, "at the start only"),
            ("a.example:80", 9, "without scheme, port"),
            ("http://a", 4, "without scheme, port"),
            ("a b", 1, "cannot be part"),
            ("bücher.de", 1, "xn--"),
            ("[::1", 1, "IPv6"),
            ("[::1]:80", 1, "IPv6"),
            ("::1", 0, "without scheme, port"),
        ] {
            let error = source.parse::<HostPattern>().unwrap_err();
            assert_eq!(error.at(), at, "{error}");
            assert!(error.problem().contains(problem), "{error}");
        }
        let error = "büch*r".parse::<HostPattern>().unwrap_err();
        assert!(
            error.to_string().starts_with("pattern \"büch*r\", character 2: 'ü' is not ASCII"),
            "{error}"
        );
    }
}
