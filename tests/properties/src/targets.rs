//! What is read of a target is whole, well-formed, and read again the same.

use std::net::Ipv6Addr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use crate::target::{normalise, read_target};

/// The bytes are the head of a request, without its end.
pub fn check(data: &[u8]) {
    let Some((method, uri, version, map)) = parse(data) else { return };
    let Ok((authority, target)) = read_target(&method, &uri, version, &map) else { return };
    let what = format!("{method} {uri} {map:?}: {authority} {target}");

    assert!(method != Method::CONNECT && method != Method::TRACE, "{what}");
    assert!(version < Version::HTTP_11 || map.get_all("host").iter().count() == 1, "{what}");
    assert_well_formed(authority.as_str());
    match uri.authority() {
        Some(wins) => assert_eq!(*wins, authority, "{what}"),
        None => {
            assert!(map.get("host").is_none_or(|host| authority == *host.to_str().unwrap_or("?")), "{what}")
        }
    }
    assert_eq!(target.query(), uri.query(), "{what}");
    if target.as_str() == "*" {
        assert_eq!(method, Method::OPTIONS, "{what}");
        return;
    }
    assert!(target.as_str().starts_with('/'), "{what}");
    assert_eq!(normalise(target.path()).as_deref(), Some(target.path()), "{what}");

    let mut map = HeaderMap::new();
    map.insert("host", HeaderValue::from_str(authority.as_str()).expect("it came from one"));
    let uri = Uri::try_from(target.as_str()).expect("a target in origin form");
    let again = read_target(&method, &uri, Version::HTTP_11, &map).expect("what is sent can be read");
    assert_eq!((again.0, again.1.as_str()), (authority, target.as_str()), "{what}");
}

fn parse(data: &[u8]) -> Option<(Method, Uri, Version, HeaderMap)> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let head = [data, b"\r\n\r\n"].concat();
    if !request.parse(&head).is_ok_and(|status| status.is_complete()) {
        return None;
    }
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut map = HeaderMap::new();
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    // The guard refuses fragments; the library would cut them off.
    let path = request.path.filter(|path| !path.contains('#'))?;
    Some((request.method?.parse().ok()?, path.parse().ok()?, version, map))
}

/// RFC 3986, section 3.2, without user information.
fn assert_well_formed(authority: &str) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    assert!(port.is_empty() || port.parse::<u16>().is_ok() && !port.starts_with('+'), "{authority}");
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => assert!(address.parse::<Ipv6Addr>().is_ok(), "{authority}"),
        None => {
            let in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
            assert!(!host.is_empty() && host.bytes().all(in_names), "{authority}");
        }
    }
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn targets_have_one_meaning(
            method in "GET|OPTIONS|CONNECT|X",
            target in "(https?://|ftp://|HTTP://|//)?(u@)?(a|a\\.b|\\[::1\\]|)(:[0-9]{0,5})?(/|\\?|\\*|\\.\\.|%2e|;|%2f|[a%]){0,6}",
            version in "[01]",
            hosts in proptest::collection::vec("host: (u@)?(a|A\\.b\\.|\\[::1\\]|\\[|a,b|%61)?(:[0-9]{0,5})?", 0..3),
        ) {
            super::check(format!("{method} {target} HTTP/1.{version}\r\n{}", hosts.join("\r\n")).as_bytes());
        }
    }
}
