//! More connections and requests than a listener takes, and clients that are slow on purpose.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use wasmgate_tests::{
    Client, Gate, PATIENCE, Response, TestGateway, TestUpstream, before, eventually, peer, request,
};

/// How long a slow client pauses: its slowness, not a wait for something.
fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

fn refused_by(gateway: &TestGateway, limit: &str) -> f64 {
    gateway.metric(&format!("wasmgate_connections_refused_total{{listener=\"public\",reason=\"{limit}\"}}"))
}

/// Connects and waits for the answer that a connection too many gets.
fn assert_refused(address: SocketAddr) {
    let mut client = Client::connect(address);
    let response = client.response();
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
    assert_eq!((response.header("connection"), response.body.len()), (Some("close"), 0));
    client.assert_closed();
}

fn retry_after(response: &Response) -> u64 {
    response.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("seconds")
}

/// A response of this length, as fast as it is taken.
fn large(length: usize) -> TestUpstream {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    TestUpstream::answering([head.into_bytes(), vec![b'x'; length]].concat())
}

#[test]
fn connections_too_many_are_answered_and_closed() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[listener.limits]\nconnections = 2\n");
    let mut open = [Client::connect(gateway.addr()), Client::connect(gateway.addr())];
    open.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert_refused(gateway.addr());
    // A request that is under way already is not read, and costs the client nothing of its answer.
    assert_eq!(
        Client::connect(gateway.addr()).try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response().status,
        503
    );
    assert_eq!(refused_by(&gateway, "connections"), 2.0);
    assert_eq!(refused_by(&gateway, "connections_per_client"), 0.0);
    let lines = gateway.access_lines(4);
    assert_eq!((&lines[3]["status"], &lines[3]["code"]), (&503.into(), &"overloaded".into()), "{}", lines[3]);
    assert_eq!((&lines[3]["client"], &lines[3]["route"]), (&"127.0.0.1".into(), &"-".into()));
    let [first, mut second] = open;
    assert_eq!(second.get("/").status, 200, "who is in stays in");
    drop(first);
    eventually!(Client::connect(gateway.addr()).try_get("/").is_ok_and(|response| response.status == 200));
}

#[test]
fn each_client_has_connections_of_its_own() {
    if TcpListener::bind("[::1]:0").is_err() {
        return println!("skipped: there is no IPv6");
    }
    let config = before(&TestUpstream::ok().address(), "[listener.limits]\nconnections_per_client = 1\n");
    let gateway = TestGateway::start(&config.replacen("127.0.0.1:0", "[::]:0", 1));
    let port = gateway.addr().port();
    let at = |ip: &str| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port);
    let mut open = [Client::connect(at("127.0.0.1")), Client::connect(at("::1"))];
    open.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert_refused(at("127.0.0.1"));
    assert_refused(at("::1"));
    assert_eq!(refused_by(&gateway, "connections_per_client"), 2.0);
    assert_eq!(gateway.access_lines(4)[3]["code"], "too_many_connections");
    drop(open);
    for ip in ["127.0.0.1", "::1"] {
        eventually!(Client::connect(at(ip)).try_get("/").is_ok_and(|response| response.status == 200));
    }
}

#[test]
fn a_thousand_connections_too_many_cost_the_others_nothing() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "[listener.limits]\nconnections = 4\n");
    let mut open: Vec<_> = (0..4).map(|_| Client::connect(gateway.addr())).collect();
    open.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let (address, before) = (gateway.addr(), gateway.rss());
    let (served, refused): (Vec<usize>, Vec<usize>) = thread::scope(|scope| {
        let knock = || (0..250).filter(|_| Client::connect(address).response().status == 503).count();
        let outside: Vec<_> = (0..4).map(|_| scope.spawn(knock)).collect();
        let ask = |client: &mut Client| (0..250).filter(|_| client.get("/").status == 200).count();
        let inside: Vec<_> = open.iter_mut().map(|client| scope.spawn(move || ask(client))).collect();
        let count = |thread: thread::ScopedJoinHandle<'_, usize>| thread.join().unwrap();
        (inside.into_iter().map(count).collect(), outside.into_iter().map(count).collect())
    });
    assert_eq!((served, refused), (vec![250; 4], vec![250; 4]));
    assert_eq!(refused_by(&gateway, "connections"), 1000.0);
    assert!(gateway.rss() < before + (16 << 20), "{} bytes", gateway.rss() - before);
}

