//! Messages between client and upstream: what must pass unchanged, and what becomes of them when
//! either side breaks off (RFC 9110, RFC 9112).

use std::{
    io,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use wasmgate_tests::{Call, Client, Gate, TestGateway, TestUpstream, eventually, fill, request};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_connection_is_kept_on_both_sides() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[server]\nworkers = 1\n");
    let mut client = Client::connect(gateway.addr());
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (5, 1));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
         GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    for (target, body) in [("/1", ""), ("/2", "abc"), ("/3", "de"), ("/4", "")] {
        let response = client.response();
        assert_eq!((response.header("x-target"), response.text().as_str()), (Some(target), body));
    }
    client.assert_closed();
}

#[test]
fn head_has_the_length_of_get_and_no_body() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n")
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    for _ in 0..2 {
        client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response_to("HEAD");
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-length"), Some("1000"));
        assert_eq!(response.header("etag"), Some("\"x\""));
    }
    assert_eq!(upstream.requests()[0].head.start, "HEAD /x HTTP/1.1");
    assert_eq!(upstream.connections(), 1, "no body is waited for");
}

#[test]
fn an_error_to_head_has_no_body_either() {
    let gateway = TestGateway::before(&TestUpstream::ok(), NOWHERE);
    let mut client = Client::connect(gateway.addr());
    client.send("HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response_to("HEAD");
    assert_eq!(response.status, 404);
    assert!(response.header("content-length").is_some_and(|length| length != "0"));
    assert_eq!(client.get("/none").status, 404, "the connection goes on");
}

const NOWHERE: &str = "[[route]]\nname = \"one\"\nmatch = { path = \"/one\" }\nupstream = \"app\"\n";

#[test]
fn answers_without_body_have_none() {
    for status in ["204 No Content", "304 Not Modified"] {
        let upstream = TestUpstream::answering(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n"));
        let gateway = TestGateway::before(&upstream, "");
        let mut client = Client::connect(gateway.addr());
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!(response.head.start, format!("HTTP/1.1 {status}"));
            assert_eq!(response.header("etag"), Some("\"x\""));
            assert_eq!(response.header("transfer-encoding"), None);
            assert!(status.starts_with("304") || response.header("content-length").is_none());
        }
    }
}

#[test]
fn bodies_keep_their_framing_both_ways() {
    let upstream = TestUpstream::start(|call| {
        call.body()?;
        match call.head.start.contains("/chunked") {
            true => call.write(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            ),
            false => call.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"),
        }
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    let sized = "POST /sized HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let response = client.send(sized).response();
    assert_eq!((response.header("content-length"), response.text().as_str()), (Some("5"), "abcde"));
    let chunked =
        "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n4;a=b\r\nbody\r\n0\r\n\r\n";
    let response = client.send(chunked).response();
    assert_eq!((response.header("transfer-encoding"), response.text().as_str()), (Some("chunked"), "abcde"));

    let requests = upstream.requests();
    assert_eq!(requests[0].header("content-length"), Some("4"));
    assert_eq!(requests[1].header("transfer-encoding"), Some("chunked"));
    assert!(requests.iter().all(|request| request.body == b"body"));
}

#[test]
fn a_body_until_the_end_of_the_connection_becomes_chunked() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nuntil the end")?;
        call.close()
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        assert_eq!(response.text(), "until the end");
    }
}

#[test]
fn large_bodies_are_streamed_not_kept() {
    const SIZE: usize = 50_000_000;
    let upstream = TestUpstream::start(|call| {
        // Piece by piece, so that the gateway never has to wait with more than a piece.
        let chunked = call.head.fields.get("transfer-encoding").is_some();
        let body = call.body()?.body.clone();
        let head = match chunked {
            true => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            false => format!("Content-Length: {SIZE}\r\n\r\n"),
        };
        call.write(format!("HTTP/1.1 200 OK\r\n{head}"))?;
        if chunked {
            call.write(format!("{SIZE:x}\r\n"))?;
        }
        call.write(body)?;
        if chunked { call.write("\r\n0\r\n\r\n") } else { Ok(()) }
    });
    let gateway = TestGateway::before(&upstream, "[limits]\nbody = \"100MB\"\n");
    let mut client = Client::connect(gateway.addr());
    let before = gateway.rss();
    let body = vec![b'x'; SIZE];
    for (head, end) in [
        (format!("Content-Length: {SIZE}\r\n\r\n"), ""),
        (format!("Transfer-Encoding: chunked\r\n\r\n{SIZE:x}\r\n"), "\r\n0\r\n\r\n"),
    ] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}")).send(&body).send(end);
        let response = client.response();
        assert!(response.body == body, "{head:?}: {} bytes", response.body.len());
    }
    let grown = gateway.rss().saturating_sub(before);
    println!("two bodies of {SIZE} bytes, both ways: resident memory grew by {grown} bytes");
    assert!(grown < SIZE as u64 / 2, "two bodies of {SIZE} bytes took {grown} bytes");
}

