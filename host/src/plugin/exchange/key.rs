//! What requests have in common that are to be treated alike.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header};

use super::State;
use crate::{config::Key, router};

impl State {
    /// None where the request has no such thing.
    pub fn key(&self, key: &Key) -> Option<Cow<'_, [u8]>> {
        self.key_with(&self.request.headers, key)
    }

    /// The same where the request's headers are elsewhere.
    pub fn key_with<'a>(&'a self, headers: &'a HeaderMap, key: &Key) -> Option<Cow<'a, [u8]>> {
        match key {
            Key::Ip => Some(Cow::Owned(self.client_ip.to_string().into_bytes())),
            Key::Header(name) => headers.get(name).map(|value| Cow::Borrowed(HeaderValue::as_bytes(value))),
            Key::Cookie(name) => cookie(headers, name).map(Cow::Borrowed),
            Key::Query(name) => router::query_value(self.request.target.query()?, name),
            Key::Path => Some(Cow::Borrowed(self.request.target.path().as_bytes())),
            Key::Consumer => self.var("consumer").map(Cow::Borrowed),
        }
    }
}

/// The first cookie of this name (RFC 6265, section 5.4).
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes())?;
        Some(rest.strip_prefix(b"=")?.trim_ascii_end())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, Version, uri::PathAndQuery};

    use super::*;
    use crate::plugin::exchange::{Connection, RequestHead};

    fn state(target: &'static str, headers: &[(&'static str, &'static str)]) -> State {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let head = RequestHead {
            method: Method::GET,
            version: Version::HTTP_11,
            authority: "a".parse().unwrap(),
            target: PathAndQuery::from_static(target),
            headers: HeaderMap::from_iter(headers),
            send_authority: None,
            send_target: None,
        };
        let peer = "10.0.0.1:5".parse().unwrap();
        State::new(head, Arc::new(Connection::new(peer, peer, None)), peer.ip())
    }

    #[test]
    fn every_kind_of_key_is_found() {
        let mut state = state("/a/b?x=1&y=%41", &[("x-user", "eve"), ("cookie", "ab=1; a=2 ;a=3; b")]);
        state.put_var("consumer".to_owned(), b"acme".to_vec()).unwrap();
        for (key, expected) in [
            (Key::Ip, Some("10.0.0.1")),
            (Key::Header(http::HeaderName::from_static("x-user")), Some("eve")),
            (Key::Header(http::HeaderName::from_static("x-other")), None),
            (Key::Cookie("a".to_owned()), Some("2")),
            (Key::Cookie("ab".to_owned()), Some("1")),
            (Key::Cookie("b".to_owned()), None),
            (Key::Query("y".to_owned()), Some("A")),
            (Key::Query("z".to_owned()), None),
            (Key::Path, Some("/a/b")),
            (Key::Consumer, Some("acme")),
        ] {
            assert_eq!(state.key(&key).as_deref(), expected.map(str::as_bytes), "{key:?}");
        }
    }
}
