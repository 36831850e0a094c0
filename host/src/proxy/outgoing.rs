//! The request as the upstream gets it.

use http::{HeaderMap, HeaderValue, Method, Request, Version, header, uri::PathAndQuery};
use http_body::Body as _;

use super::{error::ProxyError, forwarded, journey::Journey};
use crate::{
    body::Body,
    config::HostHeader,
    plugin::exchange::State,
    snapshot::PathRule,
    upstream::{Spec, connect::Endpoint},
};

/// Head by the rules of route and upstream, with the body that is left. The exchange keeps its
/// headers only where a later phase may read them.
pub async fn request(
    journey: &Journey,
    upstream: &Spec,
    endpoint: &Endpoint,
    body: Body,
) -> Result<Request<Body>, ProxyError> {
    let mut exchange = journey.exchange().await;
    let state: &mut State = &mut exchange;
    let rule = journey.route_spec().map_or(&PathRule::Keep, |route| &route.path);
    let target = target(state, rule)
        .ok_or(ProxyError::Refused(http::StatusCode::BAD_REQUEST, "The path cannot be rewritten."))?;
    let asked = asked(state);
    let host = host(state, upstream, endpoint).unwrap_or_else(|| asked.clone());
    let head = &mut state.request;
    let (method, version) = (head.method.clone(), head.version);
    let mut headers = match journey.chain().looks_back() {
        true => head.headers.clone(),
        false => std::mem::take(&mut head.headers),
    };
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
    headers.insert(header::HOST, host);
    frame(&mut headers, &method, &body);
    if journey.accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }

    state.asked = Some((upstream.name.clone(), endpoint.address.clone()));
    if let Some(trace) = &mut state.trace {
        trace.begin_attempt(&upstream.name, &endpoint.address, &mut headers);
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target.into();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Ok(request)
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

/// What goes into Host in place of that.
fn host(state: &State, upstream: &Spec, endpoint: &Endpoint) -> Option<HeaderValue> {
    match (&state.request.send_authority, &upstream.host) {
        (Some(chosen), _) => Some(host_value(chosen.as_str())),
        (None, HostHeader::Preserve) => None,
        (None, HostHeader::Upstream) => Some(host_value(&endpoint.address)),
        (None, HostHeader::Literal(name)) => Some(host_value(name)),
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