#[test]
fn a_slow_client_holds_its_upstream_back() {
    const MOST: usize = 200_000_000;
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (counter, stalled) = (written.clone(), Gate::new());
    let gate = stalled.clone();
    let upstream = TestUpstream::start(move |call| {
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {MOST}\r\n\r\n"))?;
        call.patience(Duration::from_millis(500))?;
        let piece = [b'x'; 1 << 16];
        while counter.load(Relaxed) < MOST && call.write(piece).is_ok() {
            counter.fetch_add(piece.len(), Relaxed);
        }
        gate.open();
        call.close()
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.reader.head().unwrap();
    stalled.wait();
    let taken = written.load(Relaxed);
    assert!(taken < MOST / 4, "the gateway took {taken} bytes that nobody reads");
}

#[test]
fn an_answer_may_begin_before_the_request_has_ended() {
    let upstream = TestUpstream::start(|call| {
        call.bytes(3)?;
        call.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")?;
        call.bytes(3)?;
        call.write("3\r\ndef\r\n0\r\n\r\n")?;
        call.close()
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let head = client.reader.head().unwrap();
    assert!(head.start.starts_with("HTTP/1.1 200"), "{head:?}");
    assert_eq!(client.reader.exactly(8).unwrap(), b"3\r\nabc\r\n");
    client.send("def");
    assert_eq!(client.reader.exactly(13).unwrap(), b"3\r\ndef\r\n0\r\n\r\n");
}

#[test]
fn continue_is_sent_when_the_body_is_wanted() {
    let wanted = Gate::new();
    let gate = wanted.clone();
    let upstream = TestUpstream::start(move |call| {
        assert_eq!(call.head.fields.get("expect"), None, "the gateway meets it");
        gate.open();
        let body = call.body()?.body.clone();
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        call.write(body)
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n");
    let interim = client.response();
    assert_eq!(interim.head.start, "HTTP/1.1 100 Continue");
    wanted.wait();
    assert_eq!(client.send("body").response().text(), "body");
    assert_eq!(client.get("/").status, 200, "the connection goes on");
}

#[test]
fn no_continue_comes_where_the_body_is_refused() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[limits]\nbody = \"3B\"\n");
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.code().as_str()), (413, "payload_too_large"));
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_http_1_0_client_gets_no_continue() {
    let gateway = TestGateway::before(&TestUpstream::echo(), "");
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
    let all = String::from_utf8(client.reader.to_end().unwrap()).unwrap();
    assert!(all.contains(" 200 OK\r\n") && !all.contains(" 100 "), "{all}");
}

#[test]
fn other_expectations_fail() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    for expectation in ["200-ok", "100-continue, 200-ok"] {
        let response = request(gateway.addr(), "GET", "/", &format!("Expect: {expectation}\r\n"));
        assert_eq!((response.status, response.code().as_str()), (417, "expectation_failed"), "{expectation}");
    }
    let twice = "Expect: 100-continue\r\nExpect: 200-ok\r\n";
    assert_eq!(request(gateway.addr(), "GET", "/", twice).status, 417);
    assert!(upstream.requests().is_empty());
}

/// Asks, and closes its side; the upstream answers when it is seen what that means.
fn half_closed(listener: &str, until: impl FnOnce(&TestGateway)) -> (TestGateway, Client) {
    let said = Gate::new();
    let wait = said.clone();
    let upstream = TestUpstream::start(move |call| {
        wait.wait();
        call.write(OK)
    });
    let rest = "[upstream.app]\nendpoints = [\"{app}\"]\n[[route]]\nname = \"all\"\nupstream = \"app\"\n";
    let front = "access_log = { file = \"access.log\" }\n[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n";
    let config = format!("{front}{listener}\n{rest}");
    let gateway = TestGateway::start(&fill(&config, &[("app", &upstream.address())]));
    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually!(upstream.count() == 1);
    client.finish();
    until(&gateway);
    said.open();
    (gateway, client)
}

#[test]
fn a_client_that_closes_its_side_is_gone() {
    let (_gateway, mut client) =
        half_closed("", |gateway| assert_eq!(gateway.access_lines(1)[0]["status"], 499));
    client.assert_closed();
}

#[test]
fn a_client_that_closes_its_side_may_get_its_answer() {
    let (_gateway, mut client) = half_closed("half_close = true", |_| {});
    assert_eq!(client.response().text(), "ok");
    client.assert_closed();
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = TestUpstream::start(|call| {
        call.body()?;
        call.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Check: 5\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.text().as_str(), response.trailers.get("x-sum")), ("ok", Some("7")));
    let request = upstream.request();
    assert_eq!((request.trailers.get("x-check"), request.header("te")), (Some("5"), Some("trailers")));
}

#[test]
fn trailers_do_not_reach_a_client_that_does_not_take_them() {
    let upstream = TestUpstream::answering(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    let response = client.get("/");
    assert_eq!((response.text().as_str(), response.trailers.all("x-sum")), ("ok", vec![]));
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn http_1_0_is_served() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("GET /old HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let all = String::from_utf8(client.reader.to_end().unwrap()).unwrap();
    assert!(all.starts_with("HTTP/1.") && all.ends_with("\r\n\r\nok"), "{all}");
    assert_eq!(upstream.request().head.start, "GET /old HTTP/1.1");
}

#[test]
fn http_1_0_gets_no_chunks() {
    let upstream =
        TestUpstream::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let all = String::from_utf8(client.reader.to_end().unwrap()).unwrap().to_lowercase();
    assert!(all.ends_with("\r\n\r\nok") && !all.contains("transfer-encoding"), "{all}");
}

#[test]
fn tunnels_and_traces_are_refused() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "");
    for (method, target) in [("TRACE", "/"), ("CONNECT", "b.test:443")] {
        let response = request(gateway.addr(), method, target, "");
        assert_eq!((response.status, response.code().as_str()), (405, "method_not_allowed"), "{method}");
        assert!(response.header("allow").is_some(), "{method}: RFC 9110, section 15.5.6 wants Allow");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn interim_answers_do_not_end_the_exchange() {
    let upstream = TestUpstream::answering(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"));
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    for _ in 0..2 {
        let mut response = client.get("/");
        if response.status == 103 {
            response = client.response();
        }
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
}

#[test]
fn repeated_fields_keep_their_order_and_cookies_stay_apart() {
    let upstream = TestUpstream::answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-N: 1\r\nSet-Cookie: b=2\r\nX-N: 2\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = TestGateway::before(&upstream, "");
    let response = request(gateway.addr(), "GET", "/", "X-Q: 2\r\nX-Q: 1\r\n");
    assert_eq!(response.head.fields.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.head.fields.all("x-n"), ["1", "2"]);
    assert_eq!(upstream.request().head.fields.all("x-q"), ["2", "1"]);
}

#[test]
fn a_date_is_added_where_there_is_none_and_kept_where_there_is_one() {
    let dated = TestUpstream::answering(
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = TestGateway::before(&dated, "");
    assert_eq!(gateway.get("/").header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    assert!(gateway.get("/").header("date").is_some());
}

#[test]
fn a_client_that_leaves_is_logged_as_499() {
    let asked = Gate::new();
    let gate = asked.clone();
    let upstream = TestUpstream::start(move |call| {
        gate.open();
        call.wait_for_end()
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    asked.wait();
    drop(client);
    let lines = gateway.access_lines(1);
    assert_eq!((&lines[0]["status"], &lines[0]["code"]), (&499.into(), &"client_closed".into()));
    eventually!(upstream.ended() == 1, "the upstream is told");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer_frees_the_upstream() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        loop {
            call.write([b'x'; 1 << 16])?;
        }
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.reader.head().unwrap();
    drop(client);
    eventually!(upstream.ended() == 1);
    let lines = gateway.access_lines(1);
    assert_eq!((&lines[0]["status"], &lines[0]["code"]), (&200.into(), &"client_closed".into()));
}

#[test]
fn an_upstream_that_is_down_is_a_502() {
    let nobody = TestUpstream::nobody();
    let gateway = TestGateway::start(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{nobody}\"]\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\n"
    ));
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (502, "upstream_connect_failed"));
}

#[test]
fn an_upstream_that_does_not_accept_is_given_up() {
    // A listening socket with a full queue answers no SYN.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let full: Vec<_> = (0..5000)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)))
        .take_while(Result::is_ok)
        .collect();
    let gateway = TestGateway::start(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{address}\"]\n\
         timeouts = {{ connect = \"100ms\" }}\n[[route]]\nname = \"all\"\nupstream = \"app\"\n"
    ));
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (504, "upstream_timeout"));
    drop(full);
}

#[test]
fn an_upstream_that_does_not_answer_is_a_504() {
    let upstream = TestUpstream::start(|call| call.wait_for_end());
    let gateway = TestGateway::before(&upstream, "[upstream.app.timeouts]\nread = \"50ms\"\n");
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (504, "upstream_timeout"));
    eventually!(upstream.ended() == 1, "its connection is not used again");
}

#[test]
fn an_upload_takes_the_time_that_the_client_needs() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "[upstream.app.timeouts]\nread = \"200ms\"\n");
    let mut client = Client::connect(gateway.addr());
    let start = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    while start.elapsed() < Duration::from_millis(600) {
        client.send("1\r\nx\r\n");
        assert!(client.is_silent_for(Duration::from_millis(20)), "{:?}", client.response());
    }
    assert_eq!(client.send("0\r\n\r\n").response().status, 200);
}

#[test]
fn an_upstream_that_does_not_answer_an_upload_is_a_504() {
    let upstream = TestUpstream::start(|call| {
        call.body()?;
        call.wait_for_end()
    });
    let gateway = TestGateway::before(&upstream, "[upstream.app.timeouts]\nread = \"50ms\"\n");
    for body in ["Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"] {
        let mut client = Client::connect(gateway.addr());
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"));
        let response = client.response();
        assert_eq!((response.status, response.code().as_str()), (504, "upstream_timeout"), "{body:?}");
    }
}

#[test]
fn an_upstream_that_takes_no_more_of_an_upload_is_a_504() {
    let upstream = TestUpstream::start(|call| {
        Gate::new().opens_within(Duration::from_secs(2));
        call.wait_for_end()
    });
    let timeouts = "[limits]\nbody = \"100MiB\"\n[upstream.app.timeouts]\nread = \"100ms\"\n";
    let gateway = TestGateway::before(&upstream, timeouts);
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n");
    client.try_send(vec![b'x'; 99_000_000]);
    assert_eq!(gateway.access_lines(1)[0]["code"], "upstream_timeout");
}

#[test]
fn an_upstream_that_stalls_in_its_body_is_cut_off() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")?;
        call.wait_for_end()
    });
    let gateway = TestGateway::before(&upstream, "[upstream.app.timeouts]\nread = \"50ms\"\n");
    assert_broken_off(&gateway);
    assert_eq!(gateway.access_lines(1)[0]["code"], "upstream_timeout");
}

