//! What a request must be to be let in: one meaning, within the limits, with a route.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version,
    header::{self, Entry},
    request,
    uri::{Authority, PathAndQuery},
};

pub use super::target::read_target;
use super::{error::ProxyError, forwarded, headers::Present, tunnel};
use crate::{
    plugin::exchange::{Connection, Params, RequestHead, State, Tls},
    router::Query,
    snapshot::Snapshot,
};

/// A request with its route, or the reason why it is refused. Refused ones are logged as well.
pub struct Admission {
    pub state: Box<State>,
    /// Place of the route in the snapshot.
    pub route: Option<usize>,
    pub refused: Option<ProxyError>,
    pub accepts_trailers: bool,
    /// What it asks to go on in, and the route allows.
    pub upgrade: Option<HeaderValue>,
}

impl Admission {
    pub fn check(
        head: request::Parts,
        snapshot: &Snapshot,
        connection: &Arc<Connection>,
        door: u32,
    ) -> Admission {
        let mut map = head.headers;
        let present = Present::of(&map);
        let target = read_target(&head.method, &head.uri, head.version, &map);
        let mut refused = target.as_ref().err().map(|&(status, detail)| ProxyError::Refused(status, detail));
        let (authority, target) =
            target.unwrap_or_else(|_| (Authority::from_static("-"), PathAndQuery::from_static("/")));
        refused = refused.or_else(|| within_limits(&map, &head.uri, snapshot));
        if let Some(tls) = &connection.tls
            && is_misdirected(&authority, tls, snapshot, door)
        {
            refused = refused.or(Some(ProxyError::Misdirected));
        }
        if present.proves_twice {
            refused = refused.or(Some(ProxyError::Refused(
                StatusCode::BAD_REQUEST,
                "The request has more than one Authorization.",
            )));
        }
        if head.method == Method::OPTIONS {
            refused = refused.or_else(|| count_forward(&mut map));
        }
        if head.version == Version::HTTP_2 && map.values().any(has_blank_ends) {
            refused =
                Some(ProxyError::Refused(StatusCode::BAD_REQUEST, "A field has space around its value."));
        }
        if present.expect {
            refused = refused.or_else(|| expectation(&map));
            map.remove(header::EXPECT);
        }
        if present.via && forwarded::runs_in_a_circle(&map, &snapshot.forwarding) {
            refused = Some(ProxyError::Loop);
        }
        let client_ip = forwarded::client(&mut map, present, connection.peer.ip(), &snapshot.forwarding);
        let upgrade = match (head.extensions.get::<tunnel::Protocol>(), present.upgrade) {
            (Some(tunnel::Protocol(protocol)), _) => Some(protocol.clone()),
            (None, true) => tunnel::wanted(&map, head.version),
            (None, false) => None,
        };
        present.strip_hop_by_hop(&mut map);
        if head.version == Version::HTTP_2 {
            as_one_form(&mut map, &authority);
        }
        let connects = upgrade.is_some() && head.version == Version::HTTP_2;

        let head = RequestHead {
            method: head.method,
            version: head.version,
            authority,
            target,
            headers: map,
            send_authority: None,
            send_target: None,
        };
        let mut state = Box::new(State::new(head, connection.clone(), client_ip));
        state.grpc = present.grpc;
        if let (None, Some(limiter)) = (&refused, snapshot.limiter(door)) {
            refused = limiter.request(client_ip, state.begun.into_std()).err().map(ProxyError::from);
        }
        let route = refused.is_none().then(|| find_route(snapshot, door, &mut state)).flatten();
        if route.is_none() && refused.is_none() {
            refused = Some(ProxyError::NoRoute);
        }
        if route.is_some_and(|place| snapshot.routes[place].disabled) {
            refused = Some(ProxyError::RouteDisabled);
        }
        let limit = route.map(|place| snapshot.routes[place].body_limit);
        if refused.is_none() && too_long(&state.request.headers, limit) {
            refused = Some(ProxyError::BodyTooLarge);
        }
        let upgrade = upgrade.filter(|protocol| {
            let allowed = route.map_or(&[][..], |place| &snapshot.routes[place].upgrades);
            allowed.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
        });
        if refused.is_none() && connects && upgrade.is_none() {
            // A request that asks for nothing else: RFC 8441 has no answer of its own for it; RFC 9220 has this one.
            refused =
                Some(ProxyError::Refused(StatusCode::NOT_IMPLEMENTED, "This protocol is not spoken here."));
        }
        Admission { state, route, refused, accepts_trailers: present.trailers, upgrade }
    }
}

