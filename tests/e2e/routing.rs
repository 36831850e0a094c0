//! Which route takes a request, what it sends upstream, and what comes where none does.

use wasmgate_tests::{TestGateway, TestUpstream, fill, request};

/// Routes that tell their name in the path they send.
fn gateway(upstream: &TestUpstream, matches: &[(&str, &str)]) -> TestGateway {
    let route = |(name, rule): &(&str, &str)| {
        format!(
            "[[route]]\nname = \"{name}\"\nupstream = \"app\"\nmatch = {{ {rule} }}\nrewrite = \"/{name}\"\n"
        )
    };
    TestGateway::before(upstream, &matches.iter().map(route).collect::<String>())
}

/// The route that took it; its status where none did.
fn taken(gateway: &TestGateway, method: &str, target: &str, headers: &str) -> String {
    let response = request(gateway.addr(), method, target, headers);
    let name = response.header("x-target").map(|target| target.trim_start_matches('/').to_owned());
    name.map(|name| name.split('?').next().unwrap_or_default().to_owned())
        .unwrap_or(response.status.to_string())
}

#[test]
fn hosts_from_the_most_specific() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(
        &upstream,
        &[
            ("any", ""),
            ("wild", "host = \"*.b.test\""),
            ("exact", "host = \"c.b.test\""),
            ("deeper", "host = \"*.c.b.test\""),
            ("two", "host = [\"x.test\", \"y.test\"]"),
        ],
    );
    for (host, route) in [
        ("c.b.test", "exact"),
        ("C.B.TEST", "exact"),
        ("c.b.test:8080", "exact"),
        ("c.b.test.", "exact"),
        ("d.b.test", "wild"),
        ("e.d.b.test", "wild"),
        ("d.c.b.test", "deeper"),
        ("b.test", "any"),
        ("y.test", "two"),
        ("z.test", "any"),
        ("[::1]:80", "any"),
    ] {
        let mut client = wasmgate_tests::Client::connect(gateway.addr());
        let response = client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
        assert_eq!(response.header("x-target"), Some(format!("/{route}").as_str()), "{host}");
    }
}

#[test]
fn paths_from_the_most_specific() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(
        &upstream,
        &[
            ("below", "path = \"/users/*\""),
            ("one", "path = \"/users/{id}\""),
            ("exact", "path = \"/users/me\""),
            ("rest", "path = \"/files/{rest*}\""),
            ("regex", "path = \"~ /v[0-9]+/.*\""),
        ],
    );
    for (path, route) in [
        ("/users/me", "exact"),
        ("/users/7", "one"),
        ("/users/7/posts", "below"),
        ("/users", "below"),
        ("/usersx", "404"),
        ("/files/a/b", "rest"),
        ("/v12/x", "regex"),
        ("/vx/x", "404"),
        ("/a/v1/x", "404"),
        ("/users/./me", "exact"),
        ("/x/../users/me", "exact"),
        ("/users/me?x=1", "exact"),
    ] {
        assert_eq!(taken(&gateway, "GET", path, ""), route, "{path}");
    }
}

#[test]
fn methods_headers_and_queries() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(
        &upstream,
        &[
            ("get", "path = \"/m\", methods = [\"GET\"]"),
            ("post", "path = \"/m\", methods = [\"POST\", \"PUT\"]"),
            ("plain", "path = \"/h\""),
            ("acme", "path = \"/h\", headers = { x-tenant = \"acme\" }"),
            ("digits", "path = \"/h\", headers = { x-tenant = { regex = \"[0-9]+\" } }"),
            ("prefix", "path = \"/h\", headers = { x-tenant = { prefix = \"eu-\" } }"),
            ("absent", "path = \"/n\", headers = { x-internal = { present = false } }"),
            ("page", "path = \"/q\", query = { page = { present = true } }"),
            ("second", "path = \"/q\", query = { page = \"2\", sort = \"up\" }"),
        ],
    );
    for (method, target, headers, route) in [
        ("GET", "/m", "", "get"),
        ("POST", "/m", "", "post"),
        ("PUT", "/m", "", "post"),
        ("DELETE", "/m", "", "404"),
        ("GET", "/h", "", "plain"),
        ("GET", "/h", "X-Tenant: acme\r\n", "acme"),
        ("GET", "/h", "X-Tenant: 42\r\n", "digits"),
        ("GET", "/h", "X-Tenant: 42a\r\n", "plain"),
        ("GET", "/h", "X-Tenant: eu-1\r\n", "prefix"),
        ("GET", "/n", "", "absent"),
        ("GET", "/n", "X-Internal: 1\r\n", "404"),
        ("GET", "/q", "", "404"),
        ("GET", "/q?page=1", "", "page"),
        ("GET", "/q?sort=up&page=2", "", "second"),
        ("GET", "/q?page=2", "", "page"),
    ] {
        assert_eq!(taken(&gateway, method, target, headers), route, "{method} {target} {headers:?}");
    }
    assert_eq!(
        request(gateway.addr(), "HEAD", "/m", "").header("x-target"),
        Some("/get"),
        "GET stands for HEAD"
    );
}