#[test]
fn the_total_time_bounds_an_answer_that_trickles() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
        loop {
            call.write("x")?;
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let gateway = TestGateway::before(&upstream, "[upstream.app.timeouts]\ntotal = \"100ms\"\n");
    assert_broken_off(&gateway);
    assert_eq!(gateway.access_lines(1)[0]["code"], "upstream_timeout");
}

#[test]
fn an_answer_that_breaks_off_is_not_made_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
    ] {
        let upstream = TestUpstream::start(move |call| {
            call.write(answer)?;
            call.close()
        });
        let gateway = TestGateway::before(&upstream, "");
        assert_broken_off(&gateway);
        assert_eq!(gateway.access_lines(1)[0]["code"], "upstream_reset", "{answer:?}");
    }
}

/// The client can tell that the answer is not whole.
fn assert_broken_off(gateway: &TestGateway) {
    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let error = client.reader.response("GET").expect_err("the answer is not whole");
    assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error}");
}

#[test]
fn what_is_not_an_answer_is_a_502() {
    for (answer, code) in [
        ("", "upstream_reset"),
        ("HTTP/1.1 200", "upstream_reset"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "upstream_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "upstream_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "upstream_protocol_error"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "upstream_protocol_error",
        ),
        ("HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n", "upstream_protocol_error"),
        ("HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n", "upstream_protocol_error"),
        ("HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n", "upstream_protocol_error"),
    ] {
        let upstream = TestUpstream::start(move |call| {
            call.write(answer)?;
            call.close()
        });
        let gateway = TestGateway::before(&upstream, "");
        let response = gateway.get("/");
        assert_eq!((response.status, response.code().as_str()), (502, code), "{answer:?}");
    }
}