#[test]
fn requests_too_many_are_refused_before_route_and_plugins() {
    let upstream = TestUpstream::ok();
    let limits = "[listener.limits]\nrequests = { rate = 1, per = \"1h\", burst = 3 }\n\
                  [[route]]\nname = \"x\"\nmatch = { path = \"/x\" }\nupstream = \"app\"\n";
    let gateway = TestGateway::before(&upstream, limits);
    let mut client = Client::connect(gateway.addr());
    assert_eq!([client.get("/x").status, client.get("/x").status, client.get("/y").status], [200, 200, 404]);
    for _ in 0..3 {
        let response = client.get("/y");
        assert_eq!((response.status, response.code().as_str()), (503, "overloaded"));
        assert!((1..=3600).contains(&retry_after(&response)), "{response:?}");
    }
    assert_eq!(upstream.count(), 2);
    let reason = "wasmgate_requests_total{route=\"-\",status=\"5xx\",reason=\"overloaded\"}";
    eventually!(gateway.metric(reason) == 3.0);
}

#[test]
fn a_client_is_who_a_trusted_proxy_says() {
    let limits = "[forwarded]\ntrusted_proxies = [\"127.0.0.1\"]\n[listener.limits]\nconnections_per_client = 1\n\
                  requests_per_client = { rate = 1, per = \"1h\", burst = 2 }\n";
    let gateway = TestGateway::before(&TestUpstream::ok(), limits);
    let _proxy = Client::connect(gateway.addr());
    let of = |client: &str| request(gateway.addr(), "GET", "/", &format!("X-Forwarded-For: {client}\r\n"));
    let (first, same, other) = ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1");
    assert_eq!([of(first).status, of(same).status], [200, 200]);
    for client in [first, same] {
        let response = of(client);
        assert_eq!((response.status, response.code().as_str()), (429, "too_many_requests"), "{client}");
        assert!((1..=3600).contains(&retry_after(&response)), "{response:?}");
    }
    assert_eq!([of(other).status, of("192.0.2.1").status, of("192.0.2.2").status], [200; 3]);
}

#[test]
fn nobody_gets_around_the_limit_by_naming_another_client() {
    let limits = "[listener.limits]\nrequests_per_client = { rate = 1, per = \"1h\" }\n";
    let gateway = TestGateway::before(&TestUpstream::ok(), limits);
    let of =
        |client: &str| request(gateway.addr(), "GET", "/", &format!("X-Forwarded-For: {client}\r\n")).status;
    assert_eq!([of("192.0.2.1"), of("192.0.2.2")], [200, 429]);
}

#[test]
fn a_bucket_fills_again() {
    let limits = "[listener.limits]\nrequests = { rate = 1, per = \"1s\" }\n";
    let gateway = TestGateway::before(&TestUpstream::ok(), limits);
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.get("/").status, 200);
    let refused = client.get("/");
    assert_eq!((refused.status, retry_after(&refused)), (503, 1));
    eventually!(client.get("/").status == 200);
}

#[test]
fn a_reload_changes_limits_and_keeps_what_counts() {
    let upstream = TestUpstream::ok();
    let config = |connections: usize, burst: usize, rest: &str| {
        let rate = format!("{{ rate = 1, per = \"1h\", burst = {burst} }}");
        let limits = format!("[listener.limits]\nconnections = {connections}\nrequests = {rate}\n{rest}");
        // The watch would make reloads of its own, and which one is waited for would be chance.
        let limits = format!("{limits}[reload]\nwatch = false\n");
        before(&upstream.address(), &limits)
    };
    let gateway = TestGateway::start(&config(1, 1, ""));
    let mut first = Client::connect(gateway.addr());
    assert_eq!(first.get("/").status, 200);
    assert_refused(gateway.addr());

    gateway.write_config(&config(1, 1, "[limits]\nuri = \"1KiB\"\n"));
    gateway.reload();
    assert_eq!(first.get("/").status, 503, "the bucket is as empty as it was");
    assert_refused(gateway.addr());

    gateway.write_config(&config(2, 2, ""));
    gateway.reload();
    let mut second = Client::connect(gateway.addr());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200), "a new bucket is full");
    assert_eq!(second.get("/").status, 503);
    assert_refused(gateway.addr());

    gateway.write_config(&before(&upstream.address(), "[reload]\nwatch = false\n"));
    gateway.reload();
    let mut third = Client::connect(gateway.addr());
    for client in [&mut first, &mut second, &mut third] {
        assert_eq!(client.get("/").status, 200);
    }
}

