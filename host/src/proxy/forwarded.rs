//! Who the client is behind trusted proxies, and what the upstream is told about it:
//! X-Forwarded-*, Forwarded (RFC 7239), Via (RFC 9110, section 7.6.3).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use ipnet::IpNet;

use super::headers::{self, Present, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::{plugin::exchange::Connection, snapshot::Forwarding};

/// Hops of ourselves after which a request is taken to run in a circle.
const MAX_LOOPS: usize = 10;

/// Finds the client and drops what an untrusted peer claims about it: nobody but a trusted proxy
/// may set these fields.
pub fn client(map: &mut HeaderMap, present: Present, peer: IpAddr, forwarding: &Forwarding) -> IpAddr {
    let trusted = &forwarding.rule.trusted_proxies;
    if !present.claims {
        return peer;
    }
    if !is_trusted(trusted, peer) {
        headers::strip_claims(map);
        return peer;
    }
    match map.contains_key(X_FORWARDED_FOR) {
        true => walk(peer, trusted, elements(map, X_FORWARDED_FOR), address),
        false => walk(peer, trusted, elements(map, header::FORWARDED), forwarded_for),
    }
}

/// From the right, past trusted addresses; what cannot be read ends the walk at the last good one.
fn walk<'a>(
    peer: IpAddr,
    trusted: &[IpNet],
    elements: impl DoubleEndedIterator<Item = &'a str>,
    read: fn(&str) -> Option<IpAddr>,
) -> IpAddr {
    let mut client = peer;
    for element in elements.rev() {
        let Some(address) = read(element) else { break };
        client = address;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    client
}

/// All members of a list field, of all its lines. A line that is not text ends the list.
fn elements(map: &HeaderMap, name: HeaderName) -> impl DoubleEndedIterator<Item = &str> {
    let lines = map.get_all(name).into_iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    lines.into_iter().flat_map(|line| line.split(',').map(str::trim).collect::<Vec<_>>())
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// An address with or without port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

/// The `for` parameter of one element of Forwarded.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(value)
}

/// Tells the upstream about the client. `authority` is what the client asked for.
pub fn announce(
    map: &mut HeaderMap,
    forwarding: &Forwarding,
    connection: &Connection,
    scheme: &'static str,
    authority: &HeaderValue,
) {
    if forwarding.rule.x_forwarded {
        append_to_list(map, X_FORWARDED_FOR, &connection.peer_ip);
        map.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
        map.entry(X_FORWARDED_HOST).or_insert_with(|| authority.clone());
    }
    if forwarding.rule.forwarded {
        let peer = match connection.peer.ip().to_canonical() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        let host = authority.to_str().unwrap_or_default();
        let element = HeaderValue::from_str(&format!("for={peer};proto={scheme};host=\"{host}\""));
        if let Ok(element) = element {
            append_to_list(map, header::FORWARDED, &element);
        }
    }
}

/// Adds our hop. The version is that of the message as it was received.
pub fn append_via(map: &mut HeaderMap, version: Version, forwarding: &Forwarding) {
    if let Some([http_10, http_11]) = &forwarding.via {
        let hop = if version == Version::HTTP_10 { http_10 } else { http_11 };
        map.append(header::VIA, hop.clone());
    }
}

/// Whether the request has come through here too often.
pub fn runs_in_a_circle(map: &HeaderMap, forwarding: &Forwarding) -> bool {
    let Some(pseudonym) = forwarding.rule.via.as_deref() else { return false };
    let hops = elements(map, header::VIA);
    let ours = hops.filter(|hop| hop.split_ascii_whitespace().nth(1) == Some(pseudonym));
    ours.count() >= MAX_LOOPS
}

/// All lines of a list field as one, with one more element.
fn append_to_list(map: &mut HeaderMap, name: HeaderName, element: &HeaderValue) {
    let mut lines = map.get_all(&name).iter().map(HeaderValue::as_bytes).peekable();
    if lines.peek().is_none() {
        map.insert(name, element.clone());
        return;
    }
    let list = lines.chain([element.as_bytes()]).collect::<Vec<_>>().join(&b", "[..]);
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        map.insert(name, list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Forwarded;

    fn forwarding() -> Forwarding {
        Forwarding::new(Forwarded {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            x_forwarded: true,
            forwarded: true,
            via: Some("gw".to_owned()),
        })
    }

    fn client_of(peer: &str, lines: &[(&'static str, &str)]) -> (String, HeaderMap) {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let present = Present::of(&map);
        let ip = client(&mut map, present, peer.parse().unwrap(), &forwarding());
        (ip.to_string(), map)
    }

    #[test]
    fn an_untrusted_peer_is_the_client_and_its_claims_go() {
        let claims = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2"), ("x-real-ip", "3.3.3.3")];
        let (ip, map) = client_of("192.0.2.1", &claims);
        assert_eq!(ip, "192.0.2.1");
        assert!(map.is_empty());
    }

    #[test]
    fn no_claim_of_an_untrusted_peer_passes_under_any_name() {
        let parts = ["for", "proto", "host", "port", "prefix", "server", "ssl", "scheme"];
        let claims = parts.map(|part| format!("x-forwarded-{part}"));
        for name in claims.iter().map(String::as_str).chain(["x-real-ip", "forwarded"]) {
            for name in [name.to_owned(), name.replace('-', "_"), name.replacen('-', "_", 1)] {
                let mut map = HeaderMap::new();
                map.insert(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_static("1.1.1.1"),
                );
                let present = Present::of(&map);
                client(&mut map, present, "192.0.2.1".parse().unwrap(), &forwarding());
                assert!(map.is_empty(), "{name}");
            }
        }
        let (_, map) = client_of("192.0.2.1", &[("x-forwarded-tlsversion", "1"), ("x_real-ipx", "1")]);
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn behind_trusted_proxies() {
        let xff = |value| client_of("10.0.0.1", &[("x-forwarded-for", value)]).0;
        assert_eq!(xff("203.0.113.7"), "203.0.113.7");
        assert_eq!(xff("6.6.6.6, 203.0.113.7, 10.0.0.2"), "203.0.113.7");
        assert_eq!(xff("10.0.0.3, 10.0.0.2"), "10.0.0.3");
        assert_eq!(xff("203.0.113.7, junk, 10.0.0.2"), "10.0.0.2");
        assert_eq!(xff("203.0.113.7:4711"), "203.0.113.7");
        assert_eq!(xff("[2001:db8::1]:4711"), "2001:db8::1");
        let forwarded = |value| client_of("10.0.0.1", &[("forwarded", value)]).0;
        assert_eq!(forwarded("for=\"[2001:db8::1]:80\";proto=https, For=10.0.0.2"), "2001:db8::1");
        assert_eq!(forwarded("for=unknown"), "10.0.0.1");
        let lines = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(client_of("10.0.0.1", &lines).0, "203.0.113.7");
    }

    #[test]
    fn announces() {
        let (_, mut map) =
            client_of("10.0.0.1", &[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")]);
        let address = "10.0.0.1:80".parse().unwrap();
        let connection = Connection::new(address, address, None);
        announce(&mut map, &forwarding(), &connection, "http", &HeaderValue::from_static("a.test"));
        assert_eq!(map["x-forwarded-for"], "203.0.113.7, 10.0.0.1");
        assert_eq!(map["x-forwarded-proto"], "https");
        assert_eq!(map["x-forwarded-host"], "a.test");
        assert_eq!(map["forwarded"], "for=10.0.0.1;proto=http;host=\"a.test\"");
    }

    #[test]
    fn via_and_circles() {
        let mut map = HeaderMap::new();
        for _ in 0..MAX_LOOPS {
            assert!(!runs_in_a_circle(&map, &forwarding()));
            append_via(&mut map, Version::HTTP_11, &forwarding());
        }
        assert!(runs_in_a_circle(&map, &forwarding()));
        assert_eq!(map["via"], "1.1 gw");
    }
}
