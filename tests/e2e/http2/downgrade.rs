//! What an upstream of HTTP/1.1 gets of requests that came by HTTP/2, byte by byte, and what comes back.

use wasmgate_tests::{
    TestGateway, TestUpstream, eventually,
    frames::{END_HEADERS, END_STREAM, FrameClient, block, data, frame, get, head, kind, pseudo},
};

use super::code;

const BARE: &str = "[forwarded]\nx_forwarded = false\nvia = \"\"\n";

/// What the upstream gets of these fields, after the pseudo-header fields.
fn sent(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, BARE);
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, END_STREAM, "GET", "/x?y=1", fields));
    assert_eq!(client.answer(1).status, 200, "{fields:?}");
    let request = upstream.request();
    assert_eq!(request.head.start, "GET /x?y=1 HTTP/1.1");
    request.head.fields.0
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_request_has_one_form() {
    assert_eq!(sent(&[]), pairs(&[("host", "a.test")]));
    let fields = [("x-b", "2"), ("x-a", "1"), ("x-b", "3"), ("x-empty", ""), ("x-obs", "\u{e9}")];
    let mut expected = sent(&fields);
    assert_eq!(
        expected.iter().filter(|(name, _)| name == "x-b").map(|(_, value)| &**value).collect::<Vec<_>>(),
        ["2", "3"]
    );
    expected.retain(|(name, _)| name != "x-b");
    let rest = pairs(&[("x-a", "1"), ("x-empty", ""), ("x-obs", "\u{c3}\u{a9}"), ("host", "a.test")]);
    assert!(expected.len() == rest.len() && rest.iter().all(|pair| expected.contains(pair)), "{expected:?}");
}

#[test]
fn cookies_are_on_one_line() {
    let cookies = [("cookie", "a=1"), ("x-a", "b"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
    let got = sent(&cookies);
    let lines: Vec<_> = got.iter().filter(|(name, _)| name == "cookie").collect();
    assert_eq!(lines, [&("cookie".to_owned(), "a=1; b=2; c=3; d=4".to_owned())]);
}

#[test]
fn what_belongs_to_the_connection_stays() {
    let fields =
        [("te", "trailers"), ("http2-settings", "AAMAAABkAAQAAP__"), ("proxy-authorization", "Basic eA==")];
    let mut got = sent(&fields);
    got.retain(|(name, _)| name != "host");
    assert!(got.iter().all(|(name, _)| name == "te" || name == "connection"), "{got:?}");
}

/// Whatever a client says, the scheme is its connection's.
#[test]
fn a_claimed_scheme_is_nobody_s() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    let mut fields = pseudo("GET", "/");
    fields[1].1 = "https";
    client.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, block(fields)));
    assert_eq!(client.answer(1).status, 200);
    assert_eq!(upstream.request().header("x-forwarded-proto"), Some("http"));
}

#[test]
fn one_length_is_told_however_often_it_came() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, BARE);
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, 0, "POST", "/", &[("content-length", "3"), ("content-length", "3")]));
    client.send(data(1, END_STREAM, "abc"));
    let status = client.answer(1).status;
    let requests = upstream.requests();
    match status {
        200 => assert_eq!(
            (requests[0].head.fields.all("content-length"), &requests[0].body[..]),
            (vec!["3"], &b"abc"[..])
        ),
        _ => assert_eq!((status, requests.len()), (400, 0)),
    }
}

#[test]
fn bodies_keep_what_is_known_of_their_length() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, BARE);
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, 0, "POST", "/sized", &[("content-length", "3")])).send(data(1, END_STREAM, "abc"));
    assert_eq!(client.answer(1).text(), "abc");
    client.send(head(3, 0, "POST", "/unsized", &[])).send(data(3, 0, "ab")).send(data(3, END_STREAM, "c"));
    assert_eq!(client.answer(3).text(), "abc");
    client.send(head(5, END_STREAM, "POST", "/empty", &[]));
    client.answer(5);
    client.send(head(7, 0, "POST", "/empty", &[])).send(data(7, END_STREAM, ""));
    client.answer(7);
    client.send(head(9, 0, "POST", "/0", &[("content-length", "0")])).send(data(9, END_STREAM, ""));
    client.answer(9);
    let requests = upstream.requests();
    let framing: Vec<_> = requests
        .iter()
        .map(|request| {
            (request.target(), request.header("content-length"), request.header("transfer-encoding"))
        })
        .collect();
    assert_eq!(
        framing,
        [
            ("/sized", Some("3"), None),
            ("/unsized", None, Some("chunked")),
            ("/empty", Some("0"), None),
            ("/empty", None, Some("chunked")),
            ("/0", Some("0"), None),
        ]
    );
    assert!(requests[..2].iter().all(|request| request.body == b"abc"));
}

#[test]
fn a_smuggled_request_stays_a_body() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "[server]\nworkers = 1\n");
    let mut client = FrameClient::connect(gateway.addr());
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (stream, text) in [(1, smuggled.to_owned()), (3, format!("0\r\n\r\n{smuggled}"))] {
        client.send(head(stream, 0, "POST", "/", &[])).send(data(stream, END_STREAM, &text));
        assert_eq!(client.answer(stream).text(), text);
    }
    // A body that is longer than it was said to be ends with its length.
    client.send(head(5, 0, "POST", "/", &[("content-length", "2")])).send(data(
        5,
        END_STREAM,
        format!("xx{smuggled}"),
    ));
    assert_eq!(client.answer(5).reset, Some(code::PROTOCOL));
    assert_eq!(client.get(7, "/").status, 200);
    assert!(upstream.requests().iter().all(|request| request.target() == "/"));
}