#[test]
fn priority_comes_before_all() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream, &[("exact", "path = \"/a\""), ("first", "path = \"/*\", priority = 1")]);
    assert_eq!(taken(&gateway, "GET", "/a", ""), "first");
}

#[test]
fn a_route_may_belong_to_a_listener() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::start(&fill(
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"inner\"\naddress = \"127.0.0.1:0\"\n\
         [upstream.app]\nendpoints = [\"{upstream}\"]\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\nmatch = { path = \"/a\" }\nrewrite = \"/all\"\n\
         [[route]]\nname = \"inner\"\nupstream = \"app\"\nmatch = { listener = \"inner\", path = \"/secret\" }\nrewrite = \"/inner\"\n",
        &[("upstream", &upstream.address())],
    ));
    assert_eq!(gateway.get("/secret").status, 404);
    assert_eq!(wasmgate_tests::get(gateway.listener("inner"), "/secret").header("x-target"), Some("/inner"));
    assert_eq!(wasmgate_tests::get(gateway.listener("inner"), "/a").header("x-target"), Some("/all"));
}

#[test]
fn paths_are_stripped_and_rewritten() {
    let upstream = TestUpstream::echo();
    let route =
        |name: &str, rest: &str| format!("[[route]]\nname = \"{name}\"\nupstream = \"app\"\n{rest}\n");
    let gateway = TestGateway::before(
        &upstream,
        &[
            route("strip", "match = { path = \"/api/*\" }\nstrip_prefix = \"/api\""),
            route("param", "match = { path = \"/v1/users/{id}\" }\nrewrite = \"/v2/people/{id}\""),
            route("rest", "match = { path = \"/files/{rest*}\" }\nrewrite = \"/store/{rest}\""),
            route(
                "regex",
                "match = { path = \"~ /(?<lang>[a-z]{2})/(?<page>.+)\" }\nrewrite = \"/{page}/{lang}\"",
            ),
        ]
        .concat(),
    );
    for (sent, seen) in [
        ("/api/users?x=1", "/users?x=1"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/a%2Fb", "/a%2Fb"),
        ("/v1/users/7?y=2", "/v2/people/7?y=2"),
        ("/files/a/b.txt", "/store/a/b.txt"),
        ("/en/help", "/help/en"),
    ] {
        assert_eq!(gateway.get(sent).header("x-target"), Some(seen), "{sent}");
    }
}

#[test]
fn endpoints_share_by_weight() {
    let (one, three) = (TestUpstream::ok(), TestUpstream::ok());
    let gateway = TestGateway::start(&fill(
        "[server]\nworkers = 1\n[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[upstream.app]\n\
         endpoints = [\"{one}\", { address = \"{three}\", weight = 3 }]\n[[route]]\nname = \"all\"\nupstream = \"app\"\n",
        &[("one", &one.address()), ("three", &three.address())],
    ));
    for _ in 0..40 {
        gateway.get("/");
    }
    assert_eq!((one.requests().len(), three.requests().len()), (10, 30));
}

#[test]
fn a_missing_route_is_a_404_in_the_form_that_the_client_takes() {
    let gateway = gateway(&TestUpstream::ok(), &[("one", "path = \"/one\"")]);
    for (accept, media_type, start) in [
        ("", "application/problem+json", "{"),
        ("Accept: */*\r\n", "application/problem+json", "{"),
        ("Accept: application/json\r\n", "application/problem+json", "{"),
        (
            "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n",
            "text/html; charset=utf-8",
            "<!doctype html>",
        ),
        ("Accept: text/plain\r\n", "text/plain; charset=utf-8", "404 "),
        ("Accept: text/html;q=0.1, text/plain;q=0.5\r\n", "text/plain; charset=utf-8", "404 "),
        ("Accept: image/png\r\n", "application/problem+json", "{"),
    ] {
        let response = request(gateway.addr(), "GET", "/none", accept);
        assert_eq!((response.status, response.header("content-type")), (404, Some(media_type)), "{accept}");
        assert!(response.text().starts_with(start), "{accept}: {}", response.text());
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    let problem: serde_json::Value = serde_json::from_slice(&gateway.get("/none").body).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&404.into(), &"route_not_found".into()));
    assert_eq!(
        (&problem["title"], &problem["type"]),
        (&"Not Found".into(), &"urn:wasmgate:error:route_not_found".into())
    );
}

#[test]
fn a_route_without_upstream_says_so() {
    let gateway = TestGateway::start(
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[plugin.rogue]\nfile = \"{guests}/rogue.wasm\"\n\
         [[route]]\nname = \"all\"\nplugins = [\"rogue\"]\n",
    );
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (503, "no_upstream"));
}
