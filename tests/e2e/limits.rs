//! What clients may send, and how slowly.

use std::time::Instant;

use wasmgate_tests::{Client, Gate, TestGateway, TestUpstream, eventually, request};

#[test]
fn too_many_headers() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[limits]\nheader_count = 10\n");
    let headers = |count: usize| (0..count).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    // Host and Connection are two more.
    assert_eq!(request(gateway.addr(), "GET", "/", &headers(8)).status, 200);
    let response = request(gateway.addr(), "GET", "/", &headers(9));
    assert_eq!((response.status, response.code().as_str()), (431, "headers_too_large"));
    let response = request(gateway.addr(), "GET", "/", &headers(500));
    assert_eq!(response.status, 431, "far beyond the limit too");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn more_headers_can_be_allowed() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nheader_count = 300\n");
    let headers: String = (0..250).map(|n| format!("X-{n}: v\r\n")).collect();
    assert_eq!(request(gateway.addr(), "GET", "/", &headers).status, 200);
}

#[test]
fn too_many_bytes_of_headers() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[limits]\nheader_bytes = \"8KiB\"\n");
    let header = |length: usize| format!("X-Long: {}\r\n", "x".repeat(length));
    assert_eq!(request(gateway.addr(), "GET", "/", &header(7000)).status, 200);
    for length in [9000, 100_000] {
        let mut client = Client::connect(gateway.addr());
        client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", header(length)));
        assert_eq!(client.response().status, 431, "{length}");
        client.assert_closed();
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn too_long_a_target() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[limits]\nuri = \"100B\"\n");
    assert_eq!(gateway.get(&format!("/{}", "x".repeat(99))).status, 200);
    let response = gateway.get(&format!("/{}", "x".repeat(100)));
    assert_eq!((response.status, response.code().as_str()), (414, "uri_too_long"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn too_long_a_body() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(
        &upstream,
        "[[route]]\nname = \"small\"\nmatch = { path = \"/small\" }\nupstream = \"app\"\nlimits = { body = \"4B\" }\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\n",
    );
    let post = |target: &str, rest: &str| {
        let mut client = Client::connect(gateway.addr());
        client.try_send(format!("POST {target} HTTP/1.1\r\nHost: a\r\n{rest}"));
        client.response()
    };
    let (sized, chunked) =
        ("Content-Length: 5\r\n\r\nabcde", "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n");
    for body in [sized, chunked] {
        assert_eq!(post("/other", body).status, 200);
        let response = post("/small", body);
        assert_eq!((response.status, response.code().as_str()), (413, "payload_too_large"), "{body:?}");
    }
    assert_eq!(post("/small", "Content-Length: 4\r\n\r\nabcd").status, 200);
    assert_eq!(post("/small", "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n").status, 200);
}

#[test]
fn a_body_of_any_length_is_not_a_long_head() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    let longest = u128::from(u64::MAX);
    for (length, status) in
        [(longest - 5, 413), (longest - 2, 413), (longest - 1, 400), (longest, 400), (longest + 1, 400)]
    {
        let mut client = Client::connect(gateway.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        assert_eq!(client.response().status, status, "{length}");
    }
}

#[test]
fn a_slow_head_is_408() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nheader_time = \"100ms\"\n");
    for sent in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = Client::connect(gateway.addr());
        client.send(sent);
        assert_eq!(client.response().status, 408, "{sent:?}");
        client.assert_closed();
    }
    // A second request on a connection has the same time.
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.send("GET /").response().status, 408);
}

#[test]
fn a_head_that_trickles_is_408() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nheader_time = \"200ms\"\n");
    let mut client = Client::connect(gateway.addr());
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\n");
    while client.is_silent_for(std::time::Duration::from_millis(20)) {
        client.try_send("X: y\r\n");
        assert!(start.elapsed() < wasmgate_tests::PATIENCE, "it goes on for ever");
    }
    assert_eq!(client.response().status, 408);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nidle_time = \"100ms\"\n");
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.get("/").status, 200);
    client.assert_closed();
}

#[test]
fn a_slow_body_is_408() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "[limits]\nbody_time = \"100ms\"\n");
    for head in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = Client::connect(gateway.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
        let response = client.response();
        assert_eq!((response.status, response.code().as_str()), (408, "request_timeout"), "{head:?}");
        client.finish().assert_closed();
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_slow_client_is_not_a_slow_upstream() {
    let limits = "[limits]\nbody_time = \"300ms\"\n[upstream.app.timeouts]\nread = \"50ms\"\n";
    let gateway = TestGateway::before(&TestUpstream::echo(), limits);
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    let response = client.response();
    assert_eq!((response.status, response.code().as_str()), (408, "request_timeout"));
}

/// (status, code, method, path) in the access log.
#[test]
fn what_never_becomes_a_request_is_told_too() {
    let limits = "[limits]\nheader_time = \"300ms\"\nheader_bytes = \"1MiB\"\nuri = \"65534B\"\n";
    let gateway = TestGateway::before(&TestUpstream::ok(), limits);
    let many: String = (0..500).map(|n| format!("X-{n}: v\r\n")).collect();
    let long = "x".repeat(2 << 20);
    let refused = [
        (
            "GET /folded HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n".to_owned(),
            (400, "bad_request", "GET", "/folded"),
        ),
        (
            "POST http://b.test/two?x HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n".to_owned(),
            (400, "bad_request", "POST", "/two?x"),
        ),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), (400, "bad_request", "-", "/")),
        (format!("GET /many HTTP/1.1\r\n{many}\r\n"), (431, "headers_too_large", "GET", "/many")),
        (format!("PUT /long HTTP/1.1\r\nX: {long}\r\n\r\n"), (431, "headers_too_large", "PUT", "/long")),
        (format!("GET /{} HTTP/1.1\r\n\r\n", &long[..70_000]), (414, "uri_too_long", "GET", "/")),
        ("GET /slow HTTP/1.1\r\nHost".to_owned(), (408, "request_timeout", "GET", "/slow")),
    ];
    for (number, (text, (status, code, method, path))) in refused.iter().enumerate() {
        let mut client = Client::connect(gateway.addr());
        assert_eq!(client.try_send(text).response().status, *status, "{path}");
        drop(client);
        let line = &gateway.access_lines(number + 1)[number];
        assert_eq!((&line["status"], &line["code"]), (&(*status).into(), &(*code).into()), "{line}");
        assert_eq!((&line["method"], &line["path"]), (&(*method).into(), &(*path).into()), "{line}");
        assert_eq!((&line["client"], &line["route"]), (&"127.0.0.1".into(), &"-".into()), "{line}");
    }
    let bad = "wasmgate_requests_total{route=\"-\",status=\"4xx\",reason=\"bad_request\"}";
    eventually!(gateway.metric(bad) == 3.0);
}

#[test]
fn a_slow_upstream_is_not_a_slow_client() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let upstream = TestUpstream::start(move |call| {
        call.body()?;
        waiting.opens_within(std::time::Duration::from_millis(500));
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let short = "[limits]\nbody_time = \"50ms\"\nheader_time = \"50ms\"\nidle_time = \"50ms\"\n";
    let gateway = TestGateway::before(&upstream, short);
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response().status, 200);
}