#[test]
fn a_body_that_ends_too_soon_is_not_made_whole() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, 0, "POST", "/", &[("content-length", "5")])).send(data(1, 0, "abc"));
    // What comes to nothing in one breath is never begun.
    eventually!(upstream.connections() == 1);
    client.send(data(1, END_STREAM, ""));
    assert_eq!(client.answer(1).reset, Some(code::PROTOCOL));
    assert_eq!(gateway.access_lines(1)[0]["code"], "client_closed");
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
}

#[test]
fn a_fragment_goes_nowhere() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client.get(1, "/a#/../b");
    let targets: Vec<_> = upstream.requests().iter().map(|request| request.target().to_owned()).collect();
    assert!(targets.is_empty() || targets == ["/a"], "{targets:?}");
}

#[test]
fn targets_are_the_same_as_those_of_http_1() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    for (number, target) in
        ["/a/./b/../c", "//a//b", "/%2e%2e%2fx", "/a?b=/../c", "/%41%2F", "/?", "/a;b=c"].iter().enumerate()
    {
        let before = upstream.count();
        let status = client.get(1 + 2 * number as u32, target).status;
        assert_eq!(gateway.get(target).status, status, "{target}");
        let requests = upstream.requests();
        let same = requests[before..].windows(2).all(|both| both[0].target() == both[1].target());
        assert!(same, "{target}: {:?}", &requests[before..]);
    }
    client.send(head(101, END_STREAM, "OPTIONS", "*", &[]));
    assert_eq!(client.answer(101).status, 200);
    assert_eq!(upstream.requests().last().unwrap().head.start, "OPTIONS * HTTP/1.1");
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = TestUpstream::start(|call| {
        call.body()?;
        call.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client
        .send(head(1, 0, "POST", "/", &[("te", "trailers"), ("trailer", "x-check")]))
        .send(data(1, 0, "hi"));
    client.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, block([("x-check", "5")])));
    let answer = client.answer(1);
    assert_eq!((answer.text().as_str(), answer.trailers.get("x-sum")), ("ok", Some("7")));
    assert_eq!(answer.header("transfer-encoding"), None);
    let request = upstream.request();
    assert_eq!((request.trailers.get("x-check"), request.header("te")), (Some("5"), Some("trailers")));
}

#[test]
fn trailers_that_would_be_headers_do_not_pass() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    let forbidden = ["content-length", "host", "authorization", "cookie", "content-type"];
    client.send(head(1, 0, "POST", "/", &[])).send(data(1, 0, "hi"));
    let fields = forbidden.iter().map(|name| (*name, "7"));
    client.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, block(fields)));
    client.answer(1);
    for request in upstream.requests() {
        assert_eq!(request.header("content-length"), None, "{request:?}");
        assert_eq!(request.header("authorization"), None, "{request:?}");
        assert!(request.trailers.all("content-length").is_empty(), "{request:?}");
        assert!(request.trailers.all("host").is_empty(), "{request:?}");
    }
}

#[test]
fn answers_lose_what_belongs_to_http_1() {
    let upstream = TestUpstream::answering(
        "HTTP/1.1 200 Fine\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
         Upgrade: h2c\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let gateway = TestGateway::before(&upstream, "");
    let answer = FrameClient::connect(gateway.addr()).get(1, "/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    for name in ["connection", "x-hop", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.fields.all("set-cookie"), ["a=1", "b=2"]);
    assert!(answer.header("date").is_some());
}

#[test]
fn trailers_of_answers_have_no_fields_of_http_1() {
    let upstream = TestUpstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nConnection: close\r\nX-Sum: 7\r\n\
         Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n",
    );
    let gateway = TestGateway::before(&upstream, "");
    let answer = FrameClient::connect(gateway.addr())
        .send(head(1, END_STREAM, "GET", "/", &[("te", "trailers")]))
        .answer(1);
    assert_eq!(answer.text(), "ok");
    for name in ["connection", "transfer-encoding", "content-length"] {
        assert!(answer.trailers.all(name).is_empty(), "{:?}", answer.trailers);
    }
}

#[test]
fn an_answer_that_breaks_off_is_reset() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
    ] {
        let upstream = TestUpstream::start(move |call| {
            call.write(answer)?;
            call.close()
        });
        let gateway = TestGateway::before(&upstream, "");
        let mut client = FrameClient::connect(gateway.addr());
        let received = client.get(1, "/");
        assert_eq!((received.status, received.reset, received.ended), (200, Some(code::INTERNAL), false));
        assert!(client.is_alive());
        assert_eq!(gateway.access_lines(1)[0]["code"], "upstream_reset");
    }
}

#[test]
fn the_access_log_tells_the_version() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    let mut client = FrameClient::connect(gateway.addr());
    client.get(1, "/x");
    client.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, 3, block(pseudo("GET", "/y")))).answer(3);
    client.send(get(5, "/z")).answer(5);
    for line in gateway.access_lines(3) {
        assert!(line.to_string().contains("HTTP/2"), "{line}");
    }
}
