//! One meaning for a target: the same string is matched, shown to plugins and sent. Pure.

use std::{borrow::Cow, net::Ipv6Addr};

use http::{
    HeaderMap, Method, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery},
};

type Refusal = (StatusCode, &'static str);

/// Authority and path of the request (RFC 9112, section 3.2), or what is wrong with them.
pub fn read_target(
    method: &Method,
    uri: &Uri,
    version: Version,
    map: &HeaderMap,
) -> Result<(Authority, PathAndQuery), Refusal> {
    let bad = |detail| (StatusCode::BAD_REQUEST, detail);
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "This method is not served."));
    }
    let is_http = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if uri.authority().is_some() && !uri.scheme_str().is_some_and(is_http) {
        return Err(bad("The target is neither a path nor a URL of HTTP."));
    }
    let authority = read_authority(uri, version, map)?;
    let target = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    if uri.path() == "*" {
        return match *method == Method::OPTIONS {
            true => Ok((authority, target)),
            false => Err(bad("The target * is for OPTIONS only.")),
        };
    }
    let path = normalise(target.path()).ok_or(bad("The path is malformed."))?;
    // `http://a?b` has an empty path, which is the root.
    if *path == *target.path() && target.as_str().starts_with('/') {
        return Ok((authority, target));
    }
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = PathAndQuery::try_from(format!("{path}{query}"));
    Ok((authority, target.map_err(|_| bad("The path is malformed."))?))
}

/// The authority of an absolute target wins over Host, which still must be one and well-formed; in HTTP/2 both have to be
/// the same (RFC 9113, section 8.3.1).
fn read_authority(uri: &Uri, version: Version, map: &HeaderMap) -> Result<Authority, Refusal> {
    let bad = |detail| (StatusCode::BAD_REQUEST, detail);
    let mut lines = map.get_all(header::HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return Err(bad("The request has more than one Host.")),
        (Some(host), None) => {
            let host = Authority::try_from(host.as_bytes());
            Some(host.map_err(|_| bad("The Host is malformed."))?)
        }
        (None, _) if version == Version::HTTP_2 && uri.authority().is_some() => None,
        (None, _) if version >= Version::HTTP_11 => return Err(bad("The request has no Host.")),
        (None, _) => None,
    };
    for authority in uri.authority().into_iter().chain(&host) {
        if authority.as_str().contains('@') {
            return Err(bad("The authority has user information."));
        }
        if !is_host_with_port(authority.as_str()) {
            return Err(bad("The host or its port is malformed."));
        }
    }
    if let (Version::HTTP_2, Some(host), Some(authority)) = (version, &host, uri.authority())
        && host != authority
    {
        return Err(bad("The Host is another one than the authority."));
    }
    let authority = uri.authority().cloned().or(host);
    Ok(authority.unwrap_or(Authority::from_static("localhost")))
}

/// Whether a name or an address is there, and behind it a port that can be one, an empty one, or none (RFC 3986,
/// section 3.2).
fn is_host_with_port(authority: &str) -> bool {
    let bytes = authority.as_bytes();
    // An IPv6 address has colons within its brackets.
    let (host, port) = match bytes.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if bytes[at] == b':' => (&authority[..at], &authority[at + 1..]),
        _ => (authority, ""),
    };
    let good_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok());
    let good_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.bytes().any(|byte| matches!(byte, b'[' | b']' | b':')),
    };
    good_port && good_host
}

/// Needs a closer look in a path.
const ODD: u8 = 1;
const DOT: u8 = 2;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'%' | b'\\' | 0..=0x20 | 0x7f => ODD,
            b'.' => DOT,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// Removes dot segments (RFC 3986, section 5.2.4), also percent-encoded ones. Refuses what has
/// more than one reading: broken escapes, %00, backslashes, control characters, dots that lead
/// above the root, and those that some servers make dot segments of: `..%2Fa`, `..;a`. Everything
/// else stays as the client sent it: `//`, `%2F`, the case of escapes.
pub fn normalise(path: &str) -> Option<Cow<'_, str>> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    let kinds = bytes.iter().fold(0, |kinds, &byte| kinds | KINDS[usize::from(byte)]);
    let dot_segments = kinds & DOT != 0 && memchr::memmem::find(bytes, b"/.").is_some();
    if kinds & ODD == 0 && !dot_segments {
        return Some(Cow::Borrowed(path));
    }
    if !is_well_formed(bytes) {
        return None;
    }
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    let mut changed = false;
    while let Some(segment) = segments.next() {
        let dots = dots(segment);
        if dots == 0 && hides_dots(segment) {
            return None;
        }
        if dots == 0 {
            out.push(segment);
            continue;
        }
        changed = true;
        if dots == 2 {
            out.pop()?;
        }
        if segments.peek().is_none() {
            out.push("");
        }
    }
    Some(if changed { format!("/{}", out.join("/")).into() } else { Cow::Borrowed(path) })
}

/// Whether a part of the segment becomes a dot segment for a server that decodes slashes first, or cuts parameters
/// off.
fn hides_dots(segment: &str) -> bool {
    let mut rest = segment;
    loop {
        let end = rest
            .as_bytes()
            .windows(3)
            .position(|escape| matches!(escape, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']));
        let part = end.map_or(rest, |end| &rest[..end]);
        if part.split(';').next().is_some_and(|name| dots(name) > 0) {
            return true;
        }
        match end {
            Some(end) => rest = &rest[end + 3..],
            None => return false,
        }
    }
}

/// 1 or 2 where the segment is a dot segment.
fn dots(segment: &str) -> usize {
    let mut rest = segment;
    let mut count = 0;
    while let Some(after) =
        rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E"))
    {
        (rest, count) = (after, count + 1);
    }
    if rest.is_empty() && count <= 2 { count } else { 0 }
}

fn is_well_formed(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'%' => match after {
                [b'0', b'0', ..] => return false,
                [a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest = after,
                _ => return false,
            },
            b'\\' | 0..=0x20 | 0x7f => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (path, expected) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/b/..", Some("/a/")),
            ("/a/.", Some("/a/")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/.%2e", Some("/")),
            ("/.well-known/x", Some("/.well-known/x")),
            ("/a/...", Some("/a/...")),
            ("/a//b", Some("/a//b")),
            ("/a/b%2Fc", Some("/a/b%2Fc")),
            ("/..", None),
            ("/a/../../b", None),
            ("/%2e%2e/b", None),
            ("/a/..;b=c/d", None),
            ("/a/%2e;/d", None),
            ("/a/..%2fb", None),
            ("/a/b%5C%2e.", None),
            ("/a/b%2F..%2Fc", None),
            ("/a/b;..", Some("/a/b;..")),
            ("/a/..b%2Fc..;", Some("/a/..b%2Fc..;")),
            ("/a%", None),
            ("/a%4", None),
            ("/a%zz", None),
            ("/a%00", None),
            ("/a\\b", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(normalise(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn authorities_are_a_host_and_a_port_or_none() {
        for good in ["a", "a:", "a:0", "a:65535", "127.0.0.1:80", "[::1]", "[::1]:", "[::1]:80"] {
            assert!(is_host_with_port(good), "{good}");
        }
        for bad in ["a:b", "a:+80", "a:65536", "a:8 ", "[::1]x", "[::1]:x", "[::1]80"] {
            assert!(!is_host_with_port(bad), "{bad}");
        }
        for bad in ["", ":80", "::1", "a[::1]", "[a]", "[]", "[::1", "a]", "[[::1]]"] {
            assert!(!is_host_with_port(bad), "{bad}");
        }
    }
}
