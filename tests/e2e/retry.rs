//! What is tried again, how often, and what is not.

use std::{
    io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use wasmgate_tests::{
    Call, Client, Faulty, Gate, Load, Mood, Nginx, PATIENCE, Reserved, TestGateway, TestUpstream, before_all,
    eventually, peer, request,
};

/// One worker, whose turns and whose budget are known. Nobody is taken out.
const ONE: &str = "[server]\nworkers = 1\n[upstream.app.outliers]\nfailures = 0\n";

fn gateway(endpoints: &[&Faulty], rest: &str) -> TestGateway {
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| *endpoint as _).collect();
    TestGateway::start(&before_all(&endpoints, &format!("{rest}{ONE}")))
}

/// As many attempts as are wanted, without long pauses.
fn retry(keys: &str) -> String {
    format!(
        "[upstream.app.retry]\nback_off = \"1ms\"\nbudget = {{ percent = 1000, per_second = 1000 }}\n{keys}\n"
    )
}

/// Sends it so many times; how often the answer was 200.
fn served(gateway: &TestGateway, count: usize, request: &str) -> usize {
    let mut client = Client::connect(gateway.addr());
    (0..count).filter(|_| client.send(request).response().status == 200).count()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
const NAMED: &str = "POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nContent-Length: 4\r\n\r\nbody";

/// An upstream whose first attempt goes this way, and which sends back what later ones bring. With the number of attempts.
fn fails_first(
    fail: impl Fn(&mut Call) -> io::Result<()> + Send + Sync + 'static,
) -> (TestUpstream, Arc<AtomicUsize>) {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = attempts.clone();
    let upstream = TestUpstream::start(move |call| {
        if count.fetch_add(1, SeqCst) == 0 {
            return fail(call);
        }
        let body = call.body()?.body.clone();
        call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        call.write(body)
    });
    (upstream, attempts)
}

/// Reads the request and closes without an answer.
fn closes(call: &mut Call) -> io::Result<()> {
    call.body()?;
    call.close()
}

fn before(upstream: &TestUpstream, keys: &str) -> TestGateway {
    TestGateway::before(upstream, &format!("{}{ONE}", retry(keys)))
}

#[test]
fn what_was_never_sent_is_sent_elsewhere_whatever_it_is() {
    let (dead, well) = (Faulty::down(), Faulty::start());
    let gateway = gateway(&[&dead, &well], "");
    for request in [GET, POST, NAMED] {
        assert_eq!(served(&gateway, 10, request), 10, "{request}");
    }
    let lines = gateway.access_lines(30);
    // What goes on to the other takes its turn: the next one comes to the dead one again.
    assert!(lines.iter().filter(|line| line["attempts"] == 2).count() >= 29, "{lines:?}");
    assert!(lines.iter().all(|line| line["endpoint"] == well.to_string()), "{lines:?}");
    assert_eq!(well.count(), 30);
    let one_try = self::gateway(&[&dead, &well], "[upstream.app.retry]\nattempts = 1\n");
    assert_eq!(served(&one_try, 10, GET), 5);
}

#[test]
fn each_condition_is_for_its_failure() {
    for (mood, on) in [
        (Mood::Resets, "reset"),
        (Mood::Once, "reset"),
        (Mood::Status(500), "5xx"),
        (Mood::Status(503), "gateway-error"),
        (Mood::Status(409), "retriable-4xx"),
        (Mood::Status(429), "429"),
        (Mood::Hangs, "timeout"),
    ] {
        let [bad, well] = &Faulty::several();
        bad.set(mood);
        let gateway = gateway(&[bad, well], &retry(&format!("on = [\"{on}\"]\nper_try = \"100ms\"")));
        assert_eq!(served(&gateway, 10, GET), 10, "{mood:?}");
        assert_eq!(served(&gateway, 10, NAMED), 10, "{mood:?}, with a key");
        if mood == Mood::Once {
            continue;
        }
        assert!(bad.count() <= 20, "each request once at most");
        assert_eq!(served(&gateway, 10, POST), 5, "{mood:?}, not idempotent");
        let other = if on == "409" || on == "429" { "5xx" } else { "410" };
        let gateway =
            self::gateway(&[bad, well], &retry(&format!("on = [\"{other}\"]\nper_try = \"100ms\"")));
        assert_eq!(served(&gateway, 10, GET), 5, "{mood:?}, on {other}");
        let keys = format!("on = [\"{on}\"]\nper_try = \"100ms\"\nnon_idempotent = true");
        let gateway = self::gateway(&[bad, well], &retry(&keys));
        assert_eq!(served(&gateway, 10, POST), 10, "{mood:?}, although not idempotent");
    }
}

#[test]
fn a_field_of_the_answer_may_ask_for_it() {
    let (upstream, attempts) = fails_first(|call| {
        call.body()?;
        call.write("HTTP/1.1 200 OK\r\nX-Again: please\r\nContent-Length: 2\r\n\r\nno")
    });
    let gateway = before(&upstream, "on = []\nheaders = [\"x-again\"]");
    let response = request(gateway.addr(), "GET", "/", "");
    assert_eq!((response.status, response.header("x-again")), (200, None));
    assert_eq!(attempts.load(SeqCst), 2);
}

#[test]
fn retry_after_is_waited_for_or_handed_on() {
    let busy = |call: &mut Call| {
        call.body()?;
        call.write("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
    };
    for (longest, waits) in [("5s", true), ("500ms", false)] {
        let (upstream, attempts) = fails_first(busy);
        let gateway = before(&upstream, &format!("on = [\"gateway-error\"]\nretry_after = \"{longest}\""));
        let begun = Instant::now();
        let response = gateway.get("/");
        if waits {
            assert_eq!(response.status, 200);
            assert!(begun.elapsed() >= Duration::from_secs(1));
        } else {
            assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        }
        assert_eq!(attempts.load(SeqCst), if waits { 2 } else { 1 });
    }
}

#[test]
fn a_body_is_sent_again_up_to_the_bound() {
    for (length, again) in [(0, true), (1000, true), (1024, true), (1025, false), (1 << 20, false)] {
        let (upstream, attempts) = fails_first(closes);
        let gateway = before(&upstream, "on = [\"reset\"]\nbody = \"1KiB\"");
        let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let mut client = Client::connect(gateway.addr());
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).send(&body);
        let response = client.response();
        if again {
            assert_eq!((response.status, response.body == body), (200, true), "{length}");
        } else {
            assert_eq!((response.status, response.code().as_str()), (502, "upstream_reset"), "{length}");
        }
        assert_eq!(attempts.load(SeqCst), if again { 2 } else { 1 }, "{length}");
    }
}

#[test]
fn chunks_and_trailers_are_sent_again() {
    let (upstream, attempts) = fails_first(closes);
    let gateway = before(&upstream, "on = [\"reset\"]");
    let mut client = Client::connect(gateway.addr());
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
    let response =
        client.send(format!("{head}5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n")).response();
    assert_eq!((response.status, response.text().as_str()), (200, "hello world"));
    assert_eq!(attempts.load(SeqCst), 2);
    for request in upstream.requests() {
        assert_eq!(
            (request.body.as_slice(), request.trailers.get("x-sum")),
            (&b"hello world"[..], Some("11"))
        );
    }
}

/// The attempt ends while the client has not sent all of the body.
#[test]
fn a_body_that_is_still_on_its_way_goes_to_the_next_attempt() {
    type Fails = fn(&mut Call) -> io::Result<()>;
    let early: Fails = |call| {
        call.bytes(5)?;
        call.write("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")?;
        // It goes on reading, as upstreams do that keep the connection.
        call.wait_for_end()
    };
    let lost: Fails = |call| {
        call.bytes(5)?;
        call.close()
    };
    for (framing, pieces) in [
        ("Content-Length: 11", ["hello", " wor", "ld"]),
        ("Transfer-Encoding: chunked", ["5\r\nhello\r\n", "4\r\n wor\r\n", "2\r\nld\r\n0\r\n\r\n"]),
    ] {
        for fail in [early, lost] {
            let (upstream, attempts) = fails_first(fail);
            let gateway = before(&upstream, "on = [\"reset\", \"gateway-error\"]");
            let mut client = Client::connect(gateway.addr());
            client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{}", pieces[0]));
            eventually!(attempts.load(SeqCst) == 2, "{framing}");
            client.send(pieces[1]);
            let response = client.send(pieces[2]).response();
            assert_eq!((response.status, response.text().as_str()), (200, "hello world"), "{framing}");
        }
    }
}

#[test]
fn an_answer_that_has_begun_is_the_only_one() {
    for mood in [Mood::Breaks, Mood::Short] {
        let [bad, well] = &Faulty::several();
        bad.set(mood);
        let gateway =
            gateway(&[bad, well], &retry("on = [\"reset\", \"5xx\", \"timeout\", \"connect-failure\"]"));
        let mut broken = 0;
        for _ in 0..10 {
            let mut client = Client::connect(gateway.addr());
            match client.try_get("/") {
                Ok(response) => assert_eq!((response.status, response.text()), (200, well.to_string())),
                Err(_) => broken += 1,
            }
        }
        assert_eq!((broken, bad.count(), well.count()), (5, 5, 5), "{mood:?}");
        let codes: Vec<_> = gateway.access_lines(10).iter().map(|line| line["code"].clone()).collect();
        assert_eq!(codes.iter().filter(|code| **code == "upstream_reset").count(), 5, "{codes:?}");
    }
}

#[test]
fn every_attempt_goes_to_another_endpoint() {
    let endpoints: [Faulty; 4] = Faulty::several();
    endpoints.iter().for_each(|endpoint| endpoint.set(Mood::Status(503)));
    for method in ["round-robin", "least-request", "random", "hash"] {
        let before: Vec<_> = endpoints.iter().map(Faulty::count).collect();
        let key = if method == "hash" { "key = \"header:x-user\"\n" } else { "" };
        let balance = format!("[upstream.app.balance]\nmethod = \"{method}\"\n{key}");
        let gateway = gateway(&endpoints.each_ref(), &(balance + &retry("on = [\"5xx\"]\nattempts = 4")));
        let mut client = Client::connect(gateway.addr());
        for _ in 0..5 {
            assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\nX-User: me\r\n\r\n").response().status, 503);
        }
        let counts: Vec<_> = endpoints.iter().zip(before).map(|(one, before)| one.count() - before).collect();
        assert_eq!(counts, [5; 4], "{method}");
    }
}

#[test]
fn all_attempts_together_have_their_time() {
    let [one, other] = &Faulty::several();
    [one, other].iter().for_each(|endpoint| endpoint.set(Mood::Hangs));
    let keys = retry("on = [\"timeout\"]\nattempts = 20\nper_try = \"50ms\"");
    let gateway = gateway(&[one, other], &format!("timeouts = {{ total = \"400ms\" }}\n{keys}"));
    let begun = Instant::now();
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (504, "upstream_timeout"));
    let (took, attempts) = (begun.elapsed(), one.count() + other.count());
    assert!(took >= Duration::from_millis(350) && took < PATIENCE / 3, "{took:?}");
    assert!((2..=8).contains(&attempts), "{attempts}");
}

