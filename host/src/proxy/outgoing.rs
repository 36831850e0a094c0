//! The request as the upstream gets it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Version, header, request, uri::PathAndQuery};
use http_body::Body as _;

use super::{error::ProxyError, forwarded, journey::Journey};
use crate::{
    body::Body, config::HostHeader, grpc, plugin::exchange::State, snapshot::PathRule, upstream::Endpoint,
};

/// A request on its way to whichever endpoint gets it.
pub struct Letter {
    /// In a box: it changes hands often on its way.
    pub request: Box<Request<Body>>,
    pub host: Host,
    /// How long the client of gRPC waits.
    pub patience: Option<Duration>,
}

/// What it takes to send the same head again.
pub fn copy_head(request: &Request<Body>) -> request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head
}

/// What Host may say.
#[derive(Clone)]
pub struct Host {
    /// The authority that the client asked for.
    asked: HeaderValue,
    /// The one that a plugin chose.
    chosen: Option<HeaderValue>,
}

impl Host {
    pub fn write(&self, headers: &mut HeaderMap, upstream: &HostHeader, endpoint: &Endpoint) {
        let host = match (&self.chosen, upstream) {
            (Some(chosen), _) => chosen.clone(),
            (None, HostHeader::Preserve) => self.asked.clone(),
            (None, HostHeader::Upstream) => host_value(&endpoint.authority),
            (None, HostHeader::Literal(name)) => host_value(name),
        };
        headers.insert(header::HOST, host);
    }
}

/// Head by the rules of the route, with the body that is left. The exchange keeps its headers only where a later phase
/// may read them.
pub async fn letter(journey: &Journey, body: Body) -> Result<Letter, ProxyError> {
    let mut exchange = journey.exchange().await;
    let state: &mut State = &mut exchange;
    let rule = journey.route_spec().map_or(&PathRule::Keep, |route| &route.path);
    let target = target(state, rule)
        .ok_or(ProxyError::Refused(http::StatusCode::BAD_REQUEST, "The path cannot be rewritten."))?;
    let asked = asked(state);
    let grpc = state.grpc;
    let head = &mut state.request;
    let chosen = head.send_authority.as_ref().map(|chosen| host_value(chosen.as_str()));
    let (method, version) = (head.method.clone(), head.version);
    let mut headers = match journey.chain().looks_back() {
        true => head.headers.clone(),
        false => std::mem::take(&mut head.headers),
    };
    state.accept = headers.get(header::ACCEPT).cloned();
    let snapshot = journey.snapshot();
    if snapshot.access_log.is_some() || snapshot.tracer.is_some() {
        for name in [header::USER_AGENT, header::REFERER] {
            if let Some(value) = headers.get(&name) {
                head.headers.insert(name, value.clone());
            }
        }
    }

    let forwarding = &snapshot.forwarding;
    forwarded::announce(&mut headers, forwarding, &state.connection, state.scheme(), &asked);
    forwarded::append_via(&mut headers, version, forwarding);
    frame(&mut headers, &method, &body);
    if let Some(protocol) = &journey.upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let patience = grpc.and_then(|_| grpc::timeout(&headers));
    if journey.accepts_trailers.get() {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // Or those who do not know it would pass it on (RFC 9110, section 10.1.4).
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    let mut request = Box::new(Request::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = target.into();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Ok(Letter { request, host: Host { asked, chosen }, patience })
}

/// A body of unknown length is sent in chunks; a length that is no longer true goes.
fn frame(headers: &mut HeaderMap, method: &Method, body: &Body) {
    match body.size_hint().exact() {
        Some(0) => {
            // A method that expects a body says that there is none (RFC 9110, section 8.6).
            match *method {
                Method::POST | Method::PUT | Method::PATCH => {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                _ => _ = headers.remove(header::CONTENT_LENGTH),
            }
        }
        Some(length) => _ = headers.insert(header::CONTENT_LENGTH, length.into()),
        None => {
            headers.remove(header::CONTENT_LENGTH);
            // Said aloud, because the client library sends no body with a GET otherwise.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// The authority that the client asked for: its Host, unless the target named another.
fn asked(state: &State) -> HeaderValue {
    let authority = state.request.authority.as_str();
    match state.request.headers.get(header::HOST) {
        Some(host) if host == authority => host.clone(),
        _ => host_value(authority),
    }
}

/// All of them were parsed as authorities before.
fn host_value(authority: &str) -> HeaderValue {
    HeaderValue::from_str(authority).unwrap_or(HeaderValue::from_static("localhost"))
}

/// The received target, or the one that a plugin has set, by the route's rule.
fn target(state: &State, rule: &PathRule) -> Option<PathAndQuery> {
    let target = state.request.current_target();
    if *rule == PathRule::Keep {
        return Some(target.clone());
    }
    let path = rule.apply(state.request.target.path(), target.path(), |name| state.param(name))?;
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    PathAndQuery::try_from(format!("{path}{query}")).ok()
}
