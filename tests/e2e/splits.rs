//! One route on several upstreams: splits, copies, fallback, maintenance.

use wasmgate_tests::{Client, Gate, TestGateway, TestUpstream, eventually, fill};

/// An upstream that says its name.
fn named(name: &'static str) -> TestUpstream {
    TestUpstream::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
}

const FRONT: &str = r#"
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
token = "${env:TOKEN}"
[upstream.old]
endpoints = ["{old}"]
[upstream.new]
endpoints = ["{new}"]
[[route]]
name = "all"
"#;

const TOKEN: &str = "a-token-of-some-length";

fn gateway(old: &TestUpstream, new: &TestUpstream, rest: &str) -> TestGateway {
    let config = fill(FRONT, &[("old", &old.address()), ("new", &new.address())]);
    TestGateway::start_with(&format!("{config}{rest}"), &[("TOKEN", TOKEN)])
}

/// Who answers a request with these fields.
fn who(client: &mut Client, target: &str, fields: &str) -> String {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).response().text()
}

#[test]
fn weights_are_kept_and_a_match_comes_before_them() {
    let (old, new) = (named("old"), named("new"));
    let gateway = gateway(
        &old,
        &new,
        r#"
        [route.split]
        branches = [
            { upstream = "old", weight = 90 },
            { upstream = "new", weight = 10, match = { headers = { x-canary = "1" }, query = { v = { present = true } } } },
            { upstream = "new", match = { cookies = { canary = "yes" } } },
        ]
        "#,
    );
    let mut client = Client::connect(gateway.addr());
    let count = (0..2000).filter(|_| who(&mut client, "/", "") == "new").count();
    // Five standard deviations around 200.
    assert!((133..=267).contains(&count), "{count}");
    for _ in 0..20 {
        assert_eq!(who(&mut client, "/?v=1", "X-Canary: 1\r\n"), "new");
        assert_eq!(who(&mut client, "/", "Cookie: a=b; canary=yes\r\n"), "new");
    }
    let half = (0..200).filter(|_| who(&mut client, "/", "X-Canary: 1\r\n") == "new").count();
    assert!(half < 60, "one key of two is no match: {half}");
}

#[test]
fn a_client_stays_with_its_branch() {
    let (old, new) = (named("old"), named("new"));
    let gateway = gateway(
        &old,
        &new,
        r#"split = { sticky = "header:x-user", branches = [{ upstream = "old", weight = 1 }, { upstream = "new", weight = 1 }] }"#,
    );
    let mut client = Client::connect(gateway.addr());
    let mut seen = Vec::new();
    for user in 0..40 {
        let fields = format!("X-User: u{user}\r\n");
        let first = who(&mut client, "/", &fields);
        assert!((0..5).all(|_| who(&mut client, "/", &fields) == first));
        seen.push(first);
    }
    assert!(seen.iter().any(|name| name == "old") && seen.iter().any(|name| name == "new"));
}

#[test]
fn a_cookie_of_the_gateway_keeps_a_client_with_its_branch() {
    let (old, new) = (named("old"), named("new"));
    let gateway = gateway(
        &old,
        &new,
        r#"split = { cookie = { cookie = "variant", max_age = "1h" }, branches = [{ upstream = "old", weight = 1 }, { upstream = "new", weight = 1 }] }"#,
    );
    let mut client = Client::connect(gateway.addr());
    for _ in 0..20 {
        let first = client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").response();
        let cookie = first.header("set-cookie").unwrap().to_owned();
        let (pair, attributes) = cookie.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax; Max-Age=3600");
        let again = client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {pair}\r\n\r\n")).response();
        assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
    }
}

#[test]
fn a_ramp_that_has_not_begun_gives_nothing_and_one_that_is_over_all() {
    let (old, new) = (named("old"), named("new"));
    for (start, expected) in [("2999-01-01T00:00:00Z", "old"), ("2020-01-01T00:00:00Z", "new")] {
        let gateway = gateway(
            &old,
            &new,
            &format!(
                r#"split = {{ branches = [{{ upstream = "old", weight = 1 }}, {{ upstream = "new", weight = 999999, ramp = {{ start = "{start}", over = "1h" }} }}] }}"#
            ),
        );
        let mut client = Client::connect(gateway.addr());
        assert!((0..20).all(|_| who(&mut client, "/", "") == expected), "{start}");
        let routes = gateway.admin_request("GET", "/routes", "").text();
        let branch = format!("\"upstream\": \"{expected}\",\n        \"percent\": 100.0");
        assert!(routes.contains(&branch), "{routes}");
    }
}

