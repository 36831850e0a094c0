//! What a request must be to be let in: one meaning, within the limits, with a route.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri, Version,
    header::{self, Entry},
    request,
    uri::{Authority, PathAndQuery},
};

use super::{error::ProxyError, forwarded, headers::Present, target};
use crate::{
    plugin::exchange::{Connection, Params, RequestHead, State},
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
        present.strip_hop_by_hop(&mut map);
        if head.version == Version::HTTP_2 {
            as_one_form(&mut map, &authority);
        }

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
        Admission { state, route, refused, accepts_trailers: present.trailers }
    }
}

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
    if uri.authority().is_some() && uri.scheme().is_none() {
        return Err(bad("The target is neither a path nor a URL."));
    }
    let authority = read_authority(uri, version, map)?;
    let target = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    if uri.path() == "*" {
        return match *method == Method::OPTIONS {
            true => Ok((authority, target)),
            false => Err(bad("The target * is for OPTIONS only.")),
        };
    }
    let path = target::normalise(target.path()).ok_or(bad("The path is malformed."))?;
    if *path == *target.path() {
        return Ok((authority, target));
    }
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = PathAndQuery::try_from(format!("{path}{query}"));
    Ok((authority, target.map_err(|_| bad("The path is malformed."))?))
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
    if let (Version::HTTP_2, Some(host), Some(authority)) = (version, &host, uri.authority())
        && host != authority
    {
        return Err(bad("The Host is another one than the authority."));
    }
    let authority = uri.authority().cloned().or(host);
    let authority = authority.unwrap_or(Authority::from_static("localhost"));
    if authority.as_str().contains('@') {
        return Err(bad("The authority has user information."));
    }
    match has_good_port(authority.as_str()) {
        true => Ok(authority),
        false => Err(bad("The port is malformed.")),
    }
}

/// Whether a port is there that can be one, an empty one, or none (RFC 3986, section 3.2.3).
fn has_good_port(authority: &str) -> bool {
    let bytes = authority.as_bytes();
    // An IPv6 address has colons within its brackets.
    match bytes.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if bytes[at] == b':' => {
            let port = &authority[at + 1..];
            port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
        }
        Some(end) => end + 1 == bytes.len(),
        None => true,
    }
}

fn within_limits(map: &HeaderMap, uri: &Uri, snapshot: &Snapshot) -> Option<ProxyError> {
    let limits = &snapshot.limits;
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > limits.uri {
        return Some(ProxyError::UriTooLong);
    }
    (map.len() > limits.header_count).then_some(ProxyError::HeadersTooLarge)
}

/// 100-continue is met by reading the body; nothing else can be (RFC 9110, section 10.1.1).
fn expectation(map: &HeaderMap) -> Option<ProxyError> {
    let unknown = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    map.get_all(header::EXPECT).iter().any(unknown).then_some(ProxyError::Expectation)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_digits_or_nothing() {
        for good in ["a", "a:", "a:0", "a:65535", "127.0.0.1:80", "[::1]", "[::1]:", "[::1]:80"] {
            assert!(has_good_port(good), "{good}");
        }
        for bad in ["a:b", "a:+80", "a:65536", "a:8 ", "[::1]x", "[::1]:x", "[::1]80"] {
            assert!(!has_good_port(bad), "{bad}");
        }
    }
}
