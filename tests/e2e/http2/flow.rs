//! Windows (RFC 9113, section 5.2) and time: who leaves no room for an answer, or does not send what was begun.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use wasmgate_tests::{
    Gate, PATIENCE, TestGateway, TestUpstream, eventually,
    frames::{END_STREAM, FrameClient, PREFACE, Received, data, get, head, settings, window_update},
};

use super::{code, setting};

/// Answers `/large` with this many bytes and anything else with "ok".
fn large(length: usize) -> TestUpstream {
    TestUpstream::start(move |call| {
        let is_large = call.head.start.contains(" /large");
        call.body()?;
        let body = if is_large { vec![b'x'; length] } else { b"ok".to_vec() };
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        call.write(body)
    })
}

/// The access log's line for this path, once it is there.
fn line(gateway: &TestGateway, path: &str) -> serde_json::Value {
    let find = || gateway.access().into_iter().find(|line| line["path"] == path);
    eventually!(find().is_some(), "{:?}", gateway.access());
    find().unwrap()
}

#[test]
fn a_stream_without_room_is_cut_off_and_its_sibling_is_not() {
    for window in [0, 1] {
        let gateway = TestGateway::before(&large(1 << 20), "[limits]\nsend_time = \"500ms\"\n");
        let mut client = FrameClient::with(gateway.addr(), &[(setting::WINDOW, window)]);
        client.grants = false;
        client.send(get(1, "/large"));
        let mut stream = 1;
        while !client.stream(1).is_some_and(Received::is_over) {
            stream += 2;
            client.send([get(stream, "/"), window_update(stream, 10)].concat());
            assert_eq!(client.answer(stream).text(), "ok");
        }
        let received = client.answer(1);
        assert_eq!((received.status, received.reset), (200, Some(code::CANCEL)));
        assert_eq!(received.body.len(), window as usize);
        let line = line(&gateway, "/large");
        assert_eq!((&line["status"], &line["code"]), (&200.into(), &"client_too_slow".into()), "{line}");
        client.send([get(stream + 2, "/"), window_update(stream + 2, 10)].concat());
        assert_eq!(client.answer(stream + 2).text(), "ok");
        let others = gateway.access();
        assert!(others.iter().filter(|line| line["path"] == "/").all(|line| line["code"].is_null()));
    }
}

/// The window of the connection is the one that all share.
#[test]
fn who_closes_the_window_of_the_connection_loses_all_streams() {
    let gateway = TestGateway::before(&large(1 << 20), "[limits]\nsend_time = \"300ms\"\n");
    let mut client = FrameClient::with(gateway.addr(), &[(setting::WINDOW, 1 << 20)]);
    client.grants = false;
    client.send([get(1, "/large/1"), get(3, "/large/3")].concat());
    assert_eq!([client.answer(1).reset, client.answer(3).reset], [Some(code::CANCEL); 2]);
    let taken: usize = client.streams.values().map(|received| received.body.len()).sum();
    assert_eq!(taken, 65_535);
    for path in ["/large/1", "/large/3"] {
        assert_eq!(line(&gateway, path)["code"], "client_too_slow");
    }
    client.send(window_update(0, 100_000));
    assert_eq!(client.get(5, "/").text(), "ok", "the connection is as good as before");
}

#[test]
fn windows_that_open_too_slowly_are_not_enough() {
    let limits = "[limits]\nsend_time = \"500ms\"\nsend_rate = \"1MB\"\n";
    let gateway = TestGateway::before(&large(1 << 20), limits);
    let mut client = FrameClient::with(gateway.addr(), &[(setting::WINDOW, 0)]);
    client.grants = false;
    client.send(get(1, "/large"));
    let start = Instant::now();
    while !client.stream(1).is_some_and(Received::is_over) {
        client.send(window_update(1, 100)).read_for(Duration::from_millis(20));
        assert!(start.elapsed() < PATIENCE, "it goes on for ever");
    }
    let received = client.answer(1);
    assert!(received.reset == Some(code::CANCEL) && received.body.len() > 500, "{:?}", received.reset);
    assert_eq!(line(&gateway, "/large")["code"], "client_too_slow");
}

#[test]
fn a_slow_upstream_is_no_slow_client() {
    let gate = Gate::new();
    let upstream = TestUpstream::start(move |call| {
        call.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..4 {
            call.write("5\r\nhello\r\n")?;
            gate.opens_within(Duration::from_millis(300));
        }
        call.write("0\r\n\r\n")
    });
    let limits = "[limits]\nsend_time = \"100ms\"\nsend_rate = \"1GB\"\nidle_time = \"100ms\"\nheader_time = \"100ms\"\n";
    let gateway = TestGateway::before(&upstream, limits);
    let mut client = FrameClient::connect(gateway.addr());
    assert_eq!(client.get(1, "/").text(), "hello".repeat(4));
}