#[test]
fn copies_go_to_the_mirror_without_credentials_and_nobody_waits_for_them() {
    let (old, gate) = (named("old"), Gate::new());
    let held = gate.clone();
    let new = TestUpstream::start(move |call| {
        call.body()?;
        held.wait();
        call.write("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    });
    let gateway = gateway(
        &old,
        &new,
        "upstream = \"old\"\nmirror = { upstream = \"new\", methods = [\"GET\", \"POST\"], body = \"8B\", in_flight = 3 }\n",
    );
    let mut client = Client::connect(gateway.addr());
    assert_eq!(who(&mut client, "/a?b=c", "Authorization: x\r\nCookie: y=z\r\nX-Other: 1\r\n"), "old");
    let post =
        |body: &str| format!("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(client.send(post("12345678")).response().text(), "old");
    let chunked =
        "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(client.send(chunked).response().text(), "old");
    eventually!(new.count() == 3);
    // Three are under way, and one would be too long.
    assert_eq!(who(&mut client, "/more", ""), "old");
    assert_eq!(client.send(post("123456789")).response().text(), "old");
    let metrics = || gateway.admin_request("GET", "/metrics", "").text();
    assert!(metrics().contains("wasmgate_upstream_mirrored_total{upstream=\"new\"} 3"), "{}", metrics());
    assert!(
        metrics().contains("wasmgate_upstream_mirror_dropped_total{upstream=\"new\"} 2"),
        "{}",
        metrics()
    );
    let mut copies = new.take_requests();
    copies.sort_by_key(|copy| copy.target().to_owned());
    let [get, chunked, post] = &copies[..] else { panic!("{copies:?}") };
    assert_eq!((get.target(), get.header("x-other")), ("/a?b=c", Some("1")));
    assert_eq!((get.header("authorization"), get.header("cookie")), (None, None));
    assert_eq!(get.header("x-gateway-mirror"), Some("1"));
    assert_eq!((post.body.as_slice(), chunked.body.as_slice()), (&b"12345678"[..], &b"abcde"[..]));
    assert!(old.requests().iter().all(|request| request.header("x-gateway-mirror").is_none()));
    gate.open();
    eventually!({
        who(&mut client, "/again", "");
        new.count() > 0
    });
}

#[test]
fn the_fallback_takes_what_the_upstream_does_not() {
    let new = named("new");
    let dead = TestUpstream::nobody();
    let config = fill(FRONT, &[("old", &dead), ("new", &new.address())]);
    let rest = "upstream = \"old\"\nfallback = \"new\"\n[upstream.old.breaker]\nfailures = 1\n";
    let gateway = TestGateway::start_with(&format!("{config}{rest}"), &[("TOKEN", TOKEN)]);
    let mut client = Client::connect(gateway.addr());
    // No connection; then the breaker is open.
    for body in ["first", "second", "third"] {
        let length = body.len();
        let post = format!("POST /{body} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        assert_eq!(client.send(&post).response().text(), "new");
        assert_eq!(new.requests().last().unwrap().body, body.as_bytes());
    }
    let upstreams = gateway.admin_request("GET", "/upstreams", "").text();
    assert!(upstreams.contains("\"state\": \"open\""), "{upstreams}");
}

#[test]
fn the_fallback_takes_what_must_not_be_tried_again() {
    let new = named("new");
    let config = fill(FRONT, &[("old", &TestUpstream::nobody()), ("new", &new.address())]);
    let rest = "upstream = \"old\"\nfallback = \"new\"\n[upstream.old.retry]\n\
                budget = { percent = 0, per_second = 0 }\n";
    let gateway = TestGateway::start_with(&format!("{config}{rest}"), &[("TOKEN", TOKEN)]);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let answer = Client::connect(gateway.addr()).send(post).response();
    assert_eq!((answer.text().as_str(), &new.requests()[0].body[..]), ("new", &b"body"[..]));
    assert_eq!(gateway.metric("wasmgate_upstream_retries_refused_total{upstream=\"old\"}"), 1.0);
}

#[test]
fn an_upstream_in_maintenance_answers_but_for_some() {
    let (old, new) = (named("old"), named("new"));
    let maintenance = "upstream = \"old\"\n[upstream.old.maintenance]\nretry_after = \"90s\"\n";
    let gateway = gateway(&old, &new, maintenance);
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("90")));
    assert!(answer.text().contains("\"code\":\"maintenance\""), "{}", answer.text());
    let body = "body = \"Back soon.\"\nstatus = 200\n";
    let gateway = self::gateway(&old, &new, &format!("{maintenance}{body}"));
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Back soon."));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let gateway = self::gateway(&old, &new, &format!("{maintenance}allow = [\"127.0.0.0/8\"]\n"));
    assert_eq!(gateway.get("/").text(), "old");
}

#[test]
fn an_operator_drains_an_endpoint_and_holds_a_breaker() {
    let gate = Gate::new();
    let held = gate.clone();
    let old = TestUpstream::start(move |call| {
        held.wait();
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
    });
    let new = named("new");
    let config = "upstream = \"both\"\n[upstream.both]\nendpoints = [\"{old}\", { address = \"{new}\", priority = 1 }]\n\
        breaker = { failures = 100 }\n";
    let config = fill(config, &[("old", &old.address()), ("new", &new.address())]);
    let gateway = gateway(&old, &new, &config);
    let order = |method: &str, path: &str, body: &str| gateway.admin_order(TOKEN, method, path, body).status;
    let mut first = Client::connect(gateway.addr());
    first.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually!(old.count() == 1);
    let endpoint = format!("{{\"endpoint\": \"{}\"}}", old.address());
    assert_eq!(order("POST", "/upstreams/both/drain", &endpoint), 200);
    assert_eq!(gateway.get("/").text(), "new", "the first priority is drained");
    gate.open();
    assert_eq!(first.response().text(), "old", "what it was at is finished");
    assert_eq!(order("POST", "/upstreams/both/restore", &endpoint), 200);
    assert_eq!(gateway.get("/").text(), "old");
    assert_eq!(order("PUT", "/upstreams/both/breaker", "{\"force\": \"open\"}"), 200);
    let refused = gateway.get("/");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    assert!(refused.text().contains("circuit_open"));
    assert_eq!(order("PUT", "/upstreams/both/breaker", "{\"force\": null}"), 200);
    assert_eq!(gateway.get("/").status, 200);
    for (path, body, status) in [
        ("/upstreams/none/drain", endpoint.as_str(), 404),
        ("/upstreams/both/drain", "{\"endpoint\": \"10.0.0.1:1\"}", 404),
        ("/upstreams/both/drain", "{\"endpont\": \"\"}", 400),
    ] {
        assert_eq!(order("POST", path, body), status, "{path} {body}");
    }
    assert_eq!(order("PUT", "/upstreams/old/breaker", "{\"force\": \"open\"}"), 409);
}
