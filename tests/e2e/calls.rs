//! Requests of plugins to upstreams: what they may call, what they are told, and that nobody else waits for it.

use std::sync::Arc;

use wasmgate_tests::{Client, Gate, Request, TestGateway, TestUpstream, eventually, fill, request};

const CONFIG: &str = r#"
[server]
workers = {workers}
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[upstream.app]
endpoints = ["{app}"]
[upstream.other]
endpoints = ["{other}"]
[upstream.gone]
endpoints = ["{gone}"]
[upstream.hidden]
endpoints = ["{other}"]
[plugin.rogue]
file = "{guests}/rogue.wasm"
upstreams = ["other", "gone"]
limits = { log_rate = 100000{limits} }
"#;

struct Site {
    gateway: TestGateway,
    app: TestUpstream,
    other: Arc<TestUpstream>,
}

impl Site {
    /// With a route for each of these actions of the request phase, at /0, /1 and so on.
    fn new(other: TestUpstream, workers: usize, limits: &str, actions: &[&str]) -> Site {
        let app = TestUpstream::echo_headers();
        let gone = TestUpstream::nobody();
        let mut config = fill(
            CONFIG,
            &[
                ("workers", &workers),
                ("app", &app.address()),
                ("other", &other.address()),
                ("gone", &gone),
                ("limits", &limits),
            ],
        );
        for (place, action) in actions.iter().enumerate() {
            config += &format!(
                "[[route]]\nname = \"{place}\"\nupstream = \"app\"\nmatch = {{ path = \"/{place}\" }}\n\
                 plugins = [{{ name = \"rogue\", config = {{ name = \"a\", request = [{action}] }} }}]\n"
            );
        }
        Site { gateway: TestGateway::start(&config), app, other: Arc::new(other) }
    }

    /// What the plugin of the route was told.
    fn told(&self, place: usize) -> String {
        let path = format!("/{place}");
        let response = request(self.gateway.addr(), "GET", &path, "");
        assert_eq!(response.status, 200, "{}", response.text());
        self.app
            .take_requests()
            .pop()
            .and_then(|r| r.header("x-called").map(str::to_owned))
            .unwrap_or_default()
    }
}

