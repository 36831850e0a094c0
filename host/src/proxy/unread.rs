//! Requests that never became any: the guard or the parser refused them, they did not come in time, or there were too
//! many connections. They are counted and logged as those without a route are, as far as they are known.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode, Uri, Version, uri::PathAndQuery};

use super::error::ProxyError;
use crate::{limiter::Full, snapshot::View, telemetry::access_log::Entry};

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    Malformed,
    TooLarge,
    TooSlow,
    /// The connection was not let in.
    Full(Full),
}

/// The client was answered without a request. `head` is what came of one.
pub fn unread(view: &View, client: IpAddr, why: Unread, head: &[u8], waited: Duration) {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let target = target.filter(|_| version.is_some()).unwrap_or_default();
    let error = match why {
        Unread::Malformed => ProxyError::Refused(StatusCode::BAD_REQUEST, ""),
        Unread::TooSlow => ProxyError::BodyTimedOut,
        Unread::Full(Full::Listener) => ProxyError::Overloaded(Duration::ZERO),
        Unread::Full(Full::Client) => ProxyError::TooManyConnections,
        // The parser counts in 16 bits.
        Unread::TooLarge if target.len() >= usize::from(u16::MAX) => ProxyError::UriTooLong,
        Unread::TooLarge => ProxyError::HeadersTooLarge,
    };
    let answer = error.into_response();
    let method = Method::from_bytes(method.unwrap_or_default()).or_else(|_| Method::from_bytes(b"-"));
    let method = method.unwrap_or_default();
    let (route, status) = (&view.unmatched, answer.status.as_u16());
    route.numbers.begun.add(1);
    route.numbers.ended(&method, status, Some(&answer.code), waited);
    let Some(log) = &view.snapshot.access_log else { return };
    let uri = Uri::try_from(target).unwrap_or_default();
    log.write(Box::new(Entry {
        time: SystemTime::now().checked_sub(waited).unwrap_or(SystemTime::UNIX_EPOCH),
        client,
        method,
        authority: uri.authority().map_or("-", |authority| authority.as_str()).to_owned(),
        target: uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
        version: if version == Some(b"HTTP/1.0\r") { Version::HTTP_10 } else { Version::HTTP_11 },
        status,
        code: Some(answer.code),
        route: route.name.clone(),
        upstream: None,
        endpoint: None,
        attempts: 0,
        duration: waited,
        bytes_in: 0,
        bytes_out: 0,
        user_agent: None,
        referer: None,
        request_id: None,
        consumer: None,
        trace: None,
    }));
}
