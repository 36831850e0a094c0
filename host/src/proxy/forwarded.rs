//! Who the client is behind trusted proxies, and what the upstream is told about it:
//! X-Forwarded-*, Forwarded (RFC 7239), Via (RFC 9110, section 7.6.3).

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, Entry},
};

use super::headers::{
    self, Present, X_FORWARDED_CLIENT_CERT, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use crate::{plugin::exchange::Connection, snapshot::Forwarding};

/// Hops of ourselves after which a request is taken to run in a circle.
const MAX_LOOPS: usize = 10;

/// Finds the client and drops what an untrusted peer claims about it: nobody but a trusted proxy
/// may set these fields.
pub fn client(map: &mut HeaderMap, present: Present, peer: IpAddr, forwarding: &Forwarding) -> IpAddr {
    if !present.claims {
        return peer;
    }
    if !forwarding.trusts(peer) {
        headers::strip_claims(map);
        return peer;
    }
    let told = |map: &HeaderMap, name| {
        let hops = chain(map, name);
        client_place(&hops, forwarding).and_then(|place| hops[place]).unwrap_or(peer)
    };
    if !map.contains_key(X_FORWARDED_FOR) {
        return told(map, header::FORWARDED);
    }
    let client = told(map, X_FORWARDED_FOR);
    // Of two stories the other one may be the client's own.
    if map.contains_key(header::FORWARDED) && told(map, header::FORWARDED) != client {
        map.remove(header::FORWARDED);
    }
    client
}

/// The hops that one of the fields tells of, the first one first; none for an address that cannot be read.
fn chain(map: &HeaderMap, name: HeaderName) -> Vec<Option<IpAddr>> {
    let read = if name == header::FORWARDED { forwarded_for } else { address };
    elements(map, name).map(read).collect()
}

/// The client's: from the right, past trusted addresses; what cannot be read ends the walk at the last good one.
fn client_place(hops: &[Option<IpAddr>], forwarding: &Forwarding) -> Option<usize> {
    let mut client = None;
    for (place, address) in hops.iter().enumerate().rev() {
        let Some(address) = address else { break };
        client = Some(place);
        if !forwarding.trusts(*address) {
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

/// An address with or without port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

/// The `for` parameter of one element of Forwarded.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    address(parameter(element, "for")?)
}

/// A parameter of one element of Forwarded, without quotes.
fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
    Some(value.trim_matches('"'))
}

/// Tells the upstream about the client. `authority` is what the client asked for.
pub fn announce(
    map: &mut HeaderMap,
    forwarding: &Forwarding,
    connection: &Connection,
    scheme: &'static str,
    authority: &HeaderValue,
) {
    if !forwarding.rule.trusted_proxies.is_empty() {
        translate(map, forwarding);
    }
    match connection.tls.as_ref().and_then(|tls| tls.client_header.as_ref()) {
        Some(Some(own)) => _ = map.insert(X_FORWARDED_CLIENT_CERT, own.clone()),
        Some(None) => _ = map.remove(X_FORWARDED_CLIENT_CERT),
        None => {}
    }
    if forwarding.rule.x_forwarded {
        append_to_list(map, X_FORWARDED_FOR, &connection.peer_ip);
        map.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
        map.entry(X_FORWARDED_HOST).or_insert_with(|| authority.clone());
    }
    if forwarding.rule.forwarded {
        let peer = node(Some(connection.peer.ip().to_canonical()));
        let host = authority.to_str().unwrap_or_default();
        let element = HeaderValue::from_str(&format!("for={peer};proto={scheme};host=\"{host}\""));
        if let Ok(element) = element {
            append_to_list(map, header::FORWARDED, &element);
        }
    }
}

/// What a trusted proxy has told in one of the fields only is told in the other as well, where that is sent.
fn translate(map: &mut HeaderMap, forwarding: &Forwarding) {
    let rule = &forwarding.rule;
    match (map.contains_key(X_FORWARDED_FOR), map.contains_key(header::FORWARDED)) {
        (false, true) if rule.x_forwarded => {
            let hops = chain(map, header::FORWARDED);
            let place = client_place(&hops, forwarding);
            let element = place.and_then(|place| elements(map, header::FORWARDED).nth(place));
            let told = |name| HeaderValue::from_str(parameter(element?, name)?).ok();
            let (proto, host) = (told("proto"), told("host"));
            let hops = hops.iter().map(|hop| hop.map_or("unknown".to_owned(), |address| address.to_string()));
            let list = HeaderValue::from_str(&hops.collect::<Vec<_>>().join(", "));
            for (name, value) in
                [(X_FORWARDED_FOR, list.ok()), (X_FORWARDED_PROTO, proto), (X_FORWARDED_HOST, host)]
            {
                if let Some(value) = value {
                    map.entry(name).or_insert(value);
                }
            }
        }
        (true, false) if rule.forwarded => {
            let hops = chain(map, X_FORWARDED_FOR);
            let client = client_place(&hops, forwarding);
            let element = |(place, hop): (usize, &Option<IpAddr>)| match Some(place) == client {
                true => format!("for={}{}", node(*hop), asked_for(map)),
                false => format!("for={}", node(*hop)),
            };
            let list = hops.iter().enumerate().map(element).collect::<Vec<_>>().join(", ");
            if let Ok(list) = HeaderValue::from_str(&list) {
                map.insert(header::FORWARDED, list);
            }
        }
        _ => {}
    }
}

/// An address as Forwarded has it.
fn node(address: Option<IpAddr>) -> String {
    match address {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => format!("\"[{v6}]\""),
    }
}

/// The parameters of Forwarded for what X-Forwarded-Proto and -Host say.
fn asked_for(map: &HeaderMap) -> String {
    let parameter = |parameter: &str, name| {
        let value = map.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let value = value.filter(|value| !value.contains(['"', '\\', ',']));
        value.map_or(String::new(), |value| format!(";{parameter}=\"{value}\""))
    };
    parameter("proto", X_FORWARDED_PROTO) + &parameter("host", X_FORWARDED_HOST)
}

/// Adds our hop. The version is that of the message as it was received.
pub fn append_via(map: &mut HeaderMap, version: Version, forwarding: &Forwarding) {
    if let Some(via) = &forwarding.via {
        let hop = match version {
            Version::HTTP_10 => &via.http_10,
            Version::HTTP_2 => &via.http_2,
            _ => &via.http_11,
        };
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
    match map.entry(&name) {
        Entry::Vacant(entry) => _ = entry.insert(element.clone()),
        Entry::Occupied(entry) => {
            let lines = entry.iter().chain([element]).map(HeaderValue::as_bytes);
            let list = lines.collect::<Vec<_>>().join(&b", "[..]);
            if let Ok(list) = HeaderValue::from_bytes(&list) {
                // The entry's `insert_mult` panics on three lines and more (http 1.5).
                map.insert(name, list);
            }
        }
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
        let parts = ["for", "proto", "host", "port", "prefix", "server", "ssl", "scheme", "method", "uri"];
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
        let first = "for=203.0.113.7;proto=\"https\"";
        assert_eq!(map["forwarded"], format!("{first}, for=10.0.0.1;proto=http;host=\"a.test\""));
    }

    #[test]
    fn both_fields_tell_of_the_same_hops() {
        let address = "10.0.0.1:80".parse().unwrap();
        let connection = Connection::new(address, address, None);
        let announced = |lines: &[(&'static str, &str)]| {
            let (_, mut map) = client_of("10.0.0.1", lines);
            announce(&mut map, &forwarding(), &connection, "http", &HeaderValue::from_static("own.test"));
            map
        };
        let map = announced(&[("forwarded", "for=8.8.8.8;proto=https;host=foo, for=\"[2001:db8::1]:80\"")]);
        assert_eq!(map["x-forwarded-for"], "8.8.8.8, 2001:db8::1, 10.0.0.1");
        assert!(map["x-forwarded-proto"] == "http" && map["x-forwarded-host"] == "own.test");

        let told = "for=_hidden, for=8.8.8.8;proto=https;host=foo, for=10.0.0.2;proto=ftp";
        let map = announced(&[("forwarded", told)]);
        assert_eq!(map["x-forwarded-for"], "unknown, 8.8.8.8, 10.0.0.2, 10.0.0.1");
        assert!(map["x-forwarded-proto"] == "https" && map["x-forwarded-host"] == "foo");
        assert_eq!(map["forwarded"], format!("{told}, for=10.0.0.1;proto=http;host=\"own.test\""));

        let map = announced(&[("x-forwarded-for", "junk, 2001:db8::1"), ("x-forwarded-host", "foo")]);
        let own = "for=10.0.0.1;proto=http;host=\"own.test\"";
        assert_eq!(map["forwarded"], format!("for=unknown, for=\"[2001:db8::1]\";host=\"foo\", {own}"));

        let map = announced(&[("x-forwarded-for", "8.8.8.8"), ("forwarded", "for=9.9.9.9")]);
        assert_eq!(map["forwarded"], format!("for=8.8.8.8, {own}"));
    }

    #[test]
    fn lines_of_a_list_become_one() {
        let (mut map, name) = (HeaderMap::new(), X_FORWARDED_FOR);
        for (number, expected) in ["x", "x, x", "x, a0, x", "x, a0, a1, x"].into_iter().enumerate() {
            map.clear();
            if number > 0 {
                map.append(&name, HeaderValue::from_static("x"));
            }
            (1..number).for_each(|line| {
                _ = map.append(&name, HeaderValue::try_from(format!("a{}", line - 1)).unwrap());
            });
            append_to_list(&mut map, name.clone(), &HeaderValue::from_static("x"));
            assert_eq!(map.get_all(&name).iter().collect::<Vec<_>>(), [expected]);
        }
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