#[test]
fn a_second_endpoint_is_asked_where_the_first_is_slow() {
    let [slow, well] = &Faulty::several();
    slow.set(Mood::Hangs);
    let gateway = gateway(&[slow, well], &retry("hedge = \"50ms\""));
    assert_eq!(served(&gateway, 10, GET), 10);
    assert_eq!((slow.count() > 0, well.count()), (true, 10));
    assert_eq!(gateway.upstream("app")["retries"], slow.count());
    // Who came too late is taken back.
    eventually!(slow.under_way() == 0 && gateway.endpoint("app", slow)["in_flight"] == 0);
    // What may not be done twice is not.
    let answered = (0..2).filter(|_| {
        let mut client = Client::connect(gateway.addr());
        client.send(POST);
        !client.is_silent_for(Duration::from_millis(500))
    });
    assert_eq!(answered.count(), 1);
}

#[test]
fn with_every_endpoint_failing_attempts_stay_within_the_budget() {
    const REQUESTS: usize = 300;
    let down: [Faulty; 2] = std::array::from_fn(|_| Faulty::down());
    for mood in [Some(Mood::Status(503)), Some(Mood::Resets), None] {
        let up: [Faulty; 2] = Faulty::several();
        let endpoints = if mood.is_some() { &up } else { &down };
        endpoints.iter().for_each(|endpoint| endpoint.set(mood.unwrap_or(Mood::Well)));
        let keys = "[upstream.app.retry]\nback_off = \"1ms\"\nattempts = 5\non = [\"reset\", \"5xx\", \"connect-failure\"]\n\
                    budget = { percent = 20, per_second = 1 }\n";
        let gateway = gateway(&endpoints.each_ref(), keys);
        let begun = Instant::now();
        assert_eq!(served(&gateway, REQUESTS, GET), 0);
        let upstream = gateway.upstream("app");
        let attempts = upstream["requests"].as_u64().unwrap() as usize;
        // What was not spent within ten seconds is gone, so longer than that there may be another reserve.
        let reserve = 10 * (1 + begun.elapsed().as_secs() as usize / 10);
        println!("{mood:?}: {attempts} attempts at {REQUESTS} requests");
        assert!((REQUESTS + 10..=REQUESTS * 6 / 5 + reserve).contains(&attempts), "{attempts}");
        assert!(upstream["retries_refused"].as_u64() > Some(100), "{upstream}");
        assert_eq!(
            endpoints.iter().map(Faulty::count).sum::<usize>(),
            if mood.is_some() { attempts } else { 0 }
        );
    }
}