#[test]
fn a_kept_connection_that_has_gone_stale_is_replaced() {
    let closed = Gate::new();
    let gate = closed.clone();
    let upstream = TestUpstream::start(move |call: &mut Call| {
        call.body()?;
        call.write(OK)?;
        // Unannounced: the gateway believes that it may keep the connection.
        if call.number == 0 {
            gate.open();
            return call.close();
        }
        Ok(())
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.get("/").status, 200);
    closed.wait();
    eventually!(upstream.ended() == 1);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(client.send(post).response().status, 200);
    assert_eq!(upstream.requests()[1].body, b"hi");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_unanswered_request_on_a_kept_connection_is_not_sent_twice() {
    let upstream = TestUpstream::start(|call| {
        call.body()?;
        match call.number {
            0 => call.write(OK),
            _ => call.close(),
        }
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.get("/").status, 200);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let response = client.send(post).response();
    assert_eq!((response.status, response.code().as_str()), (502, "upstream_reset"));
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_request_that_runs_in_a_circle_ends() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(&upstream, "[forwarded]\nvia = \"me\"\n");
    let via = |count| format!("Via: {}\r\n", vec!["1.1 me"; count].join(", "));
    assert_eq!(request(gateway.addr(), "GET", "/", &via(9)).status, 200);
    let response = request(gateway.addr(), "GET", "/", &via(10));
    assert_eq!((response.status, response.code().as_str()), (508, "loop_detected"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_gateway_that_asks_itself_ends_with_508() {
    // The port is known only after the start, so the circle is closed through a relay.
    let target = std::sync::Arc::new(std::sync::OnceLock::new());
    let relay_to = target.clone();
    let upstream = TestUpstream::start(move |call| {
        let address = *relay_to.get().ok_or_else(|| io::Error::other("set before the first request"))?;
        let mut client = Client::connect(address);
        client.send(format!("{}\r\n", call.head.start));
        for (name, value) in &call.head.fields.0 {
            client.send(format!("{name}: {value}\r\n"));
        }
        let response = client.send("\r\n").response();
        let length = response.body.len();
        call.write(format!("HTTP/1.1 {} Relayed\r\nContent-Length: {length}\r\n\r\n", response.status))?;
        call.write(response.body)
    });
    let gateway = TestGateway::before(&upstream, "");
    target.set(gateway.addr()).unwrap();
    assert_eq!(gateway.get("/").status, 508);
    assert_eq!(upstream.requests().len(), 10);
}
