//! Who is in service: what checks find out, and what requests do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use wasmgate_tests::{
    Client, Faulty, Gate, GrpcHealth, Mood, TestGateway, TestUpstream, before, before_all, eventually,
};

const ONE: &str = "[server]\nworkers = 1\n";

fn gateway(endpoints: &[&Faulty], rest: &str) -> TestGateway {
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| *endpoint as _).collect();
    TestGateway::start(&before_all(&endpoints, &format!("{rest}{ONE}")))
}

/// Checks that come often and decide at once.
fn checks(keys: &str) -> String {
    format!(
        "[upstream.app.balance]\npanic = 0\n[upstream.app.health]\ninterval = \"50ms\"\ntimeout = \"2s\"\nsuccesses = 1\nfailures = 1\njitter = 0\n{keys}\n"
    )
}

/// Sends requests until so many came to an endpoint.
fn send_until(gateway: &TestGateway, endpoint: &Faulty, count: usize) {
    let mut client = Client::connect(gateway.addr());
    while endpoint.count() < count {
        client.get("/");
    }
}

#[test]
fn an_http_check_asks_as_it_was_told_and_looks_at_status_and_body() {
    let status = Arc::new(AtomicU16::new(204));
    let shared = status.clone();
    let upstream = TestUpstream::start(move |call| {
        call.body()?;
        let status = shared.load(SeqCst);
        let body = if status == 299 { "it is fine" } else { "it is not" };
        call.write(format!("HTTP/1.1 {status} Some\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    });
    status.store(299, SeqCst);
    let rest = checks(
        "method = \"POST\"\npath = \"/ready?deep=1\"\nheaders = { x-token = \"secret\" }\nhost = \"check.test\"\n\
         status = [\"299\", \"400-410\"]\nbody = \"is fine\"",
    );
    let gateway = TestGateway::before(&upstream, &rest);
    eventually!(upstream.count() > 1);
    let request = upstream.take_requests().remove(0);
    assert_eq!(request.head.start, "POST /ready?deep=1 HTTP/1.1");
    assert_eq!(request.header("host"), Some("check.test"));
    assert_eq!(request.header("x-token"), Some("secret"));
    let address = upstream.address();
    eventually!(gateway.serves(&address));
    for (bad, trouble) in [(200, "status 200"), (405, "the body is another"), (503, "status 503")] {
        status.store(bad, SeqCst);
        eventually!(!gateway.serves(&address), "{bad}");
        let endpoint = gateway.endpoint("app", &address);
        assert_eq!(endpoint["state"], "unhealthy");
        eventually!(gateway.endpoint("app", &address)["trouble"] == trouble, "{trouble}: {endpoint}");
        assert_eq!(gateway.get("/").code(), "no_healthy_upstream");
        status.store(299, SeqCst);
        eventually!(gateway.serves(&address));
        assert_eq!(gateway.get("/").status, 299);
    }
    assert_eq!(gateway.logged("is not healthy: status 503").len(), 1, "{}", gateway.log());
}

#[test]
fn thresholds_count_results_in_a_row() {
    let statuses = [200, 500, 500, 200, 500, 500, 500, 200, 500, 200, 200];
    let gates: Arc<[Gate; 11]> = Arc::default();
    let shared = gates.clone();
    let upstream = TestUpstream::start(move |call| {
        let number = call.number;
        if let Some(gate) = shared.get(number) {
            gate.wait();
        }
        let status = statuses.get(number).copied().unwrap_or(200);
        call.write(format!("HTTP/1.1 {status} Some\r\nContent-Length: 0\r\n\r\n"))
    });
    let rest = "[upstream.app.health]\ninterval = \"20ms\"\ntimeout = \"60s\"\nsuccesses = 2\nfailures = 3\n";
    let gateway = TestGateway::before(&upstream, rest);
    for (number, gate) in gates.iter().enumerate() {
        eventually!(upstream.count() == number + 1, "check {number} does not come");
        // Third failure in a row: 6; second success in a row: 10.
        assert_eq!(gateway.serves(&upstream.address()), number <= 6, "before check {number}");
        gate.open();
    }
    eventually!(gateway.serves(&upstream.address()));
}

#[test]
fn a_check_that_takes_too_long_failed() {
    let upstream = Faulty::start();
    upstream.set(Mood::Hangs);
    let gateway = gateway(&[&upstream], &checks("").replace("2s", "100ms"));
    eventually!(!gateway.serves(&upstream));
    assert_eq!(gateway.endpoint("app", &upstream)["trouble"], "no answer within 100 ms");
    upstream.set(Mood::Well);
    eventually!(gateway.serves(&upstream));
}

#[test]
fn a_tcp_check_connects_also_to_another_port() {
    let [upstream, mut lamp] = Faulty::several();
    upstream.set(Mood::Status(500));
    lamp.set(Mood::Hangs);
    let port = lamp.address().port();
    let gateway = gateway(&[&upstream], &checks(&format!("kind = \"tcp\"\nport = {port}")));
    eventually!(lamp.connections() > 1);
    assert!(gateway.serves(&upstream));
    lamp.kill();
    eventually!(!gateway.serves(&upstream));
    lamp.restart();
    eventually!(gateway.serves(&upstream));
    assert_eq!((upstream.connections(), lamp.count()), (0, 0));
}

#[test]
fn a_grpc_check_asks_for_a_service() {
    let upstream = GrpcHealth::start();
    let config = |service: &str| {
        before(&upstream.address(), &checks(&format!("kind = \"grpc\"\nservice = \"{service}\"")))
    };
    let gateway = TestGateway::start(&config("app"));
    let address = upstream.address();
    eventually!(gateway.serves(&address));
    for status in [2, 0, 3] {
        upstream.set(status);
        eventually!(!gateway.serves(&address), "{status}");
        upstream.set(1);
        eventually!(gateway.serves(&address));
    }
    gateway.write_config(&config("other"));
    gateway.reload();
    eventually!(!gateway.serves(&address));
    assert_eq!(gateway.endpoint("app", &address)["trouble"], "gRPC status 5");
    // What does not speak HTTP/2 is not healthy either.
    let plain = Faulty::start();
    gateway.write_config(&before(&plain, &checks("kind = \"grpc\"")));
    gateway.reload();
    eventually!(!gateway.serves(&plain));
}

#[test]
fn nobody_is_trusted_before_the_first_check_where_so_wanted() {
    let gate = Gate::new();
    let shared = gate.clone();
    let upstream = TestUpstream::start(move |call| {
        if call.head.start.contains("/ready") {
            shared.wait();
        }
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let rest = checks("path = \"/ready\"\ninitial = \"unhealthy\"\nsuccesses = 9")
        .replace("successes = 1\n", "")
        .replace("2s", "60s");
    let gateway = TestGateway::before(&upstream, &rest);
    eventually!(upstream.count() == 1);
    assert_eq!(gateway.get("/").code(), "no_healthy_upstream");
    gate.open();
    // The first check of all counts alone.
    eventually!(gateway.get("/").status == 200);
    assert!(upstream.count() < 9);
}

#[test]
fn one_prober_is_enough_for_all_workers() {
    let upstream = Faulty::start();
    let endpoints = before_all(&[&upstream], &format!("[server]\nworkers = 4\n{}", checks("")));
    let begun = Instant::now();
    let _gateway = TestGateway::start(&endpoints);
    eventually!(upstream.count() >= 10);
    let (checks, intervals) = (upstream.count(), begun.elapsed().as_millis() / 50);
    assert!(checks as u128 <= intervals + 2, "{checks} checks in {intervals} intervals");
}

#[test]
fn checks_of_an_endpoint_that_is_gone_end() {
    let [stays, goes] = &Faulty::several();
    let gateway = gateway(&[stays, goes], &checks(""));
    eventually!(goes.count() > 1);
    gateway.write_config(&before(stays, &checks("")));
    gateway.reload();
    let (gone, there) = (goes.count(), stays.count());
    eventually!(stays.count() > there + 5);
    assert!(goes.count() <= gone + 1);
    eventually!(!gateway.metrics().contains(&format!("endpoint=\"{goes}\"")));
}

#[test]
fn where_nobody_asks_any_more_nobody_is_ill() {
    let [well, ill] = &Faulty::several();
    ill.set(Mood::Status(500));
    let gateway = gateway(&[well, ill], &checks(""));
    eventually!(!gateway.serves(ill));
    gateway.write_config(&before_all(&[well, ill], ONE));
    gateway.reload();
    eventually!(gateway.serves(ill));
    ill.set(Mood::Well);
    send_until(&gateway, ill, ill.count() + 1);
}

#[test]
fn failures_in_a_row_take_an_endpoint_out_and_time_brings_it_back() {
    let [bad, well, other] = &Faulty::several();
    bad.set(Mood::Status(503));
    let outliers = "[upstream.app.outliers]\nfailures = 3\nejection = \"1s\"\ninterval = \"100ms\"\n";
    let gateway = gateway(&[bad, well, other], outliers);
    send_until(&gateway, bad, 3);
    assert!(!gateway.serves(bad));
    let endpoint = gateway.endpoint("app", bad);
    assert_eq!(
        (&endpoint["state"], &endpoint["trouble"]),
        (&"ejected".into(), &"too many failures in a row".into())
    );
    let series = format!("wasmgate_upstream_endpoint_ejections_total{{upstream=\"app\",endpoint=\"{bad}\"}}");
    assert_eq!(gateway.metric(&series), 1.0);
    let mut client = Client::connect(gateway.addr());
    let served = (0..30).filter(|_| client.get("/").status == 200).count();
    assert_eq!((served, bad.count()), (30, 3));
    bad.set(Mood::Well);
    eventually!(gateway.serves(bad));
    send_until(&gateway, bad, 4);
    assert_eq!(gateway.endpoint("app", bad)["state"], "in service");
}

#[test]
fn what_counts_as_a_failure() {
    for (mood, keys, counts) in [
        (Mood::Resets, "failures = 4", true),
        (Mood::Status(502), "failures = 4", true),
        (Mood::Status(504), "failures = 4", true),
        (Mood::Status(500), "failures = 4", false),
        (Mood::Status(500), "failures = 0\nerrors = 4", true),
        (Mood::Status(404), "failures = 4\nerrors = 4", false),
        (Mood::Sometimes(503, 50), "failures = 4\nerrors = 4", false),
        (Mood::Hangs, "failures = 4", true),
    ] {
        let [bad, well] = &Faulty::several();
        bad.set(mood);
        let rest = format!("timeouts = {{ read = \"50ms\" }}\n[upstream.app.outliers]\n{keys}\n");
        let gateway = gateway(&[bad, well], &rest);
        let (mut client, before) = (Client::connect(gateway.addr()), well.count());
        for _ in 0..24 {
            client.get("/");
        }
        assert_eq!(
            (bad.count(), well.count() - before),
            if counts { (4, 20) } else { (12, 12) },
            "{mood:?} {keys}"
        );
        assert_ne!(gateway.serves(bad), counts, "{mood:?} {keys}");
    }
}

#[test]
fn answers_that_break_off_are_failures_although_they_begin_well() {
    for mood in [Mood::Breaks, Mood::Short] {
        let [bad, well] = &Faulty::several();
        bad.set(mood);
        let gateway = gateway(&[bad, well], "[upstream.app.outliers]\nfailures = 4\n");
        let served = || (0..12).filter(|_| Client::connect(gateway.addr()).try_get("/").is_ok()).count();
        assert_eq!((served(), bad.count(), gateway.serves(bad)), (8, 4, false), "{mood:?}");
        assert_eq!(gateway.metric("wasmgate_upstream_responses_broken_off_total{upstream=\"app\"}"), 4.0);
    }
}

#[test]
fn a_client_that_leaves_is_not_held_against_the_endpoint() {
    let [slow, well] = &Faulty::several();
    slow.set(Mood::Hangs);
    well.set(Mood::Hangs);
    let gateway = gateway(&[slow, well], "[upstream.app.outliers]\nfailures = 2\n");
    for number in 0..8 {
        let mut client = Client::connect(gateway.addr());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually!(slow.count() + well.count() == number + 1);
    }
    eventually!(gateway.access().len() == 8);
    assert!(gateway.serves(slow) && gateway.serves(well));
    let cancelled = "wasmgate_upstream_requests_total{upstream=\"app\",status=\"cancelled\"}";
    assert_eq!(gateway.metric(cancelled), 8.0);
}

#[test]
fn rates_take_out_who_is_much_worse_than_the_others() {
    for keys in [
        "success_rate = { endpoints = 5, requests = 10, factor = 1.5 }",
        "failure_rate = { percent = 50, requests = 10 }",
    ] {
        let endpoints: [Faulty; 5] = Faulty::several();
        endpoints[2].set(Mood::Sometimes(500, 60));
        let rest = format!("[upstream.app.outliers]\nfailures = 0\ninterval = \"500ms\"\n{keys}\n");
        let gateway = gateway(&endpoints.each_ref(), &rest);
        let mut client = Client::connect(gateway.addr());
        eventually!({
            (0..100).for_each(|_| _ = client.get("/"));
            !gateway.serves(&endpoints[2])
        });
        assert!(endpoints.iter().filter(|endpoint| gateway.serves(endpoint)).count() == 4, "{keys}");
        let before = endpoints[2].count();
        assert!((0..50).all(|_| client.get("/").status == 200));
        assert_eq!(endpoints[2].count(), before);
    }
}

#[test]
fn so_many_may_be_out_and_no_more() {
    for (share, out) in [(50, 2), (25, 1), (0, 0), (100, 4)] {
        let endpoints: [Faulty; 4] = Faulty::several();
        endpoints.iter().for_each(|endpoint| endpoint.set(Mood::Status(503)));
        let rest = format!(
            "[upstream.app.balance]\npanic = 0\n[upstream.app.outliers]\nfailures = 1\nmax_ejected = {share}\n"
        );
        let gateway = gateway(&endpoints.each_ref(), &rest);
        let mut client = Client::connect(gateway.addr());
        (0..40).for_each(|_| _ = client.get("/"));
        let ejected = endpoints.iter().filter(|endpoint| !gateway.serves(endpoint)).count();
        assert_eq!(ejected, out, "of 4 with {share} %");
    }
}

#[test]
fn a_check_that_succeeds_again_ends_an_ejection() {
    let [mut dead, well] = Faulty::several();
    let rest =
        checks("") + "[upstream.app.outliers]\nfailures = 1\nejection = \"10m\"\nmax_ejection = \"10m\"\n";
    let gateway = gateway(&[&dead, &well], &rest);
    eventually!(dead.count() > 0);
    dead.kill();
    eventually!(!gateway.serves(&dead));
    let mut client = Client::connect(gateway.addr());
    (0..10).for_each(|_| _ = client.get("/"));
    eventually!(gateway.endpoint("app", &dead)["state"] == "unhealthy");
    dead.restart();
    eventually!(gateway.serves(&dead));
}

#[test]
fn an_operator_takes_an_endpoint_out_and_lets_it_back_in() {
    let [one, other] = &Faulty::several();
    let token = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"\n";
    let config = before_all(&[one, other], ONE).replace("[admin]\naddress = \"127.0.0.1:0\"\n", token);
    let gateway = TestGateway::start_with(&config, &[("TOKEN", "secretsecretsecret")]);
    one.set(Mood::Slow(Duration::from_secs(1)));
    let mut clients = [(); 2].map(|()| Client::connect(gateway.addr()));
    clients.iter_mut().for_each(|client| _ = client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    eventually!(one.under_way() == 1 && other.count() == 1);
    let post = |path: &str, endpoint: &str| {
        let body = format!("{{\"endpoint\":\"{endpoint}\"}}");
        gateway.admin_order("secretsecretsecret", "POST", path, &body).status
    };
    assert_eq!(post("/upstreams/app/drain", &one.to_string()), 200);
    let mut client = Client::connect(gateway.addr());
    assert!((0..10).all(|_| client.get("/").text() == other.to_string()));
    assert!(clients.iter_mut().all(|client| client.response().status == 200), "what it was at, it finished");
    gateway.reload();
    assert_eq!(gateway.endpoint("app", one)["state"], "drained");
    assert_eq!(one.count(), 1);
    assert_eq!(post("/upstreams/app/restore", &one.to_string()), 200);
    one.set(Mood::Well);
    eventually!({
        client.get("/");
        one.count() > 1
    });
    assert_eq!([post("/upstreams/none/drain", "x"), post("/upstreams/app/drain", "x")], [404, 404]);
}