/// Reads `bytes` after each pause, until the answer is over or no more comes; how many came.
fn read_slowly(address: SocketAddr, bytes: usize, milliseconds: u64) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut read, mut buffer) = (0, vec![0; bytes]);
    let end = Instant::now() + PATIENCE;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return read,
            Ok(count) => read += count,
        }
        assert!(Instant::now() < end, "it goes on for ever: {read} bytes");
        pause(milliseconds);
    }
}

#[test]
fn a_client_that_reads_a_trickle_is_cut_off() {
    let gateway = TestGateway::before(&large(32 << 20), "[limits]\nsend_time = \"500ms\"\n");
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut few = [0; 16];
    eventually!({
        pause(20);
        // What has come is still there to be read after the end.
        let _ = stream.read(&mut few);
        !gateway.access().is_empty()
    });
    let line = &gateway.access()[0];
    assert_eq!((&line["status"], &line["code"]), (&200.into(), &"client_too_slow".into()), "{line}");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 16 << 20, "{} bytes", rest.len());
    let reason = "wasmgate_requests_total{route=\"all\",reason=\"client_too_slow\"}";
    eventually!(gateway.metric(reason) == 1.0);
    eventually!(gateway.metric("wasmgate_connections{listener=\"public\"}") == 0.0);
}

#[test]
fn a_client_that_reads_below_the_rate_is_cut_off() {
    let limits = "[limits]\nsend_time = \"1s\"\nsend_rate = \"50MB\"\n";
    let gateway = TestGateway::before(&large(64 << 20), limits);
    let read = read_slowly(gateway.addr(), 256 << 10, 50);
    assert!(read > 1 << 20 && read < 64 << 20, "{read} bytes");
    assert_eq!(gateway.access_lines(1)[0]["code"], "client_too_slow");
}

#[test]
fn a_client_that_reads_steadily_is_not_cut_off() {
    let limits = "[limits]\nsend_time = \"500ms\"\nsend_rate = \"50KB\"\n";
    let gateway = TestGateway::before(&large(6 << 20), limits);
    let start = Instant::now();
    assert!(read_slowly(gateway.addr(), 64 << 10, 25) > 6 << 20);
    assert!(start.elapsed() > Duration::from_secs(1), "much longer than the time without the rate");
    assert_eq!(gateway.access_lines(1)[0]["code"], serde_json::Value::Null);
}

#[test]
fn a_slow_upstream_is_no_slow_client() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let upstream = TestUpstream::start(move |call| {
        call.write(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        for _ in 0..6 {
            call.write("9\r\ndata: x\n\n\r\n")?;
            waiting.opens_within(Duration::from_millis(300));
        }
        call.write("0\r\n\r\n")
    });
    let limits = "[limits]\nsend_time = \"100ms\"\nsend_rate = \"1GB\"\nidle_time = \"100ms\"\n";
    let gateway = TestGateway::before(&upstream, limits);
    assert_eq!(gateway.get("/").text().matches("data: x").count(), 6);
    assert_eq!(gateway.access_lines(1)[0]["code"], serde_json::Value::Null);
}

/// Sends a body of `pieces` with a pause after each, as far as it is taken.
fn send_slowly(address: SocketAddr, piece: &[u8], pieces: usize, milliseconds: u64) -> Response {
    let mut client = Client::connect(address);
    let length = piece.len() * pieces;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    for _ in 0..pieces {
        client.try_send(piece);
        if !client.is_silent_for(Duration::from_millis(milliseconds)) {
            break;
        }
    }
    client.response()
}

