//! The shipped plugins, from a client's request to what the upstream got.

use wasmgate_tests::{TestGateway, TestUpstream, request};

/// SHA-256 of "demo-key".
const DEMO: &str = "c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c";

const PLUGINS: &str = "[plugins]\ndirectory = \"{plugins}\"\n";

/// The gateway with the shipped plugins at hand.
fn start(upstream: &TestUpstream, rest: &str) -> TestGateway {
    TestGateway::before(upstream, &format!("{PLUGINS}{rest}"))
}

/// One route with these plugins before the upstream.
fn gateway(upstream: &TestUpstream, plugins: &str) -> TestGateway {
    let route = format!("[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [{plugins}]\n");
    start(upstream, &route)
}

fn key_auth(more: &str) -> String {
    let key =
        format!("{{ sha256 = \"{DEMO}\", consumer = \"alice\", plan = \"pro\", groups = [\"a\", \"b\"] }}");
    format!("{{ name = \"key-auth\", config = {{ keys = [{key}] {more} }} }}")
}

#[test]
fn request_id_makes_keeps_and_replaces_ids() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, "{ name = \"request-id\", config = { generator = \"uuid7\" } }");
    let made = gateway.get("/");
    let id = made.header("x-request-id").expect("an id").to_owned();
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "{id}");
    assert_eq!(upstream.request().header("x-request-id"), Some(&*id));

    let kept = request(gateway.addr(), "GET", "/", "X-Request-Id: order-4711\r\n");
    assert_eq!(kept.header("x-request-id"), Some("order-4711"));
    let replaced = request(gateway.addr(), "GET", "/", "X-Request-Id: a b\r\n");
    assert_ne!(replaced.header("x-request-id"), Some("a b"));
}

#[test]
fn an_id_is_in_the_error_and_in_the_access_log() {
    let config = "[[route]]\nname = \"all\"\nplugins = [\"request-id\"]\n";
    let gateway = start(&TestUpstream::ok(), config);
    let refused = request(gateway.addr(), "GET", "/", "X-Request-Id: order-4711\r\n");
    assert_eq!((refused.status, refused.code().as_str()), (503, "no_upstream"));
    assert!(refused.text().contains("\"request_id\":\"order-4711\""), "{}", refused.text());
    assert_eq!(gateway.access_lines(1)[0]["request_id"], "order-4711");
}

#[test]
fn key_auth_lets_known_keys_pass_and_tells_whose_they_are() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, &key_auth(", query = \"key\", cookie = \"session\""));
    for (target, headers) in [
        ("/", "X-Api-Key: demo-key\r\nX-Consumer-Id: root\r\n"),
        ("/?a=1&key=demo-key&b=2", ""),
        ("/", "Cookie: a=1; session=demo-key; b=2\r\n"),
    ] {
        assert_eq!(request(gateway.addr(), "GET", target, headers).status, 200, "{target} {headers}");
    }
    let seen = upstream.requests();
    assert_eq!(seen[0].head.fields.all("x-consumer-id"), ["alice"], "not the client's own");
    assert_eq!(seen[0].header("x-consumer-groups"), Some("a, b"));
    assert_eq!(seen[0].header("x-api-key"), None, "hidden");
    assert_eq!(seen[1].target(), "/?a=1&b=2", "hidden");
    assert_eq!(seen[2].header("cookie"), Some("a=1; b=2"), "hidden");
}

