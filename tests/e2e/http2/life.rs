//! Connections of HTTP/2 and their streams, from the first to the last, and what becomes of them when either side ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use wasmgate_tests::{
    Client, Gate, TestGateway, TestUpstream, before, eventually,
    frames::{
        END_STREAM, FrameClient, GoAway, PREFACE, block, data, frame, get, head, kind, ping, pseudo, reset,
        settings,
    },
};

use super::code;

const ALL: u32 = i32::MAX as u32;

/// An upstream that answers "ok" when the gate opens, and which tells when it was asked.
fn held() -> (TestUpstream, Gate, Gate) {
    let (asked, answer) = (Gate::new(), Gate::new());
    let (told, wait) = (asked.clone(), answer.clone());
    let upstream = TestUpstream::start(move |call| {
        call.body()?;
        if call.head.start.contains(" /hold") {
            told.open();
            wait.wait();
        }
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    (upstream, asked, answer)
}

#[test]
fn a_drain_ends_in_two_steps() {
    let (upstream, asked, answer) = held();
    let mut gateway = TestGateway::before(&upstream, "");
    let (mut busy, mut idle) = (FrameClient::connect(gateway.addr()), FrameClient::connect(gateway.addr()));
    busy.send(get(1, "/hold"));
    asked.wait();
    gateway.terminate();
    busy.wait(|client| client.goaways.len() == 2);
    let calm = |last| GoAway { last, code: code::NO_ERROR, text: String::new() };
    assert_eq!(busy.goaways, [calm(ALL), calm(1)]);
    assert!(busy.is_alive(), "until the answer is there");
    // Who does not know better is told nothing of what is not served any more.
    busy.send(get(3, "/late"));
    answer.open();
    assert_eq!(busy.answer(1).text(), "ok");
    assert_eq!(busy.end().stream(3).map(|received| received.status), None);
    idle.ends_with(code::NO_ERROR);
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.access().len(), 1);
    assert_eq!(upstream.count(), 1);
}

/// A request that crosses the first GOAWAY is served.
#[test]
fn a_request_that_is_under_way_when_the_drain_begins_is_served() {
    let (upstream, asked, answer) = held();
    let mut gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(get(1, "/hold"));
    asked.wait();
    gateway.terminate();
    // The second step waits for an answer to a ping, which comes only after this request.
    while client.goaways.is_empty() {
        let frame = client.read().unwrap();
        assert_ne!(frame.kind, kind::PING, "GOAWAY comes first");
    }
    client.send(get(3, "/also"));
    assert_eq!(client.answer(3).text(), "ok");
    answer.open();
    assert_eq!(client.answer(1).text(), "ok");
    client.ends_with(code::NO_ERROR);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_client_that_ignores_the_drain_is_not_waited_for() {
    let mut gateway = TestGateway::before(&TestUpstream::ok(), "");
    let mut client = FrameClient::raw(gateway.addr());
    client.send([&PREFACE[..], &settings(&[]), &get(1, "/")].concat());
    client.answer(1);
    gateway.terminate();
    // Nothing is read and so nothing is answered.
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn an_answer_that_is_taken_slowly_survives_the_drain() {
    const SIZE: usize = 4 << 20;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
    let upstream = TestUpstream::answering([head.into_bytes(), vec![b'x'; SIZE]].concat());
    let mut gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(get(1, "/")).wait(|client| client.stream(1).is_some());
    gateway.terminate();
    client.wait(|client| !client.goaways.is_empty());
    while !client.streams[&1].ended {
        // What is slow is the client: for longer than an end is waited for where nothing is under way.
        if client.streams[&1].body.len() % (1 << 20) < 16_384 {
            Gate::new().opens_within(Duration::from_millis(400));
        }
        client.read().unwrap();
    }
    assert_eq!(client.streams[&1].body.len(), SIZE);
    client.ends_with(code::NO_ERROR);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_listener_that_is_gone_ends_its_connections() {
    let (upstream, asked, answer) = held();
    let second = "[[listener]]\nname = \"second\"\naddress = \"127.0.0.1:0\"\n";
    let watch = "[reload]\nwatch = false\n";
    let gateway = TestGateway::start(&before(&upstream.address(), &format!("{second}{watch}")));
    let mut client = FrameClient::connect(gateway.listener("second"));
    let mut other = FrameClient::connect(gateway.addr());
    client.send(get(1, "/hold"));
    asked.wait();
    gateway.write_config(&before(&upstream.address(), watch));
    gateway.reload();
    client.wait(|client| client.goaways.len() == 2);
    answer.open();
    assert_eq!(client.answer(1).text(), "ok");
    client.ends_with(code::NO_ERROR);
    assert_eq!(other.get(1, "/").text(), "ok");
    assert!(other.goaways.is_empty());
}

#[test]
fn an_idle_connection_is_told_its_end() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nidle_time = \"300ms\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    assert_eq!(client.get(1, "/").status, 200);
    // Pings are no requests.
    client.send(ping([1; 8]));
    client.ends_with(code::NO_ERROR);
}

#[test]
fn a_head_has_its_time() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nheader_time = \"300ms\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    assert_eq!(client.get(1, "/").status, 200);
    client.send(frame(kind::HEADERS, END_STREAM, 3, block(pseudo("GET", "/")))).end();
    // In the middle of a frame, and of its head.
    for cut in [5, 15] {
        let mut client = FrameClient::connect(gateway.addr());
        client.send(&get(1, "/")[..cut]).end();
    }
    // Before there is a preface nobody knows what the client speaks.
    let mut half = Client::connect(gateway.addr());
    half.send(&PREFACE[..10]);
    let response = half.response();
    assert_eq!(response.status, 408);
    half.assert_closed();
    let mut whole = FrameClient::raw(gateway.addr());
    whole.send(PREFACE).end();
}

#[test]
fn streams_too_many_are_refused_and_may_come_again() {
    let (upstream, asked, answer) = held();
    let gateway = TestGateway::before(&upstream, "[limits]\nstreams = 4\n");
    let mut client = FrameClient::connect(gateway.addr());
    client.send((0..4).flat_map(|number| get(2 * number + 1, "/hold")).collect::<Vec<_>>());
    asked.wait();
    assert_eq!(client.send(get(9, "/never")).answer(9).reset, Some(code::REFUSED));
    answer.open();
    for stream in [1, 3, 5, 7] {
        assert_eq!(client.answer(stream).text(), "ok");
    }
    assert_eq!(client.get(11, "/").text(), "ok");
    assert!(upstream.requests().iter().all(|request| request.target() != "/never"));
}

#[test]
fn requests_of_a_connection_count_for_their_client() {
    let limits = "[listener.limits]\nrequests_per_client = { rate = 1, per = \"1h\", burst = 3 }\n";
    let gateway = TestGateway::before(&TestUpstream::ok(), limits);
    let mut client = FrameClient::connect(gateway.addr());
    client.send((0..5).flat_map(|number| get(2 * number + 1, "/")).collect::<Vec<_>>());
    let mut statuses: Vec<_> = (0..5).map(|number| client.answer(2 * number + 1).status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
}

#[test]
fn connections_too_many_are_refused_before_they_say_what_they_speak() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[listener.limits]\nconnections = 1\n");
    let mut client = FrameClient::connect(gateway.addr());
    assert_eq!(client.get(1, "/").status, 200);
    assert_eq!(Client::connect(gateway.addr()).try_send(PREFACE).response().status, 503);
    assert_eq!(client.get(3, "/").status, 200);
}

#[test]
fn an_upload_that_is_refused_ends_gently() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[limits]\nbody = \"100KB\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, 0, "POST", "/", &[("content-length", "50000000")]));
    client.upload(1, &[b'x'; 50_000_000]);
    let received = client.answer(1);
    assert_eq!((received.status, received.code().as_str()), (413, "payload_too_large"));
    assert_eq!(client.get(3, "/").status, 200);
    client.wait(|client| client.streams[&1].reset == Some(code::NO_ERROR));
    // Without a length it is found out on the way.
    client.send(head(5, 0, "POST", "/", &[]));
    client.upload(5, &[b'x'; 10_000_000]);
    assert_eq!(client.answer(5).status, 413);
    client.wait(|client| client.streams[&5].reset == Some(code::NO_ERROR));
    // The window of the connection has suffered nothing.
    for stream in (7..67).step_by(2) {
        client.send(head(stream, 0, "POST", "/", &[]));
        client.upload(stream, &[b'x'; 90_000]);
        assert_eq!(client.answer(stream).status, 200);
    }
}

#[test]
fn an_upstream_that_answers_an_unfinished_upload_is_heard() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")?;
        call.close()
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, 0, "POST", "/", &[("content-length", "1000")])).send(data(1, 0, "some"));
    let received = client.answer(1);
    assert_eq!((received.status, received.text().as_str()), (403, "no"));
    client.wait(|client| client.streams[&1].reset == Some(code::NO_ERROR));
    assert!(client.is_alive());
}