/// What plugins and upstreams need not know of HTTP/2: cookies are on one line (RFC 9113, section 8.2.3), and there is a Host.
fn as_one_form(map: &mut HeaderMap, authority: &Authority) {
    let mut lines = map.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    if let (Some(first), Some(second)) = (lines.next(), lines.next()) {
        let all = [first, second].into_iter().chain(lines).collect::<Vec<_>>().join(&b"; "[..]);
        if let Ok(all) = HeaderValue::from_bytes(&all) {
            // An entry's `insert_mult` panics on three values and more (http 1.5).
            map.insert(header::COOKIE, all);
        }
    }
    if let Entry::Vacant(host) = map.entry(header::HOST)
        && let Ok(authority) = HeaderValue::from_str(authority.as_str())
    {
        host.insert(authority);
    }
}

/// HTTP/1.1 has no such values, and HTTP/2 must not (RFC 9113, section 8.2.1).
fn has_blank_ends(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    [bytes.first(), bytes.last()].into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t'))
}

fn within_limits(map: &HeaderMap, uri: &Uri, snapshot: &Snapshot) -> Option<ProxyError> {
    let limits = &snapshot.limits;
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > limits.uri {
        return Some(ProxyError::UriTooLong);
    }
    (map.len() > limits.header_count).then_some(ProxyError::HeadersTooLarge)
}

/// Whether the connection was shown a certificate without this host, which another one of the listener has (RFC 9110,
/// section 15.5.20). A client that asked for no name did not choose.
fn is_misdirected(authority: &Authority, tls: &Tls, snapshot: &Snapshot, door: u32) -> bool {
    let (host, Some(name)) = (authority.host(), tls.sni.as_deref()) else { return false };
    if name.eq_ignore_ascii_case(host) {
        return false;
    }
    snapshot.entrance(door).is_some_and(|entrance| entrance.misdirects(name, host))
}

/// 100-continue is met by reading the body; nothing else can be (RFC 9110, section 10.1.1).
fn expectation(map: &HeaderMap) -> Option<ProxyError> {
    let unknown = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    map.get_all(header::EXPECT).iter().any(unknown).then_some(ProxyError::Expectation)
}

/// OPTIONS goes over so many proxies only, and the last one answers (RFC 9110, section 7.6.2).
fn count_forward(map: &mut HeaderMap) -> Option<ProxyError> {
    let left = map.get(header::MAX_FORWARDS)?.to_str().ok()?.parse::<u64>().ok()?;
    match left.checked_sub(1) {
        Some(left) => {
            map.insert(header::MAX_FORWARDS, left.into());
            None
        }
        None => Some(ProxyError::LastForward),
    }
}

fn too_long(map: &HeaderMap, limit: Option<u64>) -> bool {
    let length = map.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok());
    length.zip(limit).is_some_and(|(length, limit)| length > limit)
}

/// The route of the request, whose parameters it gets.
pub fn find_route(snapshot: &Snapshot, door: u32, state: &mut State) -> Option<usize> {
    let request = &state.request;
    let path = request.target.path();
    let found = snapshot.table.find(&Query {
        listener: snapshot.listener(door),
        method: &request.method,
        host: request.authority.as_str(),
        path,
        query: request.target.query(),
        headers: &request.headers,
    })?;
    let range = |value: &str| {
        let start = value.as_ptr().addr() - path.as_ptr().addr();
        start..start + value.len()
    };
    let params = found.params.iter().map(|(name, value)| (name.into(), range(value)));
    state.params = Params(params.collect());
    let route = &snapshot.routes[found.rule];
    (state.route, state.route_upstream) = (route.name.clone(), route.upstream.clone());
    Some(found.rule)
}