#[test]
fn key_auth_refuses_with_a_challenge() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, &key_auth(""));
    for (headers, detail) in [
        ("", "No API key found in request"),
        ("X-Api-Key: wrong\r\n", "Unauthorized"),
        ("X-Api-Key: demo-key\r\nX-Api-Key: other\r\n", "Duplicate API key found"),
    ] {
        let refused = request(gateway.addr(), "GET", "/", headers);
        assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"));
        assert_eq!(refused.header("www-authenticate"), Some("Key realm=\"gateway\""));
        assert!(refused.text().contains(detail), "{}", refused.text());
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn rate_limit_counts_by_consumer_and_says_what_is_left() {
    let limit = "{ name = \"rate-limit\", config = { key = \"consumer\", limit = { rate = 2, per = \"1h\" }, \
                 plans = { pro = { rate = 3, per = \"1h\" } } } }";
    let gateway = gateway(&TestUpstream::ok(), &format!("{}, {limit}", key_auth(", anonymous = \"guest\"")));
    let ask = |headers: &str| request(gateway.addr(), "GET", "/", headers);
    for (headers, burst) in [("", 2), ("X-Api-Key: demo-key\r\n", 3)] {
        for left in (0..burst).rev() {
            let passed = ask(headers);
            assert_eq!(passed.status, 200);
            assert_eq!(passed.header("x-ratelimit-limit"), Some(&*burst.to_string()));
            assert_eq!(passed.header("x-ratelimit-remaining"), Some(&*left.to_string()));
            assert_eq!(passed.header("ratelimit-policy"), Some(&*format!("\"default\";q={burst};w=3600")));
        }
        let limited = ask(headers);
        assert_eq!((limited.status, limited.code().as_str()), (429, "rate_limited"));
        let wait: u32 = limited.header("retry-after").and_then(|text| text.parse().ok()).expect("a time");
        assert!((1..=3600 / burst).contains(&wait), "{wait}");
        assert_eq!(limited.header("x-ratelimit-remaining"), Some("0"));
    }
    assert_eq!(gateway.metric("wasmgate_plugin_rate_limit_limited_total{}"), 2.0);
}

#[test]
fn rate_limit_is_one_for_all_workers() {
    let limit = "{ name = \"rate-limit\", config = { limit = { rate = 20, per = \"1h\" } } }";
    let route = format!(
        "[server]\nworkers = 4\n[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [{limit}]\n"
    );
    let gateway = start(&TestUpstream::ok(), &route);
    // Each request is a connection of its own, which the kernel gives to any worker.
    let passed = (0..60).filter(|_| gateway.get("/").status == 200).count();
    assert_eq!(passed, 20);
}

#[test]
fn headers_rewrites_both_ways() {
    let upstream =
        TestUpstream::answering("HTTP/1.1 200 OK\r\nServer: secret\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n");
    let rules = "{ name = \"headers\", config = { \
        request = { remove = [\"x-drop\"], rename = { x-old = \"x-new\" }, add = { x-tenant = \"${query.t|default('public')}\" }, \
                    set = { x-client = \"${client.ip} ${request.method}\" } }, \
        response = { remove = [\"server\"], append = { x-a = \"2\" }, set = { x-answer = \"${status} ${route}\" } } } }";
    let gateway = gateway(&upstream, rules);
    let answer = request(gateway.addr(), "GET", "/?t=acme", "X-Drop: 1\r\nX-Old: kept\r\n");
    let seen = upstream.request();
    assert_eq!((seen.header("x-drop"), seen.header("x-old")), (None, None));
    assert_eq!((seen.header("x-new"), seen.header("x-tenant")), (Some("kept"), Some("acme")));
    assert_eq!(seen.header("x-client"), Some("127.0.0.1 GET"));
    assert_eq!(answer.header("server"), None);
    assert_eq!(answer.head.fields.all("x-a"), ["1", "2"]);
    assert_eq!(answer.header("x-answer"), Some("200 all"));
}

#[test]
fn bot_detection_keeps_bots_out_and_browsers_in() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, "{ name = \"bot-detection\", config = { missing = \"deny\" } }");
    let ask = |agent: &str| {
        let headers = if agent.is_empty() { String::new() } else { format!("User-Agent: {agent}\r\n") };
        request(gateway.addr(), "GET", "/", &headers)
    };
    for agent in ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Googlebot/2.1"] {
        assert_eq!(ask(agent).status, 200, "{agent}");
    }
    for agent in ["curl/8.5.0", "python-requests/2.31.0", "Mozilla/5.0 (compatible; AhrefsBot/7.0)", ""] {
        let denied = ask(agent);
        assert_eq!((denied.status, denied.code().as_str()), (403, "bot_denied"), "{agent}");
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn respond_answers_and_echoes() {
    let config = "[[route]]\nname = \"fixed\"\nmatch = { path = \"/fixed\" }\n\
         plugins = [{ name = \"respond\", config = { status = 418, message = \"Short and stout\" } }]\n\
         [[route]]\nname = \"echo\"\nmatch = { path = \"/echo/{id}\" }\n\
         plugins = [{ name = \"respond\", config = { echo = true } }]\n";
    let gateway = start(&TestUpstream::ok(), config);
    let fixed = gateway.get("/fixed");
    assert_eq!((fixed.status, fixed.code().as_str()), (418, "terminated"));
    assert!(fixed.text().contains("Short and stout"));
    let mut client = wasmgate_tests::Client::connect(gateway.addr());
    client.send("POST /echo/7?x=y HTTP/1.1\r\nHost: a.test\r\nAuthorization: secret\r\nContent-Length: 5\r\n\r\nhello");
    let echo: serde_json::Value = serde_json::from_str(&client.response().text()).expect("JSON");
    assert_eq!((&echo["method"], &echo["body"]), (&"POST".into(), &"hello".into()));
    assert_eq!((&echo["path"], &echo["path_params"]["id"]), (&"/echo/7".into(), &"7".into()));
    assert!(!echo.to_string().contains("secret"), "{echo}");
}

#[test]
fn a_hidden_query_key_and_the_routes_prefix_both_go() {
    let upstream = TestUpstream::ok();
    let plugins = key_auth(", query = \"key\"");
    let route = |name: &str, rule: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nupstream = \"app\"\nmatch = {{ path = \"/{name}/*\" }}\n{rule}\nplugins = [{plugins}]\n"
        )
    };
    let config = route("strip", "strip_prefix = \"/strip\"") + &route("fixed", "rewrite = \"/v2\"");
    let gateway = start(&upstream, &config);
    for target in ["/strip/x?a=1&key=demo-key", "/strip/x?key=demo-key", "/fixed/x?a=1&key=demo-key"] {
        assert_eq!(gateway.get(target).status, 200, "{target}");
    }
    let seen: Vec<_> = upstream.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(seen, ["/x?a=1", "/x", "/v2?a=1"]);
}