/// A misspelt upstream would be seen by clients only, and let them in where errors do.
#[test]
fn an_upstream_that_a_plugin_may_not_call_is_told_when_the_config_is_loaded() {
    let front = fill(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[plugins]\ndirectory = \"{plugins}\"\n[upstream.app]\nendpoints = [\"127.0.0.1:1\"]\n",
        &[],
    );
    for (plugin, config, place) in [
        ("forward-auth", r#"upstream = "{of}", on_error = "allow""#, "upstream"),
        (
            "jwt",
            r#"issuers = [{ remote = { upstream = "{of}", path = "/" } }]"#,
            "issuers[0].remote.upstream",
        ),
        (
            "oauth2-introspection",
            r#"upstream = "{of}", path = "/", client_id = "a", client_secret = "b""#,
            "upstream",
        ),
    ] {
        for (of, grant) in [("ap", "\"app\""), ("app", "")] {
            let config = config.replace("{of}", of);
            let told = TestGateway::refused(&format!(
                "{front}[plugin.{plugin}]\nupstreams = [{grant}]\n[[route]]\nname = \"a\"\nupstream = \"app\"\n\
                 plugins = [{{ name = \"{plugin}\", config = {{ {config} }} }}]\n"
            ));
            assert!(told.contains("gateway.toml:12:"), "{told}");
            assert!(told.contains(&format!("{place}: the plugin may not call \"{of}\"")), "{told}");
        }
    }
}

fn answering(text: &str) -> TestUpstream {
    TestUpstream::answering(format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
}

#[test]
fn plugins_call_upstreams_that_their_table_names() {
    let site = Site::new(
        answering("hello"),
        1,
        "",
        &[
            "{ call = { path = \"/who?a=b\", body = \"asked\" } }",
            "{ call = { authority = \"idp.test\" } }",
            "{ call = { upstream = \"hidden\" } }",
            "{ call = { upstream = \"nowhere\" } }",
            "{ call = { upstream = \"gone\" } }",
            "{ call = { path = \"no-slash\" } }",
            "{ call = { authority = \"a\\nb\" } }",
            "{ call = { max_body = 4 } }",
        ],
    );
    assert_eq!(site.told(0), "201 hello");
    let asked: Request = site.other.request();
    assert_eq!((asked.head.start.as_str(), &asked.body[..]), ("POST /who?a=b HTTP/1.1", &b"asked"[..]));
    assert_eq!(asked.header("host"), Some(site.other.address().to_string().as_str()));
    assert_eq!(asked.header("x-from"), Some("a plugin"));
    site.other.take_requests();
    assert_eq!(site.told(1), "201 hello");
    assert_eq!(site.other.request().header("host"), Some("idp.test"));
    for (place, expected) in
        [(2, "Unknown"), (3, "Unknown"), (4, "Unreachable"), (5, "Invalid"), (6, "Invalid"), (7, "TooLarge")]
    {
        assert_eq!(site.told(place), expected, "{place}");
    }
}

#[test]
fn a_native_plugin_calls_nobody_unless_its_table_says_whom() {
    let other = answering("hello");
    let config = "[plugin.rogue]\nfile = \"{guests}/rogue.wasm\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n\
                  plugins = [{ name = \"rogue\", config = { request = [{ call = { upstream = \"app\" } }] } }]\n";
    let gateway = TestGateway::before(&other, config);
    assert_eq!(gateway.get("/").status, 201);
    assert_eq!(other.request().header("x-called"), Some("Unknown"));
}

#[test]
fn answers_that_do_not_come_are_told() {
    let other = TestUpstream::start(|call| match call.head.target() {
        "/late" => call.wait_for_end(),
        "/short" => {
            call.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")?;
            call.close()
        }
        _ => {
            call.write("no HTTP at all\r\n\r\n")?;
            call.close()
        }
    });
    let site = Site::new(
        other,
        1,
        "",
        &[
            "{ call = { path = \"/late\", timeout_ms = 100 } }",
            "{ call = { path = \"/short\" } }",
            "{ call = { path = \"/odd\" } }",
        ],
    );
    assert_eq!([site.told(0), site.told(1), site.told(2)], ["TimedOut", "Broken", "Broken"]);
}

#[test]
fn several_calls_are_made_at_the_same_time() {
    let all = Gate::new();
    let open = all.clone();
    let other = TestUpstream::start(move |call| {
        if call.body()?.target() == "/called" && call.number == 9 {
            open.open();
        }
        open.wait();
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    });
    let site = Site::new(other, 1, "", &["{ call = { times = 10 } }", "{ call = { times = 33 } }"]);
    assert_eq!(site.told(0), ["200 x"; 10].join(", "));
    assert_eq!(site.told(1), [&["200 x"; 32][..], &["Exhausted"]].concat().join(", "));
}

#[test]
fn who_waits_for_an_answer_holds_nobody_up() {
    let asked = Gate::new();
    let gate = asked.clone();
    let other = TestUpstream::start(move |call| {
        gate.wait();
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    // One guest may run at a time.
    let site = Site::new(other, 1, ", running = 1", &["{ call = {} }", "\"trace\""]);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::connect(site.gateway.addr());
            client.send("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    eventually!(site.other.connections() == 20);
    for _ in 0..10 {
        assert_eq!(request(site.gateway.addr(), "GET", "/1", "").status, 200);
    }
    asked.open();
    for mut client in waiting {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn what_the_worker_does_meanwhile_is_not_the_waiting_guests_time() {
    let asked = Gate::new();
    let gate = asked.clone();
    let other = TestUpstream::start(move |call| {
        gate.wait();
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let actions = ["{ work = 4 }, { call = {} }, { work = 4 }", "{ work = 10 }"];
    let site = Site::new(other, 1, ", time = \"40ms\"", &actions);
    let mut waiting = Client::connect(site.gateway.addr());
    waiting.send("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually!(site.other.connections() == 1);
    for _ in 0..10 {
        assert_eq!(request(site.gateway.addr(), "GET", "/1", "").status, 200);
    }
    asked.open();
    assert_eq!(waiting.response().status, 200);
}

#[test]
fn a_call_ends_with_its_request() {
    let other = TestUpstream::start(|call| call.wait_for_end());
    let site = Site::new(other, 1, "", &["{ call = {} }"]);
    let mut client = Client::connect(site.gateway.addr());
    client.send("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually!(site.other.connections() == 1);
    drop(client);
    eventually!(site.other.ended() == 1, "the upstream is told");
}

#[test]
fn one_fetches_for_all_workers() {
    let asked = Gate::new();
    let gate = asked.clone();
    let other = TestUpstream::start(move |call| {
        gate.wait();
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkeys")
    });
    let fetch = "{ fetch = [{ path = \"/jwks\" }, { fresh_ms = 60000 }] }";
    let site = Site::new(other, 2, "", &[fetch, fetch]);
    let clients: Vec<_> = (0..100)
        .map(|number| {
            let mut client = Client::connect(site.gateway.addr());
            client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", number % 2));
            client
        })
        .collect();
    eventually!(site.gateway.metric("wasmgate_requests_in_flight{route=\"0\"}") == 50.0);
    eventually!(site.gateway.metric("wasmgate_requests_in_flight{route=\"1\"}") == 50.0);
    asked.open();
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    let told = site.app.take_requests();
    assert!(told.iter().all(|request| request.header("x-called") == Some("200 keys")), "{told:?}");
    assert_eq!((told.len(), site.other.count()), (100, 1));
}

#[test]
fn answers_that_are_none_take_no_place() {
    let other = TestUpstream::start(|call| {
        call.body()?;
        call.write(match call.number {
            0 => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkeys",
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        })
    });
    let fetch = |terms: &str| format!("{{ fetch = [{{ path = \"/jwks\" }}, {{ {terms} }}] }}");
    let fetches = [fetch("stale_ms = 60000, only_success = true"), fetch("only_success = true"), fetch("")];
    let site = Site::new(other, 1, "", &fetches.each_ref().map(String::as_str));
    assert_eq!(site.told(0), "200 keys");
    assert_eq!(site.told(0), "200 keys", "and it is asked again");
    eventually!(site.other.count() > 1);
    assert_eq!(site.told(1), "Refused");
    assert_eq!(site.told(0), "200 keys");
    // It may still be waiting for what another route has asked for.
    eventually!(site.told(2) == "404 no");
}

#[test]
fn what_is_stale_serves_while_the_upstream_is_down() {
    let other = TestUpstream::start(|call| match call.number {
        0 => call.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkeys"),
        _ => {
            call.body()?;
            call.close()
        }
    });
    // Fresh for no time at all.
    let terms = "{ stale_ms = 60000 }";
    let site = Site::new(
        other,
        1,
        "",
        &[
            &format!("{{ fetch = [{{ path = \"/jwks\" }}, {terms}] }}"),
            "{ fetch = [{ path = \"/jwks\" }, { negative_ms = 60000 }] }",
        ],
    );
    assert_eq!(site.told(0), "200 keys");
    assert_eq!(site.told(0), "200 keys", "and it is asked again");
    eventually!(site.other.count() > 1);
    eventually!(site.told(1) == "Broken");
}