#[test]
fn continue_is_sent_when_the_body_is_wanted() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "[limits]\nbody = \"10B\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    let expects = |stream, length| {
        head(stream, 0, "POST", "/", &[("expect", "100-continue"), ("content-length", length)])
    };
    client
        .send(expects(1, "4"))
        .wait(|client| client.stream(1).is_some_and(|received| received.interim == [100]));
    client.send(data(1, END_STREAM, "body"));
    assert_eq!(client.answer(1).text(), "body");
    assert_eq!(upstream.request().header("expect"), None);
    let refused = client.send(expects(3, "11")).answer(3);
    assert_eq!((refused.status, refused.interim.len()), (413, 0));
    let other = head(5, END_STREAM, "GET", "/", &[("expect", "200-ok")]);
    assert_eq!(client.send(other).answer(5).status, 417);
}

#[test]
fn answers_without_body_have_none() {
    let upstream = TestUpstream::start(|call| {
        let head = match &call.head.start {
            start if start.contains("/204") => "204 No Content\r\n",
            start if start.contains("/304") => "304 Not Modified\r\nContent-Length: 1000\r\n",
            _ => "200 OK\r\nContent-Length: 1000\r\n",
        };
        call.write(format!("HTTP/1.1 {head}ETag: \"x\"\r\n\r\n"))
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    for (stream, method, path, status, length) in [
        (1, "HEAD", "/200", 200, Some("1000")),
        (3, "GET", "/204", 204, None),
        (5, "GET", "/304", 304, Some("1000")),
        (7, "HEAD", "/304", 304, Some("1000")),
    ] {
        let received = client.send(head(stream, END_STREAM, method, path, &[])).answer(stream);
        assert_eq!(
            (received.status, received.reset, received.body.len()),
            (status, None, 0),
            "{method} {path}"
        );
        assert_eq!(
            (received.header("etag"), received.header("content-length")),
            (Some("\"x\""), length),
            "{path}"
        );
    }
    assert_eq!(upstream.connections(), 1, "no body is waited for");
}

#[test]
fn a_client_that_resets_a_stream_is_logged_and_the_upstream_is_told() {
    let (asked, counted) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (gate, count) = (asked.clone(), counted.clone());
    let upstream = TestUpstream::start(move |call| {
        match call.head.start.contains("/begun") {
            true => call.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")?,
            false => gate.open(),
        }
        let ended = call.wait_for_end();
        count.fetch_add(1, Ordering::SeqCst);
        ended
    });
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(get(1, "/asked"));
    asked.wait();
    client.send(reset(1, code::CANCEL));
    let lines = gateway.access_lines(1);
    assert_eq!((&lines[0]["status"], &lines[0]["code"]), (&499.into(), &"client_closed".into()));
    client
        .send(get(3, "/begun"))
        .wait(|client| client.stream(3).is_some_and(|received| received.body == b"begun"));
    client.send(reset(3, code::CANCEL));
    let lines = gateway.access_lines(2);
    assert_eq!((&lines[1]["status"], &lines[1]["code"]), (&200.into(), &"client_closed".into()));
    eventually!(counted.load(Ordering::SeqCst) == 2);
    assert!(client.is_alive());
}

#[test]
fn a_client_that_is_gone_takes_all_its_streams_along() {
    for ends_gently in [false, true] {
        let upstream = TestUpstream::start(|call| call.wait_for_end());
        let gateway = TestGateway::before(&upstream, "");
        let mut client = FrameClient::connect(gateway.addr());
        client.send((0..20).flat_map(|number| get(2 * number + 1, "/")).collect::<Vec<_>>());
        client.send([head(41, 0, "POST", "/", &[]), data(41, 0, "some")].concat());
        eventually!(upstream.connections() == 21);
        if ends_gently {
            client.finish();
        }
        drop(client);
        eventually!(upstream.ended() == 21);
        for line in gateway.access_lines(21) {
            assert_eq!((&line["status"], &line["code"]), (&499.into(), &"client_closed".into()), "{line}");
        }
        eventually!(gateway.metric("wasmgate_connections{listener=\"public\"}") == 0.0);
        eventually!(gateway.metric("wasmgate_requests_in_flight") == 0.0);
    }
}

/// Ends each request for `/close`.
const CLOSES: &str = r#"(module
    (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (drop (call $close (i32.const 0)))
      (i32.const 1)))"#;

#[test]
fn a_plugin_that_closes_ends_its_stream_only() {
    let upstream = TestUpstream::ok();
    let config = before(
        &upstream.address(),
        "[plugin.closes]\nfile = \"closes.wasm\"\n\
         [[route]]\nname = \"close\"\nmatch = { path = \"/close\" }\nupstream = \"app\"\nplugins = [\"closes\"]\n\
         [[route]]\nname = \"all\"\nmatch = { path = \"/*\" }\nupstream = \"app\"\n",
    );
    let module = wat::parse_str(CLOSES).unwrap();
    let gateway = TestGateway::start_in(&config, &[], |folder| {
        std::fs::write(folder.join("closes.wasm"), module).unwrap();
    });
    let mut client = FrameClient::connect(gateway.addr());
    let received = client.get(1, "/close");
    assert_eq!((received.status, received.reset), (0, Some(code::INTERNAL)));
    assert_eq!(client.get(3, "/").text(), "ok");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn bodies_pass_plugins_in_both_directions() {
    let upstream = TestUpstream::echo();
    let chain = "request = [\"trace\", { body = \"stream\" }], request_body = [\"upper\"], \
                 response = [\"trace\", { body = { buffer = 100000 } }], response_body = [{ replace = \"short\" }]";
    let front = "[server]\nworkers = 1\n[plugin.rogue]\nfile = \"{guests}/rogue.wasm\"\n";
    let route = format!(
        "[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [{{ name = \"rogue\", config = {{ name = \"a\", {chain} }} }}]\n"
    );
    let gateway = TestGateway::before(&upstream, &format!("{front}{route}"));
    let mut client = FrameClient::connect(gateway.addr());
    client.send([head(1, 0, "POST", "/", &[]), data(1, 0, "hello "), data(1, END_STREAM, "there")].concat());
    let received = client.answer(1);
    assert_eq!((received.text().as_str(), received.header("x-trace")), ("short", Some("a response")));
    let request = upstream.request();
    assert_eq!((&request.body[..], request.header("x-trace")), (&b"HELLO THERE"[..], Some("a request")));
}

#[test]
fn an_error_of_a_stream_is_its_own() {
    let (upstream, asked, answer) = held();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(get(1, "/hold"));
    asked.wait();
    let bad = [head(3, 0, "POST", "/", &[("content-length", "1")]), data(3, END_STREAM, "too long")].concat();
    assert_eq!(client.send(bad).answer(3).reset, Some(code::PROTOCOL));
    let bad = head(5, END_STREAM, "GET", "/", &[("connection", "close")]);
    assert_eq!(client.send(bad).answer(5).reset, Some(code::PROTOCOL));
    answer.open();
    assert_eq!(client.answer(1).text(), "ok");
    assert_eq!(client.get(7, "/").text(), "ok");
}

#[test]
fn many_streams_share_a_connection() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    for round in 0..10 {
        let streams: Vec<_> = (0..100).map(|number| 2 * (100 * round + number) + 1).collect();
        for stream in &streams {
            let path = format!("/{stream}");
            client.send([head(*stream, 0, "POST", &path, &[]), data(*stream, END_STREAM, &path)].concat());
        }
        for stream in streams {
            let received = client.answer(stream);
            let path = format!("/{stream}");
            assert_eq!((received.text(), received.header("x-target")), (path.clone(), Some(&*path)));
        }
    }
    eventually!(gateway.metric("wasmgate_connections_accepted_total{listener=\"public\"}") <= 1.0);
}

#[test]
fn interim_answers_do_no_harm() {
    let upstream = TestUpstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = TestGateway::before(&upstream, "");
    let mut client = FrameClient::connect(gateway.addr());
    for stream in [1, 3] {
        assert_eq!(client.get(stream, "/").text(), "ok");
    }
}

#[test]
fn a_listener_may_speak_http_1_only() {
    let config = before(&TestUpstream::ok().address(), "").replacen(
        "127.0.0.1:0\"",
        "127.0.0.1:0\"\nhttp2 = false",
        1,
    );
    let gateway = TestGateway::start(&config);
    let mut client = Client::connect(gateway.addr());
    client.try_send([&PREFACE[..], &settings(&[])].concat());
    let status = client.response().status;
    assert!(matches!(status, 400 | 505), "{status}");
    client.assert_closed();
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn http_1_is_spoken_beside_it() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    assert_eq!(gateway.get("/").text(), "ok");
    // What begins like the preface may be something else.
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.send("PRI /x HTTP/1.1\r\nHost: a\r\n\r\n").response().status, 200);
    let mut client = Client::connect(gateway.addr());
    for byte in b"PROPFIND /x HTTP/1.1\r\nHost: a\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.response().status, 200);
    assert_eq!(FrameClient::connect(gateway.addr()).get(1, "/").text(), "ok");
}
