//! What the fields of a message are to a proxy. One pass over the names tells which of those that
//! need attention are there; most messages have none.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};

use bytes::Bytes;
use http_body::Frame;

use crate::grpc;

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that belong to one connection and go no further (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Places among them.
const TE: usize = 0;
const TRANSFER_ENCODING: usize = 1;
const UPGRADE: usize = 2;

/// What proxies say about a client; only a trusted one may.
const CLAIMS: [&str; 15] = [
    // RFC 9440, section 2.4.
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-real-ip",
];

/// End-to-end fields that no Connection field may name: a client could take away what the
/// gateway or the upstream relies on.
const KEPT: [HeaderName; 5] =
    [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, header::COOKIE, header::CACHE_CONTROL];

/// Further fields that mean something only before the body.
const NO_TRAILERS: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::RANGE,
    header::SET_COOKIE,
    header::TRAILER,
    header::VIA,
];

/// Which kinds of fields a message has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    pub connection: bool,
    /// Which of [`HOP_BY_HOP`], by their places.
    hop_by_hop: u8,
    pub claims: bool,
    pub via: bool,
    pub expect: bool,
    /// It has more than one line of Authorization: who proves one thing to a plugin and another one to the upstream.
    pub proves_twice: bool,
    pub trailers: bool,
    /// It announces trailers of its own.
    pub trailer: bool,
    /// It has a Content-Length, or a coding that leaves the length open.
    pub length: bool,
    pub coding: bool,
    /// How it is written, where it is a call of gRPC.
    pub grpc: Option<grpc::Kind>,
    /// It may ask for another protocol.
    pub upgrade: bool,
}

impl Present {
    pub fn of(map: &HeaderMap) -> Present {
        let mut present = Present::default();
        for name in map.keys() {
            match *name {
                header::HOST | header::ACCEPT | header::USER_AGENT | header::COOKIE | header::DATE => {}
                header::CONNECTION => present.connection = true,
                header::CONTENT_LENGTH => present.length = true,
                header::TRANSFER_ENCODING => {
                    present.hop_by_hop |= 1 << TRANSFER_ENCODING;
                    present.coding = true;
                    present.length |= !is_chunked(map);
                }
                header::CONTENT_TYPE => present.grpc = grpc::Kind::of(map),
                header::UPGRADE => {
                    present.hop_by_hop |= 1 << UPGRADE;
                    present.upgrade = true;
                }
                header::VIA => present.via = true,
                header::AUTHORIZATION => present.proves_twice = map.get_all(name).iter().nth(1).is_some(),
                header::EXPECT => present.expect = true,
                header::TRAILER => present.trailer = true,
                header::TE => {
                    present.hop_by_hop |= 1 << TE;
                    present.trailers = accepts_trailers(map);
                }
                _ => match HOP_BY_HOP.iter().position(|hop| hop == name) {
                    Some(place) => present.hop_by_hop |= 1 << place,
                    None => present.claims |= is_claim(name),
                },
            }
        }
        present
    }

    /// Removes what belongs to the connection, with the fields that Connection names.
    pub fn strip_hop_by_hop(self, map: &mut HeaderMap) {
        if self.connection {
            strip_named(map);
        }
        for (place, name) in HOP_BY_HOP.iter().enumerate() {
            if self.hop_by_hop & (1 << place) != 0 {
                map.remove(name);
            }
        }
        if self.trailer {
            announce_less(map);
        }
    }
}

/// Takes fields that frame, route or prove something out of Trailer (RFC 9110, section 6.5.1). The library sends only
/// trailers that are announced.
fn announce_less(map: &mut HeaderMap) {
    let lines = map.get_all(header::TRAILER).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let may_trail = |name: &&[u8]| HeaderName::from_bytes(name).is_ok_and(|name| may_trail(&name));
    let list = names.filter(may_trail).collect::<Vec<_>>().join(&b", "[..]);
    map.remove(header::TRAILER);
    if let Some(list) = HeaderValue::from_bytes(&list).ok().filter(|list| !list.is_empty()) {
        map.insert(header::TRAILER, list);
    }
}

/// Takes the same fields out of trailers, announced or not.
pub fn strip_trailers(frame: &mut Frame<Bytes>) {
    let Some(map) = frame.trailers_mut() else { return };
    let wrong: Vec<HeaderName> = map.keys().filter(|name| !may_trail(name)).cloned().collect();
    wrong.iter().for_each(|name| _ = map.remove(name));
}

fn may_trail(name: &HeaderName) -> bool {
    !HOP_BY_HOP.contains(name) && !KEPT.contains(name) && !NO_TRAILERS.contains(name) && !is_claim(name)
}

/// Removes what only a trusted proxy may say.
pub fn strip_claims(map: &mut HeaderMap) {
    let claims: Vec<HeaderName> = map.keys().filter(|name| is_claim(name)).cloned().collect();
    claims.iter().for_each(|name| _ = map.remove(name));
}

/// With `_` for `-` too: as variables, as CGI has them, both are one.
fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let same = |(found, wanted): (&u8, u8)| *found == wanted || (*found == b'_' && wanted == b'-');
    CLAIMS.iter().any(|claim| claim.len() == name.len() && name.iter().zip(claim.bytes()).all(same))
}

fn strip_named(map: &mut HeaderMap) {
    let Entry::Occupied(lines) = map.entry(header::CONNECTION) else { return };
    // Most lines say nothing of other fields: Keep-Alive goes in any case.
    let says_little = |line: &HeaderValue| {
        line.as_bytes().eq_ignore_ascii_case(b"keep-alive") || line.as_bytes().eq_ignore_ascii_case(b"close")
    };
    let (_, lines) = lines.remove_entry_mult();
    let lines: Vec<HeaderValue> = lines.filter(|line| !says_little(line)).collect();
    for token in lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b',')) {
        let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) else { continue };
        if !KEPT.contains(&name) && !is_claim(&name) {
            map.remove(name);
        }
    }
}

fn is_chunked(map: &HeaderMap) -> bool {
    let mut lines = map.get_all(header::TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    lines.next().is_some_and(|line| line.eq_ignore_ascii_case(b"chunked")) && lines.next().is_none()
}

fn accepts_trailers(map: &HeaderMap) -> bool {
    has_token(map, &header::TE, "trailers")
}

/// Whether Connection names this field, or this option.
pub fn connection_names(map: &HeaderMap, name: &str) -> bool {
    has_token(map, &header::CONNECTION, name)
}

fn has_token(map: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let tokens = map.get_all(name).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    tokens.map(<[u8]>::trim_ascii).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_proves_two_things_is_known() {
        let mut map = HeaderMap::new();
        for proves_twice in [false, true, true] {
            map.append(header::AUTHORIZATION, HeaderValue::from_static("Basic eA=="));
            assert_eq!(Present::of(&map), Present { proves_twice, ..Present::default() });
        }
    }

    #[test]
    fn strips_what_belongs_to_the_connection() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Hop ,authorization"),
            ("connection", "x-other, x-forwarded-for"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("authorization", "kept"),
            ("x-forwarded-for", "kept"),
            ("te", "gzip, trailers"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("x-end", "3"),
        ] {
            map.append(name, HeaderValue::from_static(value));
        }
        let present = Present::of(&map);
        assert!(present.trailers && present.claims && !present.via && !present.expect);
        present.strip_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "x-end", "x-forwarded-for"]);
    }
}