#[test]
fn a_body_that_trickles_is_408() {
    let limits = "[limits]\nbody_time = \"500ms\"\nbody_rate = \"10KB\"\n";
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, limits);
    let response = send_slowly(gateway.addr(), b"xx", 10_000, 20);
    assert_eq!((response.status, response.code().as_str()), (408, "request_timeout"));
    assert!(upstream.requests().is_empty());
    let reason = "wasmgate_requests_total{route=\"all\",reason=\"request_timeout\"}";
    eventually!(gateway.metric(reason) == 1.0);
    let piece = [b'x'; 4096];
    assert_eq!(send_slowly(gateway.addr(), &piece, 100, 20).status, 200, "slow and steady");
}

#[test]
fn an_upstream_that_does_not_take_the_body_is_no_slow_client() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let upstream = TestUpstream::start(move |call| {
        waiting.opens_within(Duration::from_secs(1));
        call.body()?;
        call.write("HTTP/1.1 204 No Content\r\n\r\n")
    });
    let limits = "[limits]\nbody = \"64MiB\"\nbody_time = \"200ms\"\nbody_rate = \"1GB\"\n";
    let gateway = TestGateway::before(&upstream, limits);
    let mut client = Client::connect(gateway.addr());
    let length = 24 << 20;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'x'; length]);
    assert_eq!(client.response().status, 204);
}

/// Runs the real tool with these arguments against a gateway with little patience, while others ask for something.
fn attacked(arguments: &[&str], limits: &str) -> Option<(String, TestGateway)> {
    let program = peer("slowhttptest")?;
    let gateway = TestGateway::before(&large(4 << 20), &format!("[limits]\n{limits}"));
    let url = format!("http://{}/", gateway.addr());
    let mut command = Command::new(program);
    command.args(["-c", "200", "-r", "200", "-l", "30", "-p", "3", "-u", &url]).args(arguments);
    let attack = thread::spawn(move || command.output().expect("slowhttptest runs"));
    let mut asked = 0;
    while !attack.is_finished() || asked == 0 {
        assert_eq!(gateway.get("/").status, 200);
        asked += 1;
    }
    let output = attack.join().expect("it ends");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("service available:   NO"), "{text}");
    Some((text, gateway))
}

/// It ends when it has no connection left, and otherwise after half a minute.
fn assert_all_ended(text: &str) {
    assert!(text.contains("No open connections left"), "{text}");
}

#[test]
fn slowhttptest_with_slow_heads() {
    let Some((text, gateway)) = attacked(&["-H", "-i", "1"], "header_time = \"1s\"\n") else { return };
    assert_all_ended(&text);
    let slow = "wasmgate_requests_total{route=\"-\",reason=\"request_timeout\"}";
    eventually!(gateway.metric(slow) == 200.0);
}

#[test]
fn slowhttptest_with_slow_bodies() {
    let limits = "body_time = \"2s\"\nbody_rate = \"10KB\"\n";
    let Some((text, gateway)) = attacked(&["-B", "-i", "1", "-s", "8192"], limits) else { return };
    assert_all_ended(&text);
    let slow = "wasmgate_requests_total{route=\"all\",reason=\"request_timeout\"}";
    eventually!(gateway.metric(slow) == 200.0);
}

#[test]
fn slowhttptest_with_slow_reading() {
    let arguments = ["-X", "-w", "64", "-y", "512", "-n", "1", "-z", "512"];
    let Some((text, gateway)) = attacked(&arguments, "send_time = \"1s\"\n") else { return };
    assert_all_ended(&text);
    let slow = "wasmgate_requests_total{route=\"all\",reason=\"client_too_slow\"}";
    eventually!(gateway.metric(slow) == 200.0);
}

#[test]
fn slowhttptest_with_ranges() {
    let Some((_, gateway)) = attacked(&["-R", "-t", "HEAD", "-a", "1", "-b", "3000", "-l", "5"], "") else {
        return;
    };
    assert_eq!(gateway.get("/").status, 200);
}
