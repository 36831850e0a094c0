//! What the gateway adds, drops and rewrites on the way: hop-by-hop fields, Via, X-Forwarded-*,
//! Forwarded (RFC 9110, section 7.6; RFC 7239).

use wasmgate_tests::{Client, TestGateway, TestUpstream, request};

const TRUSTED: &str = "[forwarded]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\nforwarded = true\n";

#[test]
fn the_upstream_gets_exactly_this() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[upstream.app.keep_alive]\nconnections = 0\n");
    let mut client = Client::connect(gateway.addr());
    client
        .send("POST /a/%7Eb?c=d&e HTTP/1.1\r\nHost: a.test:8080\r\nX-One: 1\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response().status, 200);
    let request = upstream.request();
    assert_eq!(request.head.start, "POST /a/%7Eb?c=d&e HTTP/1.1");
    let mut fields = request.head.fields.0.clone();
    fields.sort();
    let expected = [
        ("content-length", "2"),
        ("host", "a.test:8080"),
        ("via", "1.1 wasmgate"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "a.test:8080"),
        ("x-forwarded-proto", "http"),
        ("x-one", "1"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn hop_by_hop_fields_end_here_both_ways() {
    let upstream = TestUpstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nConnection: x-other\r\nX-Hop: 1\r\nX-Other: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-End: 3\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, Upgrade\r\nConnection: HTTP2-Settings,x-other\r\nX-Hop: 1\r\n\
         X-Other: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\n\
         TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-End: 3\r\n\r\n",
    );
    let response = client.response();
    let gone = [
        "x-hop",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "upgrade",
        "http2-settings",
    ];
    let request = upstream.request();
    for name in gone {
        assert_eq!(request.head.fields.all(name), Vec::<&str>::new(), "{name} reached the upstream");
        assert_eq!(response.head.fields.all(name), Vec::<&str>::new(), "{name} reached the client");
    }
    assert_eq!((request.header("x-end"), response.header("x-end")), (Some("3"), Some("3")));
    assert_eq!(request.header("connection"), None);
}

#[test]
fn a_client_cannot_have_end_to_end_fields_removed() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Host, Authorization, Cookie, Cache-Control, X-Forwarded-For, Via\r\n\
         Authorization: Basic eDp5\r\nCookie: a=b\r\nCache-Control: no-store\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let request = upstream.request();
    for name in ["host", "authorization", "cookie", "cache-control", "x-forwarded-for", "via"] {
        assert!(request.header(name).is_some(), "{name} is gone");
    }
}

#[test]
fn via_tells_the_hops_both_ways() {
    let upstream = TestUpstream::answering("HTTP/1.0 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 0\r\n\r\n");
    let gateway = TestGateway::before(&upstream, "[forwarded]\nvia = \"gate\"\n");
    let response = request(gateway.addr(), "GET", "/", "Via: 1.0 outer\r\n");
    let joined = |values: Vec<&str>| values.join(", ");
    assert_eq!(joined(upstream.request().head.fields.all("via")), "1.0 outer, 1.1 gate");
    assert_eq!(joined(response.head.fields.all("via")), "1.1 inner, 1.0 gate");
}

#[test]
fn via_and_x_forwarded_can_be_left_out() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[forwarded]\nvia = \"\"\nx_forwarded = false\n");
    let response = gateway.get("/");
    assert_eq!(response.header("via"), None);
    let request = upstream.request();
    let names: Vec<_> = request.head.fields.0.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert!(!names.iter().any(|name| name == "via" || name.starts_with("x-forwarded")), "{names:?}");
}

const CLAIMS: &str = "X-Forwarded-For: 203.0.113.7, 10.0.0.9\r\nX-Forwarded-Proto: https\r\n\
     X-Forwarded-Host: shop.test\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=203.0.113.7;proto=https\r\n";

#[test]
fn nobody_is_believed_by_default() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    request(gateway.addr(), "GET", "/", CLAIMS);
    let request = upstream.request();
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("a.test"));
    assert_eq!((request.header("x-real-ip"), request.header("forwarded")), (None, None));
    assert_eq!(gateway.access_lines(1)[0]["client"], "127.0.0.1");
}

#[test]
fn the_scheme_of_a_target_is_nobody_s() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    assert_eq!(request(gateway.addr(), "GET", "https://a.test/", "").status, 200);
    assert_eq!(upstream.request().header("x-forwarded-proto"), Some("http"));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, TRUSTED);
    request(gateway.addr(), "GET", "/", CLAIMS);
    let request = upstream.request();
    assert_eq!(request.header("x-forwarded-for"), Some("203.0.113.7, 10.0.0.9, 127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-forwarded-host"), Some("shop.test"));
    let forwarded = "for=203.0.113.7;proto=https, for=127.0.0.1;proto=http;host=\"a.test\"";
    assert_eq!(request.header("forwarded"), Some(forwarded));
    assert_eq!(gateway.access_lines(1)[0]["client"], "203.0.113.7");
}

#[test]
fn the_walk_through_proxies_stops_at_the_first_stranger() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, TRUSTED);
    let chains = [
        ("6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("203.0.113.7, junk, 10.0.0.2", "10.0.0.2"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.3", "10.0.0.3"),
    ];
    for (number, (chain, client)) in chains.iter().enumerate() {
        request(gateway.addr(), "GET", "/", &format!("X-Forwarded-For: {chain}\r\n"));
        assert_eq!(gateway.access_lines(number + 1)[number]["client"], *client, "{chain}");
    }
}

#[test]
fn the_host_is_the_clients_the_endpoints_or_a_given_one() {
    for (host, expected) in [("preserve", "a.test"), ("inner.test", "inner.test"), ("upstream", "")] {
        let upstream = TestUpstream::ok();
        let text = format!(
            "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n\
             host = \"{host}\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n",
            upstream.address()
        );
        TestGateway::start(&text).get("/");
        let address = upstream.address().to_string();
        let expected = if expected.is_empty() { address.as_str() } else { expected };
        assert_eq!(upstream.request().header("host"), Some(expected), "{host}");
    }
}
