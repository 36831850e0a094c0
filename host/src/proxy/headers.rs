//! Fields that belong to one connection and go no further (RFC 9110, section 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// End-to-end fields that no Connection field may name: a client could take away what the
/// gateway or the upstream relies on.
const KEPT: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::COOKIE,
    header::CACHE_CONTROL,
    header::FORWARDED,
];

/// Removes them, with the fields that Connection names. `TE: trailers` is for the caller to keep.
pub fn strip_hop_by_hop(map: &mut HeaderMap) {
    if map.contains_key(header::CONNECTION) {
        strip_named(map);
    }
    map.remove(header::TRANSFER_ENCODING);
    map.remove(KEEP_ALIVE);
    map.remove(header::UPGRADE);
    map.remove(header::TE);
    map.remove(PROXY_CONNECTION);
    map.remove(header::PROXY_AUTHENTICATE);
    map.remove(header::PROXY_AUTHORIZATION);
    map.remove(HTTP2_SETTINGS);
}

fn strip_named(map: &mut HeaderMap) {
    let lines: Vec<HeaderValue> = map.get_all(header::CONNECTION).iter().cloned().collect();
    map.remove(header::CONNECTION);
    for token in lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b',')) {
        let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) else { continue };
        if !KEPT.contains(&name) && !name.as_str().starts_with("x-forwarded-") {
            map.remove(name);
        }
    }
}

/// Whether the client takes trailers.
pub fn accepts_trailers(map: &HeaderMap) -> bool {
    let tokens = map.get_all(header::TE).iter();
    tokens
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_what_belongs_to_the_connection() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Hop ,authorization"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("authorization", "kept"),
            ("te", "trailers, gzip"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("x-end", "3"),
        ] {
            map.append(name, HeaderValue::from_static(value));
        }
        assert!(accepts_trailers(&map));
        strip_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "x-end"]);
    }
}