#[test]
fn pauses_grow() {
    let upstream = Faulty::start();
    upstream.set(Mood::Status(503));
    let keys = "[upstream.app.retry]\nattempts = 6\non = [\"5xx\"]\nback_off = \"100ms\"\nmax_back_off = \"100ms\"\n\
                budget = { percent = 1000 }\n";
    let gateway = gateway(&[&upstream], keys);
    // Each of 20 pauses is up to 100 ms, by chance: less than 200 ms together hardly ever happens.
    let begun = Instant::now();
    assert_eq!(served(&gateway, 4, GET), 0);
    assert_eq!(upstream.count(), 24);
    assert!(begun.elapsed() > Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[test]
fn a_request_that_a_client_gives_up_is_not_tried_again() {
    let gate = Gate::new();
    let shared = gate.clone();
    let (upstream, attempts) = fails_first(move |call| {
        call.body()?;
        shared.wait();
        call.close()
    });
    let gateway = before(&upstream, "on = [\"reset\"]");
    let mut client = Client::connect(gateway.addr());
    client.send(GET);
    eventually!(attempts.load(SeqCst) == 1);
    drop(client);
    eventually!(!gateway.access().is_empty());
    gate.open();
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(attempts.load(SeqCst), 2);
}

/// What a client takes to send its request is no fault of the endpoint.
#[test]
fn a_slow_client_costs_no_attempt() {
    let (upstream, attempts) = fails_first(|call| {
        call.body()?;
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
    });
    let keys = "on = [\"timeout\", \"reset\"]\nper_try = \"100ms\"";
    let gateway = before(&upstream, keys);
    let mut client = Client::connect(gateway.addr());
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert!(client.is_silent_for(Duration::from_millis(300)));
    assert_eq!(client.send("world").response().text(), "first");
    assert_eq!((attempts.load(SeqCst), gateway.upstream("app")["failures"].as_u64()), (1, Some(0)));
}

/// The system has no room for further connections, and lets the gateway wait.
#[test]
fn a_connection_that_takes_too_long_is_no_connection() {
    let port = Reserved::new();
    let full = port.listen_for(0);
    let address = port.address();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let _queue: Vec<_> = std::iter::from_fn(|| connect().ok()).take(64).collect();
    let well = Faulty::start();
    let rest = format!("timeouts = {{ connect = \"200ms\" }}\n{ONE}");
    let gateway = TestGateway::start(&before_all(&[&address, &well], &rest));
    assert_eq!(served(&gateway, 4, POST), 4);
    assert!(gateway.endpoint("app", &address)["failures"].as_u64() >= Some(2));
    drop(full);
}

#[test]
fn second_requests_have_a_budget_too() {
    let [one, other] = &Faulty::several();
    [one, other].iter().for_each(|endpoint| endpoint.set(Mood::Slow(Duration::from_millis(40))));
    let keys = "[upstream.app.retry]\nhedge = \"5ms\"\nbudget = { percent = 20, per_second = 0.5 }\n";
    let gateway = gateway(&[one, other], keys);
    let answers = Load::get(gateway.addr(), "/", 100).count(100);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let attempts = one.count() + other.count();
    assert!(attempts <= answers.len() * 6 / 5 + 6, "{attempts} for {}", answers.len());
}

/// One of three is killed under load: nobody notices, it is left alone, and it is back soon after it is.
#[test]
fn a_killed_nginx_costs_no_request() {
    const INTERVAL: Duration = Duration::from_millis(500);
    let Some(program) = peer("nginx") else { return };
    let server = "keepalive_requests 1000000; location / { return 200 ok; } ";
    let mut servers: [Nginx; 3] = std::array::from_fn(|_| Nginx::start(program.clone(), server));
    let rest = "[upstream.app.retry]\nattempts = 3\non = [\"connect-failure\", \"reset\"]\n\
                [upstream.app.outliers]\nfailures = 5\n\
                [upstream.app.health]\ninterval = \"500ms\"\njitter = 0\nsuccesses = 1\nfailures = 3\n";
    let endpoints = servers.each_ref().map(|server| server.address);
    let gateway = TestGateway::start(&before_all(&endpoints.each_ref().map(|one| one as _), rest));
    let victim = endpoints[1];
    let asked = || gateway.endpoint("app", &victim)["requests"].as_u64().unwrap_or_default();
    eventually!(endpoints.iter().all(|endpoint| gateway.serves(endpoint)));

    let load = Load::get(gateway.addr(), "/", 2000).connections(32).start();
    eventually!(asked() > 500);
    servers[1].kill();
    eventually!(!gateway.serves(&victim));
    let (out, failures) = (asked(), gateway.endpoint("app", &victim)["failures"].clone());
    eventually!(gateway.endpoint("app", &victim)["state"] == "unhealthy");
    assert_eq!(asked(), out, "it gets nothing any more");
    servers[1].restart();
    let restarted = Instant::now();
    eventually!(asked() > out);
    let back = restarted.elapsed();
    thread::sleep(Duration::from_millis(200));
    let answers = load.stop();

    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    let time = answers.last().unwrap().sent - answers[0].sent;
    println!(
        "{} requests in {time:?}, {} failed; {failures} attempts at the dead one failed; back after {back:?}",
        answers.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:?}");
    assert!(back < INTERVAL + Duration::from_millis(300), "{back:?}");
}