#[test]
fn answers_that_nobody_takes_are_left_at_the_upstream() {
    const STREAMS: u32 = 100;
    let upstream = large(8 << 20);
    let gateway = TestGateway::before(&upstream, "[limits]\nsend_time = \"1s\"\n");
    let mut client = FrameClient::with(gateway.addr(), &[(setting::WINDOW, 0)]);
    client.grants = false;
    let before = gateway.rss();
    client.send((0..STREAMS).flat_map(|number| get(2 * number + 1, "/large")).collect::<Vec<_>>());
    client.wait(|client| {
        client.streams.values().filter(|received| received.status == 200).count() == STREAMS as usize
    });
    let grown = gateway.rss().saturating_sub(before);
    println!("{STREAMS} answers of 8 MiB that wait: {grown} bytes");
    assert!(grown < 96 << 20, "{grown} bytes");
    client.wait(|client| client.streams.values().all(|received| received.reset == Some(code::CANCEL)));
    eventually!(upstream.ended() == upstream.connections());
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let gateway = TestGateway::before(&large(64 << 20), "[limits]\nsend_time = \"500ms\"\n");
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let most = i32::MAX as u32;
    let opening =
        [&PREFACE[..], &settings(&[(setting::WINDOW, most)]), &window_update(0, most - 65_535)].concat();
    stream.write_all(&[opening, get(1, "/large"), get(3, "/large")].concat()).unwrap();
    for line in gateway.access_lines(2) {
        assert_eq!((&line["status"], &line["code"]), (&200.into(), &"client_too_slow".into()), "{line}");
    }
    eventually!(gateway.metric("wasmgate_connections{listener=\"public\"}") == 0.0);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 32 << 20, "{} bytes", rest.len());
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "[limits]\nbody_time = \"300ms\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    client
        .send([head(1, 0, "POST", "/slow", &[]), data(1, 0, "x"), head(3, 0, "POST", "/fast", &[])].concat());
    client.send(data(3, END_STREAM, "y"));
    assert_eq!(client.answer(3).text(), "y");
    let received = client.answer(1);
    assert_eq!((received.status, received.code().as_str()), (408, "request_timeout"));
    client.wait(|client| client.streams[&1].reset == Some(code::NO_ERROR));
    assert_eq!(client.get(5, "/").status, 200);
    assert!(upstream.requests().iter().all(|request| request.target() != "/slow"));
    assert_eq!(line(&gateway, "/slow")["code"], "request_timeout");
}

#[test]
fn a_body_that_trickles_is_408() {
    let gateway =
        TestGateway::before(&TestUpstream::echo(), "[limits]\nbody_time = \"500ms\"\nbody_rate = \"10KB\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    client.send(head(1, 0, "POST", "/slow", &[]));
    while !client.stream(1).is_some_and(Received::is_over) {
        client.send(data(1, 0, "x")).read_for(Duration::from_millis(20));
    }
    assert_eq!(client.answer(1).status, 408);
}

#[test]
fn the_gateways_own_windows_hold() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let upstream = TestUpstream::start(move |call| {
        waiting.wait();
        call.body()?;
        call.write("HTTP/1.1 204 No Content\r\n\r\n")
    });
    let gateway = TestGateway::before(&upstream, "[limits]\nbody = \"64MiB\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    // One byte more than there is room for.
    let window = client.settings[&setting::WINDOW] as usize;
    client.send(head(1, 0, "POST", "/", &[]));
    let piece = [b'x'; 16_384];
    for _ in 0..4096 {
        if client.stream(1).is_some_and(Received::is_over) {
            break;
        }
        client.send(data(1, 0, piece));
        assert!(client.is_alive() || !client.goaways.is_empty());
        if !client.goaways.is_empty() {
            break;
        }
    }
    let goaway = client.goaways.last().map(|goaway| goaway.code);
    let reset = client.stream(1).and_then(|received| received.reset);
    assert!(
        goaway == Some(code::FLOW_CONTROL) || reset == Some(code::FLOW_CONTROL),
        "{goaway:?} {reset:?} {window}"
    );
    gate.open();
}

#[test]
fn large_bodies_are_streamed_not_kept() {
    const SIZE: usize = 40_000_000;
    let upstream = TestUpstream::start(|call| {
        let body = call.body()?.body.clone();
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        call.write(body)
    });
    let gateway = TestGateway::before(&upstream, "[limits]\nbody = \"100MB\"\n");
    let mut client = FrameClient::connect(gateway.addr());
    let (before, body) = (gateway.rss(), vec![b'x'; SIZE]);
    for (stream, length) in [(1, Some(SIZE.to_string())), (3, None)] {
        let fields = length.as_deref().map(|length| ("content-length", length));
        client.send(head(stream, 0, "POST", "/", fields.as_slice()));
        client.upload(stream, &body);
        let answer = client.answer(stream);
        assert!(
            answer.status == 200 && answer.body == body,
            "{}: {} bytes",
            answer.status,
            answer.body.len()
        );
        assert_eq!(upstream.take_requests()[0].body.len(), SIZE);
    }
    let grown = gateway.rss().saturating_sub(before);
    assert!(grown < SIZE as u64 / 2, "{grown} bytes");
}

#[test]
fn a_slow_client_holds_its_upstream_back_and_others_go_on() {
    let gateway = TestGateway::before(&large(32 << 20), "");
    let mut client = FrameClient::connect(gateway.addr());
    client.grants = false;
    client
        .send(get(1, "/large"))
        .wait(|client| client.stream(1).is_some_and(|received| received.body.len() == 65_535));
    client.send(window_update(0, 1000));
    assert_eq!(client.get(3, "/").text(), "ok");
    client.grants = true;
    client.send([window_update(0, 64_535), window_update(1, 65_535)].concat());
    assert_eq!(client.answer(1).body.len(), 32 << 20);
}
