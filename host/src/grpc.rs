//! What the gateway knows of gRPC (PROTOCOL-HTTP2.md of gRPC): which messages belong to it, how long they may take, and how
//! errors are told. Pure.

use std::{fmt::Write as _, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

pub const DEADLINE_EXCEEDED: u32 = 4;
pub const RESOURCE_EXHAUSTED: u32 = 8;
pub const UNAVAILABLE: u32 = 14;

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Grpc,
    /// As browsers do it (PROTOCOL-WEB.md), who read errors like anybody else.
    Web,
    WebText,
}

impl Kind {
    /// That of a call with this head; none where it is that of something else.
    pub fn of(map: &HeaderMap) -> Option<Kind> {
        let rest = map.get(header::CONTENT_TYPE)?.as_bytes().strip_prefix(b"application/grpc")?;
        let (kind, rest) = match rest.strip_prefix(b"-web") {
            None => (Kind::Grpc, rest),
            Some(rest) => rest.strip_prefix(b"-text").map_or((Kind::Web, rest), |rest| (Kind::WebText, rest)),
        };
        matches!(rest.first(), None | Some(b'+' | b';')).then_some(kind)
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Kind::Grpc => "application/grpc",
            Kind::Web => "application/grpc-web",
            Kind::WebText => "application/grpc-web-text",
        })
    }
}

/// How long the client waits; none where it does not say, or nothing that has a meaning.
pub fn timeout(map: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = map.get(TIMEOUT)?.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// As gRPC maps statuses of HTTP (http-grpc-status-mapping.md).
pub fn of_http(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => 2,
    }
}

/// Makes the head of an answer one that has no body and tells how the call ended ("Trailers-Only"). Its status is 200.
pub fn end(headers: &mut HeaderMap, kind: Kind, status: u32, message: &[u8]) {
    headers.insert(header::CONTENT_TYPE, kind.media_type());
    headers.insert(STATUS, status.into());
    if !message.is_empty()
        && let Ok(message) = HeaderValue::from_str(&percent_encoded(message))
    {
        headers.insert(MESSAGE, message);
    }
}

/// Printable ASCII stays as it is.
fn percent_encoded(message: &[u8]) -> String {
    let mut text = String::with_capacity(message.len());
    for &byte in message {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(byte.into()),
            // Writing to a string does not fail.
            _ => _ = write!(text, "%{byte:02X}"),
        }
    }
    text
}

/// A message behind its length, and the flag for no compression.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_kinds() {
        for (text, kind) in [
            ("application/grpc", Some(Kind::Grpc)),
            ("application/grpc+proto", Some(Kind::Grpc)),
            ("application/grpc;a=b", Some(Kind::Grpc)),
            ("application/grpc-web", Some(Kind::Web)),
            ("application/grpc-web+proto", Some(Kind::Web)),
            ("application/grpc-web-text+proto", Some(Kind::WebText)),
            ("application/grpc-website", None),
            ("application/grpcs", None),
            ("text/plain", None),
        ] {
            let map = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))]);
            assert_eq!(Kind::of(&map), kind, "{text}");
        }
        assert_eq!(Kind::of(&HeaderMap::new()), None);
    }

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("20m", Some(Duration::from_millis(20))),
            ("0u", Some(Duration::ZERO)),
            ("5n", Some(Duration::from_nanos(5))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("+1S", None),
            ("1s", None),
        ] {
            let map = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]);
            assert_eq!(timeout(&map), expected, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn an_end_has_a_message_that_any_client_reads() {
        let mut map = HeaderMap::new();
        end(&mut map, Kind::Grpc, 14, "no \u{fc}pstream, 100%\n".as_bytes());
        assert_eq!(map[STATUS], "14");
        assert_eq!(map[MESSAGE], "no %C3%BCpstream, 100%25%0A");
    }
}
