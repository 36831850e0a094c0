//! Requests that two parsers would read differently. Each is refused with 400, the connection is
//! closed, and no upstream sees a byte of it.

use wasmgate_tests::{Client, TestGateway, TestUpstream};

/// What is wrong, where it is forbidden, and the bytes.
const HEADS: &[(&str, &str)] = &[
    // RFC 9112, section 6.1 and 6.3: framing.
    (
        "both lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both lengths, other order",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    ),
    ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    (
        "the same length twice",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc"),
    ("a length with a plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
    ("a negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc"),
    ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc"),
    ("an empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"),
    ("a length with a space in it", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\nabc"),
    (
        "a length beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na",
    ),
    ("an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked on two lines",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked not last",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked after identity",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    ),
    ("quoted chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    (
        "a vertical tab before chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    ("an empty coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    (
        "chunked with a parameter",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // RFC 9112, section 5: fields.
    ("a folded field", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n"),
    ("a fold before the first field", "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n"),
    ("a space before the colon of a length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc"),
    ("a tab before the colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("a field without colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n"),
    ("a field without name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ("a name that is no token", "GET / HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n"),
    ("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
    ("NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n"),
    ("a control character in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x01c\r\n\r\n"),
    // RFC 9112, section 2.2: line ends.
    ("bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n"),
    ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n"),
    ("bare CR before a field", "GET / HTTP/1.1\r\nHost: a\r\n\rX-A: b\r\n\r\n"),
    ("bare CR in the request line", "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n"),
    // RFC 9112, section 3: the request line.
    ("no version", "GET /\r\nHost: a\r\n\r\n"),
    ("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a fragment in a query", "GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an authority for a target", "GET a.test:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("another protocol", "GET / ICAP/1.0\r\nHost: a\r\n\r\n"),
    ("a method that is no token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    // RFC 9112, section 3.2: Host.
    ("no host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("the same host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("a host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("a host with a bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    ("a host with a port with a sign", "GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n"),
    ("a host with a port that is too large", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    ("an IPv6 address with a bad port", "GET / HTTP/1.1\r\nHost: [::1]:x\r\n\r\n"),
    ("something behind an IPv6 address", "GET / HTTP/1.1\r\nHost: [::1]80\r\n\r\n"),
    ("a host with user information", "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    ("a target with user information", "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two hosts beside an absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("no host beside an absolute target", "GET http://a/ HTTP/1.1\r\nX-A: b\r\n\r\n"),
];

/// What is wrong in a chunked body, RFC 9112, section 7.1. The head may have reached the upstream by then.
const CHUNKS: &[(&str, &str)] = &[
    ("an empty size", "\r\nabc\r\n0\r\n\r\n"),
    ("a size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a plus", "+3\r\nabc\r\n0\r\n\r\n"),
    ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
    ("a space after a size", "3 \r\nabc\r\n0\r\n\r\n"),
    ("a space before a size", " 3\r\nabc\r\n0\r\n\r\n"),
    ("a size that is no number", "zz\r\nabc\r\n0\r\n\r\n"),
    ("a size of 17 digits", "00000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", "1ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("bare LF after a size", "3\nabc\r\n0\r\n\r\n"),
    ("bare CR in a size line", "3;\ra\r\nabc\r\n0\r\n\r\n"),
    ("no line end after a chunk", "3\r\nabc0\r\n\r\n"),
    ("a chunk that is too long", "3\r\nabcd\r\n0\r\n\r\n"),
    ("bare LF after a chunk", "3\r\nabc\n0\r\n\r\n"),
    ("bare LF after the last chunk", "3\r\nabc\r\n0\n\n"),
    ("a folded trailer", "3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
    ("a trailer without colon", "3\r\nabc\r\n0\r\nX-A\r\n\r\n"),
    ("a space before the colon of a trailer", "3\r\nabc\r\n0\r\nX-A : b\r\n\r\n"),
];

/// Every offence is followed by a request that must not be answered.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn heads_with_two_readings_are_refused() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut faults = Vec::new();
    for (what, bytes) in HEADS {
        let mut client = Client::connect(gateway.addr());
        client.try_send(bytes).try_send(SMUGGLED);
        faults.extend(refused(&mut client).map(|fault| format!("{what}: {fault}")));
    }
    let reached: Vec<_> = upstream.requests().iter().map(|request| request.head.start.clone()).collect();
    assert!(faults.is_empty() && reached.is_empty(), "{faults:#?}\nreached the upstream: {reached:#?}");
}

#[test]
fn heads_are_refused_however_they_are_cut() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut faults = Vec::new();
    for (what, bytes) in HEADS.iter().step_by(3) {
        let mut client = Client::connect(gateway.addr());
        for byte in bytes.as_bytes() {
            client.try_send([*byte]);
        }
        client.try_send(SMUGGLED);
        faults.extend(refused(&mut client).map(|fault| format!("{what}: {fault}")));
    }
    assert!(faults.is_empty() && upstream.requests().is_empty(), "{faults:#?}");
}

#[test]
fn chunks_with_two_readings_are_refused() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut faults = Vec::new();
    for (what, chunks) in CHUNKS {
        let mut client = Client::connect(gateway.addr());
        client.try_send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.try_send(chunks).try_send(SMUGGLED);
        faults.extend(refused(&mut client).map(|fault| format!("{what}: {fault}")));
    }
    let whole: Vec<_> = upstream.requests().iter().map(|request| request.head.start.clone()).collect();
    assert!(faults.is_empty() && whole.is_empty(), "{faults:#?}\nreached the upstream whole: {whole:#?}");
}

#[test]
fn a_chunk_extension_has_a_limit() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.try_send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.try_send(format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(5000)));
    assert_eq!(refused(&mut client), None);
    assert!(upstream.requests().is_empty());
}

/// The one answer is 400, and then the connection ends.
fn refused(client: &mut Client) -> Option<String> {
    let response = match client.reader.response("GET") {
        Ok(response) => response,
        Err(error) => return Some(format!("no answer: {error}")),
    };
    if response.status != 400 {
        return Some(response.head.start);
    }
    client.ends().err().map(|fault| format!("400, then {fault}"))
}

#[test]
fn an_offence_after_a_good_request_is_found() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    for first in [
        "GET /good HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\n\r\n\r\n",
        "POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    ] {
        let bad = "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let mut client = Client::connect(gateway.addr());
        client.try_send(format!("{first}{bad}{SMUGGLED}"));
        assert_eq!(client.response().status, 200, "{first:?}");
        assert_eq!(refused(&mut client), None, "{first:?}");
    }
    assert!(upstream.requests().iter().all(|request| request.target() == "/good"));
}

#[test]
fn a_request_in_a_body_is_a_body() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    let length = SMUGGLED.len();
    client.send(format!("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"));
    client.send(format!(
        "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"
    ));
    assert_eq!(client.response().text(), SMUGGLED);
    assert_eq!(client.response().text(), SMUGGLED);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_refused_request_takes_its_body_with_it() {
    // The upstream never sees the request, so its body must not be read as the next one.
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[limits]\nbody = \"10B\"\n");
    let mut client = Client::connect(gateway.addr());
    let length = SMUGGLED.len();
    client.try_send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"));
    assert_eq!(client.response().status, 413);
    client.finish().assert_closed();
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_answer_to_an_unfinished_upload_does_not_poison_the_connection() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
        call.close()
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome");
    assert_eq!(client.response().status, 403);
    client.try_send(SMUGGLED).finish();
    client.assert_closed();
    assert_eq!(upstream.connections(), 1, "the rest of the body was taken for a request");
}

#[test]
fn one_empty_line_before_a_request_is_tolerated() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.send("\r\n").get("/").status, 200);
}

#[test]
fn an_unknown_version_is_answered() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    for version in ["HTTP/2.0", "HTTP/9.9", "HTTP/0.9"] {
        let mut client = Client::connect(gateway.addr());
        client.try_send(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        let status = client.response().status;
        assert!(matches!(status, 400 | 505), "{version}: {status}");
        client.assert_closed();
    }
    assert!(upstream.requests().is_empty());
}
